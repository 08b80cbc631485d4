// Registration and the three steps with openapi-fetch and the types that openapi-typescript generated, as in journey.py.
import assert from "node:assert/strict";

import createClient from "openapi-fetch";

import type { components, paths } from "./mfa.js";

type CodeRequest = components["schemas"]["CodeRequest"];
type Code = components["schemas"]["Error"]["code"] | components["schemas"]["CodeError"]["code"];
type Answer<Data, Failure> = { data?: Data; error?: Failure; response: Response };

// For a device with codes of 6 digits, wrong at any time.
const WRONG = "00000000";
const [userName, deviceName, deviceType] = ["Zo\u00eb+tag@example.org", "my phone", "TOTP"] as const;

const { ORIGIN: origin = "", TOKEN: token = "" } = process.env;
const client = createClient<paths>({ baseUrl: `${origin}/v1`, headers: { Authorization: `Bearer ${token}` } });

async function advance(advanceSeconds: number) {
  const answer = await fetch(`${origin}/_local/clock`, { method: "POST", body: JSON.stringify({ advanceSeconds }) });
  assert.equal(answer.status, 200);
}

/** The code that the app shows now, and the next one. */
async function codes(): Promise<[string, string]> {
  const answer = await fetch(`${origin}/_local/code?${new URLSearchParams({ userName, deviceName })}`);
  return (await answer.json()).otps;
}

/** The typed body of an answer that succeeded with this status. */
function success<Data, Failure>({ data, error, response }: Answer<Data, Failure>, status: number): NonNullable<Data> {
  assert.equal(response.status, status, JSON.stringify(error));
  assert.ok(data);
  return data;
}

/** The typed body of an answer that failed with this status and code. */
function failure<Data, Failure extends { code: Code }>({ error, response }: Answer<Data, Failure>, status: number, code: Code): Failure {
  assert.ok(error);
  assert.deepEqual([response.status, error.code], [status, code]);
  return error;
}

const register = () => client.POST("/users/{userName}/mfadevices", { params: { path: { userName } }, body: { deviceType, deviceName } });
const activate = (authId: string, body: CodeRequest) =>
  client.POST("/users/{userName}/mfadevices/{authId}", { params: { path: { userName, authId } }, body });
const start = () => client.POST("/deviceAuthentications", { body: { userName, deviceName, deviceType } });
const check = (authId: string, body: CodeRequest) => client.POST("/deviceAuthentications/{authId}", { params: { path: { authId } }, body });
const remove = () => client.DELETE("/users/{userName}/mfadevices/TOTP/{deviceName}", { params: { path: { userName, deviceName } } });

/** The body of a 422: how many codes to ask for. */
function rejection(error: components["schemas"]["Error"] | components["schemas"]["CodeError"]) {
  assert.ok("codesRequired" in error);
  return error;
}

// Registration: a wrong first code, then the right one.
const registered = success(await register(), 201);
assert.match(registered.registrationUri, /^otpauth:\/\/totp\//);
failure(await start(), 423, "DEVICE_NOT_ACTIVE");
const first = rejection(failure(await activate(registered.authId, { otp: WRONG }), 422, "OTP_REJECTED"));
assert.deepEqual([first.codesRequired, first.attemptsRemaining], [1, 4]);
const activated = success(await activate(registered.authId, { otp: (await codes())[0] }), 200);
assert.deepEqual(activated, { status: "ACTIVE", message: deviceName });
failure(await register(), 409, "DEVICE_EXISTS");
const devices = success(await client.GET("/users/{userName}/mfadevices", { params: { path: { userName } } }), 200);
assert.deepEqual(devices.map((device) => [device.deviceName, device.status]), [[deviceName, "ACTIVE"]]);

// One code; the authId works once.
await advance(120);
const started = await start();
assert.equal(started.response.headers.get("Auth-Codes-Required"), null);
const { authId } = success(started, 201);
const wrong = rejection(failure(await check(authId, { otp: WRONG }), 422, "OTP_REJECTED"));
assert.deepEqual([wrong.codesRequired, wrong.attemptsRemaining], [1, 4]);
const [otp] = await codes();
assert.equal(success(await check(authId, { otp }), 200).status, "SUCCESS");
failure(await check(authId, { otp }), 409, "AUTH_ALREADY_USED");
const replayed = failure(await check(success(await start(), 201).authId, { otp }), 422, "OTP_REPLAYED");
assert.ok(replayed.retryAfterSeconds);

// Too late; the same code with another authId.
const late = success(await start(), 201).authId;
await advance(600);
const [fresh] = await codes();
failure(await check(late, { otp: fresh }), 410, "AUTH_EXPIRED");
success(await check(success(await start(), 201).authId, { otp: fresh }), 200);

// Five wrong codes, then two codes are required; wrong pairs are limited too.
await advance(60);
const exhausted = success(await start(), 201).authId;
for (const remaining of [4, 3, 2, 1, 0]) {
  const error = rejection(failure(await check(exhausted, { otp: WRONG }), 422, "OTP_REJECTED"));
  assert.deepEqual([error.codesRequired, error.attemptsRemaining], [remaining ? 1 : 2, remaining]);
}
failure(await check(exhausted, { otp: WRONG }), 409, "AUTH_ATTEMPTS_EXHAUSTED");
const gated = await start();
assert.equal(gated.response.headers.get("Auth-Codes-Required"), "2");
const pairs = success(gated, 201).authId;
const refused = rejection(failure(await check(pairs, { otp: (await codes())[0] }), 422, "TWO_CODES_REQUIRED"));
assert.equal(refused.codesRequired, 2);
assert.ok(refused.singleCodesAfterSeconds);
let limited = await check(pairs, { otps: [WRONG, WRONG] });
for (let sent = 1; limited.response.status === 422; sent++) {
  assert.ok(sent < 100, "wrong pairs are not limited");
  limited = await check(pairs, { otps: [WRONG, WRONG] });
}
const { retryAfterSeconds } = failure(limited, 429, "TOO_MANY_ATTEMPTS");
assert.equal(limited.response.headers.get("Retry-After"), String(retryAfterSeconds));
await advance(retryAfterSeconds ?? 0);
success(await check(pairs, { otps: await codes() }), 200);

assert.equal((await remove()).response.status, 204);
failure(await remove(), 404, "DEVICE_NOT_FOUND");
