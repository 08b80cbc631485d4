// What both steps need: settings, stores, answers, and the one log line of a request. A peer of `shared`, for measurements; never deployed.

import { createHmac } from "node:crypto";
import { Agent } from "node:https";

import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { NodeHttpHandler } from "@smithy/node-http-handler";

const { env } = process;
export const AUTHS_TABLE = env.AUTHS_TABLE;
export const DEVICES_TABLE = env.DEVICES_TABLE;
const OWNERS = new Map((env.CLIENT_OWNERS ?? "").split(",").filter(Boolean).map((pair) => pair.trim().split("=")));
const POLICIES = { standard: [20, 36 * 3_600_000, 1_000], strict: [10, 480 * 3_600_000, 10_000] };
export const [BURST, REFILL_MS, PAIR_GAP_MS] = POLICIES[env.GUESS_POLICY ?? "standard"];
export const [MOST_CONSECUTIVE, OWN_ATTEMPTS, PAIR_BURST] = [100, 5, 10];
const LONGEST_BODY = 8_192;

/** One pool of connections for every store. */
const requestHandler = new NodeHttpHandler({ connectionTimeout: 500, requestTimeout: 500, httpsAgent: new Agent({ keepAlive: true, maxSockets: 50 }) });
export const client = (Client) => counted(new Client({ maxAttempts: 3, requestHandler }));

/** Counts every attempt that is sent, for the log. */
function counted(store) {
  store.calls = 0;
  store.middlewareStack.add((next) => (args) => ((store.calls += 1), next(args)), { step: "deserialize", name: "countCalls" });
  return store;
}

/** An answer that is not a success. */
export class Failure extends Error {
  constructor(status, code, reason, message, members = {}) {
    super(message);
    Object.assign(this, { status, code, reason, members });
  }
}

export const invalid = (message) => new Failure(400, "INVALID_REQUEST", "invalid_request", message);
export const unavailable = (reason) =>
  new Failure(503, "SERVICE_UNAVAILABLE", reason, "Temporarily unavailable; try again", { retryAfterSeconds: 1 });

export const dynamo = client(DynamoDBClient);
export const get = async (table, key) => (await dynamo.send(new GetItemCommand({ TableName: table, Key: key, ConsistentRead: true }))).Item;
/** Opens a connection by reading an item that does not exist. Its result does not matter. */
export const warmUp = (table, key) => get(table, key).catch(() => {});

export const rfc3339 = (seconds) => new Date(seconds * 1000).toISOString().replace(".000", "");

export function name(members, member, longest) {
  const raw = members[member];
  const value = typeof raw === "string" ? raw.normalize("NFC") : "";
  const length = [...value].length;
  if (length < 1 || length > longest || /\p{Cc}/u.test(value) || value !== value.trim()) {
    throw invalid(`${member} must be a string of 1 to ${longest} characters, without control characters and without white space at either end`);
  }
  return value;
}

const OBJECT = "The body must be a single JSON object in UTF-8 without repeated members";

/** An event of a REST API, read. */
class Request {
  constructor(event) {
    const context = event.requestContext;
    if (typeof context?.path !== "string") throw invalid("Only events of an API Gateway REST API are supported");
    this.path = context.path;
    this.traceId = context.extendedRequestId ?? "";
    this.claims = context.authorizer?.claims ?? {};
    this.parameters = event.pathParameters ?? {};
    this.contentTypes = Object.entries(event.multiValueHeaders ?? {}).flatMap(([header, values]) => (header.toLowerCase() === "content-type" ? values : []));
    this.body = Buffer.from(event.body ?? "", event.isBase64Encoded ? "base64" : "utf8");
  }

  client() {
    const { client_id: id, scope = "" } = this.claims;
    if (!id) throw new Failure(401, "UNAUTHORIZED", "no_client", "Send a valid access token as a bearer token");
    if (!scope.split(" ").includes("mfa/authenticate")) {
      throw new Failure(403, "FORBIDDEN", "scope", "The access token lacks the scope that this route needs");
    }
    return id;
  }

  members() {
    if (this.contentTypes.some((value) => value.split(";")[0].trim().toLowerCase() !== "application/json")) {
      throw new Failure(415, "UNSUPPORTED_MEDIA_TYPE", "content_type", "Send the body as application/json");
    }
    if (this.body.length > LONGEST_BODY) throw new Failure(413, "PAYLOAD_TOO_LARGE", "body_length", "The body is longer than 8192 bytes");
    let members;
    try {
      members = JSON.parse(this.body.toString());
    } catch {
      throw invalid(OBJECT);
    }
    if (typeof members !== "object" || members === null || Array.isArray(members)) throw invalid(OBJECT);
    return members;
  }

  checkDeviceType(members, required) {
    const given = members.deviceType;
    const missing = given === undefined && !required;
    if (!missing && !(typeof given === "string" && given.toUpperCase() === "TOTP")) throw invalid("deviceType must be the string TOTP");
  }
}

export const ownerOf = (id) => OWNERS.get(id) ?? id;

/** When single codes are evaluated again, in epoch milliseconds; undefined if time alone does not open them. */
export function singleCodesAt(state) {
  if (Number(state.consecutiveFailures.N) >= MOST_CONSECUTIVE) return undefined;
  return Math.max(Number(state.notBefore.N), Number(state.budgetAt.N) - (BURST - 1) * REFILL_MS);
}

export const singleCodesOpen = (state, now) => (singleCodesAt(state) ?? Infinity) <= now;

function deviceHash(key) {
  const mac = createHmac("sha256", env.DEVICE_HASH_KEY);
  for (const part of key) {
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(Buffer.byteLength(part)));
    mac.update(length).update(part);
  }
  return mac.digest("hex").slice(0, 16);
}

/** One clock reading, one answer in every case, one log line. `answer` gets the request, the time and notes for the log. */
export async function serve(name, event, answer, stores) {
  const [started, now, notes] = [performance.now(), Date.now(), {}];
  for (const store of Object.values(stores)) store.calls = 0;
  let [traceId, failure, success] = [""];
  try {
    const request = new Request(event);
    traceId = request.traceId;
    success = await answer(request, now, notes);
  } catch (error) {
    // Of a store's error only the name: its text may quote a user's.
    failure = error instanceof Failure ? error : Object.assign(unavailable("store_unavailable"), { cause: error.name });
  }
  const { status, body, headers } = success ?? failed(failure, traceId, now);
  const line = {
    timestamp: new Date(now).toISOString(),
    level: status >= 500 ? "ERROR" : status === 401 || status === 403 ? "WARN" : "INFO",
    message: "request",
    traceId,
    function: name,
    clientId: notes.client,
    device: notes.device && deviceHash(notes.device),
    status,
    outcome: failure?.code ?? "SUCCESS",
    reason: (success ?? failure).reason,
    durationMs: Math.round((performance.now() - started) * 1000) / 1000,
    ...Object.fromEntries(Object.entries(stores).map(([store, { calls }]) => [`${store}Calls`, calls])),
    error: failure?.cause,
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
  return {
    statusCode: status,
    headers: { "content-type": "application/json", "cache-control": "no-store", "x-content-type-options": "nosniff", ...headers },
    body: JSON.stringify(body),
    isBase64Encoded: false,
  };
}

function failed({ status, code, message, members }, traceId, now) {
  const headers = status === 429 || status === 503 ? { "retry-after": String(members.retryAfterSeconds) } : {};
  return { status, headers, body: { status: "FAILED", code, message, traceId, timestamp: rfc3339(Math.floor(now / 1000)), ...members } };
}
