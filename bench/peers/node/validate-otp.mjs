// Step 3: one read of the auth, one conditional write of the device.

import { randomBytes, timingSafeEqual } from "node:crypto";

import { UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { NodeCryptoPlugin } from "@otplib/plugin-crypto-node";
import { generateSync } from "otplib";

import * as service from "./service.mjs";
import { Failure, dynamo } from "./service.mjs";

const SEED_PREFIX = process.env.SEED_PREFIX;
const SEED_CACHE_MS = Number(process.env.SEED_CACHE_SECONDS ?? "300") * 1000;
const [MOST_CACHED, MOST_DECISIONS, REMEMBERED_FAILING, ACCEPTED_GRACE] = [1_000, 3, 4, 120];

const secrets = service.client(SecretsManagerClient);
const crypto = new NodeCryptoPlugin();
/** Seeds in memory, for a limited time. */
const seeds = new Map();

await Promise.all([
  service.warmUp(service.AUTHS_TABLE, { pk: { S: "00000000-0000-0000-0000-000000000000" } }),
  secrets.send(new GetSecretValueCommand({ SecretId: `${SEED_PREFIX}/seed/none` })).catch(() => {}),
]);

async function readSeed(seedRef) {
  const now = Date.now();
  const fresh = ({ readAt }) => now >= readAt && now - readAt < SEED_CACHE_MS;
  const kept = seeds.get(seedRef);
  if (kept && fresh(kept)) return kept.seed;
  const [SecretId, VersionId] = seedRef.split("#");
  const { SecretString } = await secrets.send(new GetSecretValueCommand({ SecretId, VersionId }));
  const { seed: secret, algorithm, digits, period } = JSON.parse(SecretString);
  const seed = { secret, algorithm: algorithm.toLowerCase(), digits, period };
  for (const [key, value] of seeds) if (!fresh(value)) seeds.delete(key);
  if (seeds.size >= MOST_CACHED) seeds.delete(seeds.keys().next().value);
  seeds.set(seedRef, { seed, readAt: now });
  return seed;
}

function code(raw, message) {
  const digits = typeof raw === "string" ? raw.replace(/[ -]/g, "") : "";
  if (!/^(\d{6}|\d{8})$/.test(digits)) throw service.invalid(message);
  return digits;
}

/** The code or the two codes of a body. */
function offered({ otp, otps }) {
  if ((otp === undefined) === (otps === undefined)) throw service.invalid("Send either otp or otps");
  if (otp !== undefined) return [code(otp, "otp must be a string of 6 or 8 digits; spaces and hyphens between them are ignored")];
  const message = "otps must be an array of two strings of 6 or 8 digits each, the earlier code first; spaces and hyphens between digits are ignored";
  if (!Array.isArray(otps) || otps.length !== 2) throw service.invalid(message);
  return otps.map((raw) => code(raw, message));
}

/** The steps that the codes match; of a pair, its earlier one. Every candidate is compared, in constant time. */
function matchingSteps({ secret, algorithm, digits, period }, codes, now) {
  const newest = Math.floor(now / 1000 / period) + (codes.length === 1 ? 1 : 0);
  const given = Buffer.from(codes.join("\0"));
  return [newest - 2, newest - 1, newest].filter((step) => {
    const right = codes.map((_, offset) => generateSync({ strategy: "hotp", secret, algorithm, digits, counter: step + offset, crypto }));
    const expected = Buffer.from(right.join("\0"));
    return expected.length === given.length && timingSafeEqual(expected, given);
  });
}

const same = (one, other) => Buffer.compare(one, other) === 0;
const number = (value) => ({ N: String(value) });
const secondsUntil = (at, now) => Math.max(0, Math.ceil((at - now) / 1000));

function failuresOf(state, auth) {
  const own = state.failing.L.find(({ M }) => same(M.authId.B, auth));
  return own ? Number(own.M.count.N) : 0;
}

const notFound = (reason) => new Failure(404, "AUTH_NOT_FOUND", reason, "No authentication has this authId");
const superseded = () =>
  new Failure(409, "AUTH_SUPERSEDED", "superseded", "The device has been registered again; start a new authentication");

/** Whether an attempt is evaluated at all. */
function admit(device, auth, expiresAt, codes, now) {
  const state = device.state.M;
  if (expiresAt * 1000 <= now) throw new Failure(410, "AUTH_EXPIRED", "expired", "This authentication has expired; start a new one");
  if (state.accepted.L.some(({ M }) => same(M.authId.B, auth))) {
    throw new Failure(409, "AUTH_ALREADY_USED", "already_used", "This authentication has already been used; start a new one");
  }
  if (device.status.S === "DISABLED") throw new Failure(423, "DEVICE_DISABLED", "disabled", "The device is disabled; ask an operator");
  if (device.status.S !== "ACTIVE") {
    throw new Failure(423, "DEVICE_NOT_ACTIVE", "not_active", "The registration of the device is not finished; ask an operator");
  }
  if (failuresOf(state, auth) >= service.OWN_ATTEMPTS) {
    throw new Failure(409, "AUTH_ATTEMPTS_EXHAUSTED", "exhausted", "Too many wrong codes for this authentication; start a new one");
  }
  if (codes.length === 1 && !service.singleCodesOpen(state, now)) {
    const opens = service.singleCodesAt(state);
    const members = { codesRequired: 2, singleCodesAfterSeconds: opens === undefined ? undefined : secondsUntil(opens, now) };
    throw new Failure(422, "TWO_CODES_REQUIRED", "single_codes_gated", "Too many wrong codes: send two consecutive codes in otps", members);
  }
  const pairsAt = Number(state.pairAt.N) - (service.PAIR_BURST - 1) * service.PAIR_GAP_MS;
  if (codes.length === 2 && pairsAt > now) {
    const members = { retryAfterSeconds: secondsUntil(pairsAt, now) };
    throw new Failure(429, "TOO_MANY_ATTEMPTS", "pairs_gated", "Too many wrong pairs of codes; try again later", members);
  }
}

const ladder = (consecutive) => (consecutive < 5 ? 0 : Math.min(30_000 * 2 ** Math.min(consecutive - 5, 7), 3_600_000));

/** The verdict, and the state to write for it. */
function decide(device, auth, expiresAt, writeId, pair, steps, now) {
  const state = { ...device.state.M };
  const above = steps.filter((step) => step > Number(state.lastStep.N));
  const verdict = above.length ? "ACCEPTED" : steps.length && !pair ? "REPLAYED" : "REJECTED";
  const failing = state.failing.L.filter(({ M }) => !same(M.authId.B, auth));
  const budget = Number(state.budgetAt.N);
  if (above.length) {
    // Of a pair, the later step.
    state.lastStep = number(above.at(-1) + (pair ? 1 : 0));
    const remembered = state.accepted.L.filter(({ M }) => (Number(M.expiresAt.N) + ACCEPTED_GRACE) * 1000 > now);
    state.accepted = { L: [...remembered, { M: { authId: { B: auth }, writeId: { B: writeId }, expiresAt: number(expiresAt) } }] };
    state.budgetAt = number(Math.max(0, budget - service.REFILL_MS * failuresOf(state, auth)));
    state.failing = { L: failing };
    state.consecutiveFailures = state.notBefore = number(0);
  } else {
    state.totalFailures = number(Number(state.totalFailures.N) + 1);
    if (pair) {
      state.pairAt = number(Math.max(Number(state.pairAt.N), now) + service.PAIR_GAP_MS);
    } else {
      const consecutive = Number(state.consecutiveFailures.N) + 1;
      const own = { M: { authId: { B: auth }, count: number(failuresOf(state, auth) + 1) } };
      state.failing = { L: [own, ...failing].slice(0, REMEMBERED_FAILING) };
      state.consecutiveFailures = number(consecutive);
      if (ladder(consecutive)) state.notBefore = number(now + ladder(consecutive));
      state.budgetAt = number(Math.max(budget, now) + service.REFILL_MS);
    }
  }
  state.lastWrite = { M: { writeId: { B: writeId }, authId: { B: auth }, verdict: { S: verdict } } };
  return { verdict, state };
}

/** Writes a state over the one that was read; undefined if it took effect, else what is there instead ({} for nothing). */
async function replace(key, device, state, usedAt) {
  const used = usedAt !== undefined;
  try {
    await dynamo.send(
      new UpdateItemCommand({
        TableName: service.DEVICES_TABLE,
        Key: key,
        UpdateExpression: `SET #version = :version, #state = :state${used ? ", #lastUsedAt = :lastUsedAt" : ""}`,
        ConditionExpression: "#version = :heldVersion AND #seedRef = :heldSeedRef",
        ExpressionAttributeNames: { "#version": "version", "#seedRef": "seedRef", "#state": "state", ...(used && { "#lastUsedAt": "lastUsedAt" }) },
        ExpressionAttributeValues: {
          ":heldVersion": device.version,
          ":heldSeedRef": device.seedRef,
          ":version": number(BigInt(device.version.N) + 1n),
          ":state": { M: state },
          ...(used && { ":lastUsedAt": number(usedAt) }),
        },
        ReturnValuesOnConditionCheckFailure: "ALL_OLD",
      }),
    );
    return undefined;
  } catch (error) {
    if (error.name !== "ConditionalCheckFailedException") throw error;
    return error.Item ?? {};
  }
}

/** The verdict of this invocation's own write, if it took effect before and its response was lost. */
function verdictOf(state, auth, writeId) {
  const own = ({ M }) => same(M.authId.B, auth) && same(M.writeId.B, writeId);
  if (state.accepted.L.some(own)) return "ACCEPTED";
  return state.lastWrite.M && own(state.lastWrite) ? state.lastWrite.M.verdict.S : undefined;
}

/** Decides and writes until there is a verdict; returns it with the state that its write left. */
async function settle(key, snapshot, auth, expiresAt, codes, steps, now) {
  const writeId = randomBytes(16);
  let device = snapshot;
  for (let decisions = 0; decisions < MOST_DECISIONS; decisions += 1) {
    admit(device, auth, expiresAt, codes, now);
    const { verdict, state } = decide(device, auth, expiresAt, writeId, codes.length === 2, steps, now);
    const stored = await replace(key, device, state, verdict === "ACCEPTED" ? Math.floor(now / 1000) : undefined);
    if (!stored) return { verdict, state };
    if (!stored.state) throw notFound("device_gone");
    const own = verdictOf(stored.state.M, auth, writeId);
    if (own) return { verdict: own, state: stored.state.M };
    if (stored.seedRef.S !== device.seedRef.S) throw superseded();
    device = stored;
  }
  throw service.unavailable("contention");
}

/** The seed of a device; if it cannot be read, its device may be gone or have another one. */
async function seedOf(key, device) {
  try {
    return await readSeed(device.seedRef.S);
  } catch {
    const found = await service.get(service.DEVICES_TABLE, key);
    if (!found) throw notFound("device_gone");
    throw found.seedRef.S === device.seedRef.S ? service.unavailable("seed_unavailable") : superseded();
  }
}

async function answer(request, now, notes) {
  const client = (notes.client = request.client());
  const members = request.members();
  request.checkDeviceType(members, false);
  const codes = offered(members);
  const { authId = "" } = request.parameters;
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(authId)) throw notFound("malformed");
  const found = await service.get(service.AUTHS_TABLE, { pk: { S: authId } });
  if (!found || found.owner.S !== service.ownerOf(client)) throw notFound(found ? "foreign" : "unknown");
  const [owner, user, name] = [found.owner.S, found.userName.S, found.deviceName.S];
  notes.device = [owner, user, name];
  const [key, device] = [{ pk: { S: `${owner}#${user}` }, sk: { S: name } }, found.device.M];
  const [expiresAt, auth] = [Number(found.expiresAt.N), Buffer.from(authId.replaceAll("-", ""), "hex")];
  admit(device, auth, expiresAt, codes, now);
  const seed = await seedOf(key, device);
  const { verdict, state } = await settle(key, device, auth, expiresAt, codes, matchingSteps(seed, codes, now), now);
  if (verdict === "ACCEPTED") {
    const body = { status: "SUCCESS", message: "OTP has been validated successfully" };
    return { status: 200, body, headers: {}, reason: codes.length === 1 ? "single_code" : "two_codes" };
  }
  const after = {
    codesRequired: service.singleCodesOpen(state, now) ? 1 : 2,
    attemptsRemaining: codes.length === 1 ? Math.max(0, service.OWN_ATTEMPTS - failuresOf(state, auth)) : undefined,
  };
  if (verdict === "REPLAYED") {
    const opens = (Number(state.lastStep.N) + 1) * Number(device.period.N) * 1000;
    const message = "This code, or a later one, was used before";
    throw new Failure(422, "OTP_REPLAYED", "replayed", message, { ...after, retryAfterSeconds: secondsUntil(opens, now) });
  }
  throw new Failure(422, "OTP_REJECTED", codes.length === 1 ? "wrong_code" : "wrong_pair", "The code is not valid", after);
}

export const handler = (event) => service.serve("validate-otp", event, answer, { dynamodb: dynamo, secretsManager: secrets });
