"""What both steps need: settings, stores, answers, and the one log line of a request. A peer of `shared`, for measurements; never deployed."""

import base64
import binascii
import datetime
import hashlib
import hmac
import json
import os
import sys
import time
import unicodedata

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

AUTHS_TABLE = os.environ["AUTHS_TABLE"]
DEVICES_TABLE = os.environ["DEVICES_TABLE"]
HASH_KEY = os.environ["DEVICE_HASH_KEY"].encode()
OWNERS = dict(pair.strip().split("=", 1) for pair in os.environ.get("CLIENT_OWNERS", "").split(",") if pair.strip())
BURST, REFILL_MS, PAIR_GAP_MS = {"standard": (20, 36 * 3_600_000, 1_000), "strict": (10, 480 * 3_600_000, 10_000)}[os.environ.get("GUESS_POLICY", "standard")]
MOST_CONSECUTIVE, OWN_ATTEMPTS, PAIR_BURST = 100, 5, 10
LONGEST_BODY = 8_192

CONFIG = Config(connect_timeout=0.5, read_timeout=0.5, retries={"mode": "standard", "total_max_attempts": 3}, tcp_keepalive=True)
HEADERS = {"content-type": "application/json", "cache-control": "no-store", "x-content-type-options": "nosniff"}


class Failure(Exception):
    """An answer that is not a success."""

    def __init__(self, status, code, reason, message, **members):
        super().__init__(code)
        self.status, self.code, self.reason, self.message, self.members = status, code, reason, message, members


def invalid(message):
    return Failure(400, "INVALID_REQUEST", "invalid_request", message)


class Dynamo:
    """The two tables. Every attempt that is sent is counted for the log."""

    def __init__(self, session):
        self.client = session.client("dynamodb", config=CONFIG)
        self.calls = 0
        self.client.meta.events.register("before-send", self._count)

    def _count(self, **_):
        self.calls += 1

    def get(self, table, key):
        return self.client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")

    def warm_up(self, table, key):
        """Opens a connection by reading an item that does not exist. Its result does not matter."""
        try:
            self.get(table, key)
        except (BotoCoreError, ClientError):
            pass


def condition_failed(error):
    return error.response["Error"]["Code"] == "ConditionalCheckFailedException"


def now_ms():
    return time.time_ns() // 1_000_000


def rfc3339(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def name(members, member, longest):
    raw = members.get(member)
    value = unicodedata.normalize("NFC", raw) if isinstance(raw, str) else ""
    wrong = any(unicodedata.category(character) == "Cc" for character in value)
    if not 1 <= len(value) <= longest or wrong or value != value.strip():
        raise invalid(f"{member} must be a string of 1 to {longest} characters, without control characters and without white space at either end")
    return value


def unrepeated(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is repeated")
    return members


class Request:
    """An event of a REST API, read."""

    def __init__(self, event):
        context = event["requestContext"]
        self.path = context["path"]
        self.trace_id = context.get("extendedRequestId") or ""
        self.claims = (context.get("authorizer") or {}).get("claims") or {}
        self.parameters = event.get("pathParameters") or {}
        self.content_types = [value for key, values in (event.get("multiValueHeaders") or {}).items() if key.lower() == "content-type" for value in values]
        self.body, self.is_base64 = event.get("body") or "", event.get("isBase64Encoded")

    def client(self):
        client = self.claims.get("client_id")
        if not client:
            raise Failure(401, "UNAUTHORIZED", "no_client", "Send a valid access token as a bearer token")
        if "mfa/authenticate" not in self.claims.get("scope", "").split(" "):
            raise Failure(403, "FORBIDDEN", "scope", "The access token lacks the scope that this route needs")
        return client

    def members(self):
        if any(value.split(";")[0].strip().lower() != "application/json" for value in self.content_types):
            raise Failure(415, "UNSUPPORTED_MEDIA_TYPE", "content_type", "Send the body as application/json")
        try:
            raw = base64.b64decode(self.body, validate=True) if self.is_base64 else self.body.encode()
            if len(raw) > LONGEST_BODY:
                raise Failure(413, "PAYLOAD_TOO_LARGE", "body_length", "The body is longer than 8192 bytes")
            members = json.loads(raw, object_pairs_hook=unrepeated)
        except (ValueError, binascii.Error):
            members = None
        if not isinstance(members, dict):
            raise invalid("The body must be a single JSON object in UTF-8 without repeated members")
        return members

    @staticmethod
    def check_device_type(members, required):
        given = members.get("deviceType")
        if not (isinstance(given, str) and given.upper() == "TOTP") and (required or "deviceType" in members):
            raise invalid("deviceType must be the string TOTP")


def owner_of(client):
    return OWNERS.get(client, client)


def single_codes_at(state):
    """When single codes are evaluated again, in epoch milliseconds; None if time alone does not open them."""
    if int(state["consecutiveFailures"]["N"]) >= MOST_CONSECUTIVE:
        return None
    return max(int(state["notBefore"]["N"]), int(state["budgetAt"]["N"]) - (BURST - 1) * REFILL_MS)


def single_codes_open(state, now):
    opens = single_codes_at(state)
    return opens is not None and opens <= now


def device_hash(key):
    mac = hmac.new(HASH_KEY, digestmod=hashlib.sha256)
    for part in key:
        encoded = part.encode()
        mac.update(len(encoded).to_bytes(8, "big") + encoded)
    return mac.hexdigest()[:16]


def serve(function, event, answer, stores):
    """One clock reading, one answer in every case, one log line. `answer` gets the request, the time and notes for the log."""
    started, now, notes = time.perf_counter(), now_ms(), {}
    for store in stores.values():
        store.calls = 0
    trace_id, error = "", None
    try:
        try:
            request = Request(event)
        except (AttributeError, KeyError, TypeError):
            raise invalid("Only events of an API Gateway REST API are supported") from None
        trace_id = request.trace_id
        status, body, headers, reason = answer(request, now, notes)
        outcome, level = "SUCCESS", "INFO"
    except (BotoCoreError, ClientError) as failed:
        error = type(failed).__name__  # never its text, which may quote a name
        failure = Failure(503, "SERVICE_UNAVAILABLE", "store_unavailable", "Temporarily unavailable; try again", retryAfterSeconds=1)
        status, body, headers, reason, outcome, level = failed_answer(failure, trace_id, now)
    except Failure as failure:
        status, body, headers, reason, outcome, level = failed_answer(failure, trace_id, now)
    line = {
        "timestamp": datetime.datetime.fromtimestamp(now / 1000, datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "message": "request",
        "traceId": trace_id,
        "function": function,
        **({"clientId": notes["client"]} if "client" in notes else {}),
        **({"device": device_hash(notes["device"])} if "device" in notes else {}),
        "status": status,
        "outcome": outcome,
        "reason": reason,
        "durationMs": round((time.perf_counter() - started) * 1000, 3),
        **{f"{store}Calls": client.calls for store, client in stores.items()},
        **({"error": error} if error else {}),
    }
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()
    return {"statusCode": status, "headers": {**HEADERS, **headers}, "body": json.dumps(body, separators=(",", ":")), "isBase64Encoded": False}


def failed_answer(failure, trace_id, now):
    members = {key: value for key, value in failure.members.items() if value is not None}
    body = {"status": "FAILED", "code": failure.code, "message": failure.message, "traceId": trace_id, "timestamp": rfc3339(now // 1000), **members}
    headers = {"retry-after": str(members["retryAfterSeconds"])} if failure.status in (429, 503) else {}
    level = "ERROR" if failure.status >= 500 else "WARN" if failure.status in (401, 403) else "INFO"
    return failure.status, body, headers, failure.reason, failure.code, level


SESSION = boto3.session.Session()
