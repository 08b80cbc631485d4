"""Step 3: one read of the auth, one conditional write of the device."""

import hmac
import json
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pyotp
from botocore.exceptions import BotoCoreError, ClientError

import service
from service import Failure

SEED_PREFIX = os.environ["SEED_PREFIX"]
SEED_CACHE_SECONDS = int(os.environ.get("SEED_CACHE_SECONDS", "300"))
MOST_CACHED, MOST_DECISIONS, REMEMBERED_FAILING = 1_000, 3, 4
ACCEPTED_GRACE = 120


class Seeds:
    """Seeds of Secrets Manager, in memory for a limited time."""

    def __init__(self, session):
        self.client = session.client("secretsmanager", config=service.CONFIG)
        self.calls = 0
        self.client.meta.events.register("before-send", self._count)
        self.kept = {}

    def _count(self, **_):
        self.calls += 1

    def warm_up(self):
        try:
            self.client.get_secret_value(SecretId=f"{SEED_PREFIX}/seed/none")
        except (BotoCoreError, ClientError):
            pass

    def get(self, seed_ref):
        now = time.time()
        found = self.kept.get(seed_ref)
        if found and 0 <= now - found[1] < SEED_CACHE_SECONDS:
            return found[0]
        secret_id, version = seed_ref.rsplit("#", 1)
        text = json.loads(self.client.get_secret_value(SecretId=secret_id, VersionId=version)["SecretString"])
        digest = {"SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"}[text["algorithm"]]
        totp = pyotp.TOTP(text["seed"], digits=text["digits"], digest=digest, interval=text["period"])
        self.kept = {key: value for key, value in self.kept.items() if 0 <= now - value[1] < SEED_CACHE_SECONDS}
        while len(self.kept) >= MOST_CACHED:
            self.kept.pop(next(iter(self.kept)))
        self.kept[seed_ref] = (totp, now)
        return totp


dynamo, seeds = service.Dynamo(service.SESSION), Seeds(service.SESSION)
with ThreadPoolExecutor(2) as pool:
    pool.submit(dynamo.warm_up, service.AUTHS_TABLE, {"pk": {"S": "00000000-0000-0000-0000-000000000000"}})
    pool.submit(seeds.warm_up)


def code(raw, message):
    digits = raw.replace(" ", "").replace("-", "") if isinstance(raw, str) else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) in (6, 8)):
        raise service.invalid(message)
    return digits


def offered(members):
    """The code or the two codes of a body."""
    if ("otp" in members) == ("otps" in members):
        raise service.invalid("Send either otp or otps")
    if "otp" in members:
        return [code(members["otp"], "otp must be a string of 6 or 8 digits; spaces and hyphens between them are ignored")]
    message = "otps must be an array of two strings of 6 or 8 digits each, the earlier code first; spaces and hyphens between digits are ignored"
    if not isinstance(members["otps"], list) or len(members["otps"]) != 2:
        raise service.invalid(message)
    return [code(raw, message) for raw in members["otps"]]


def matching_steps(totp, codes, now):
    """The steps that the codes match. Every candidate is compared, in constant time. Of a pair, it is the later step."""
    newest = now // 1000 // totp.interval + (1 if len(codes) == 1 else 0)
    given = "\0".join(codes).encode()
    found = []
    for step in range(newest - 2, newest + 1):
        right = "\0".join(totp.generate_otp(step + offset) for offset in range(len(codes))).encode()
        if hmac.compare_digest(given, right):
            found.append(step)
    return found


def failures_of(state, auth):
    return next((int(entry["M"]["count"]["N"]) for entry in state["failing"]["L"] if entry["M"]["authId"]["B"] == auth), 0)


def admit(device, auth, expires_at, codes, now):
    """Whether an attempt is evaluated at all."""
    state = device["state"]["M"]
    if expires_at * 1000 <= now:
        raise Failure(410, "AUTH_EXPIRED", "expired", "This authentication has expired; start a new one")
    if any(entry["M"]["authId"]["B"] == auth for entry in state["accepted"]["L"]):
        raise Failure(409, "AUTH_ALREADY_USED", "already_used", "This authentication has already been used; start a new one")
    if device["status"]["S"] == "DISABLED":
        raise Failure(423, "DEVICE_DISABLED", "disabled", "The device is disabled; ask an operator")
    if device["status"]["S"] != "ACTIVE":
        raise Failure(423, "DEVICE_NOT_ACTIVE", "not_active", "The registration of the device is not finished; ask an operator")
    if failures_of(state, auth) >= service.OWN_ATTEMPTS:
        raise Failure(409, "AUTH_ATTEMPTS_EXHAUSTED", "exhausted", "Too many wrong codes for this authentication; start a new one")
    if len(codes) == 1 and not service.single_codes_open(state, now):
        opens = service.single_codes_at(state)
        wait = None if opens is None else -(-(opens - now) // 1000)
        message = "Too many wrong codes: send two consecutive codes in otps"
        raise Failure(422, "TWO_CODES_REQUIRED", "single_codes_gated", message, codesRequired=2, singleCodesAfterSeconds=wait)
    pairs_at = int(state["pairAt"]["N"]) - (service.PAIR_BURST - 1) * service.PAIR_GAP_MS
    if len(codes) == 2 and pairs_at > now:
        wait = -(-(pairs_at - now) // 1000)
        raise Failure(429, "TOO_MANY_ATTEMPTS", "pairs_gated", "Too many wrong pairs of codes; try again later", retryAfterSeconds=wait)


def ladder(consecutive):
    return 0 if consecutive < 5 else min(30_000 << min(consecutive - 5, 7), 3_600_000)


def number(value):
    return {"N": str(value)}


def decide(device, auth, expires_at, write_id, pair, steps, now):
    """The verdict, and the state to write for it."""
    state = dict(device["state"]["M"])
    above = [step for step in steps if step > int(state["lastStep"]["N"])]
    verdict = "ACCEPTED" if above else "REPLAYED" if steps and not pair else "REJECTED"
    failing = [entry for entry in state["failing"]["L"] if entry["M"]["authId"]["B"] != auth]
    budget = int(state["budgetAt"]["N"])
    if above:
        # Of a pair, the later step; its candidates are named by the earlier.
        state["lastStep"] = number(above[-1] + (1 if pair else 0))
        remembered = [entry for entry in state["accepted"]["L"] if (int(entry["M"]["expiresAt"]["N"]) + ACCEPTED_GRACE) * 1000 > now]
        success = {"M": {"authId": {"B": auth}, "writeId": {"B": write_id}, "expiresAt": number(expires_at)}}
        state["accepted"] = {"L": [*remembered, success]}
        state["budgetAt"] = number(max(0, budget - service.REFILL_MS * failures_of(state, auth)))
        state["failing"] = {"L": failing}
        state["consecutiveFailures"] = state["notBefore"] = number(0)
    else:
        state["totalFailures"] = number(int(state["totalFailures"]["N"]) + 1)
        if pair:
            state["pairAt"] = number(max(int(state["pairAt"]["N"]), now) + service.PAIR_GAP_MS)
        else:
            consecutive = int(state["consecutiveFailures"]["N"]) + 1
            own = {"M": {"authId": {"B": auth}, "count": number(failures_of(state, auth) + 1)}}
            state["failing"] = {"L": [own, *failing][:REMEMBERED_FAILING]}
            state["consecutiveFailures"] = number(consecutive)
            if ladder(consecutive):
                state["notBefore"] = number(now + ladder(consecutive))
            state["budgetAt"] = number(max(budget, now) + service.REFILL_MS)
    state["lastWrite"] = {"M": {"writeId": {"B": write_id}, "authId": {"B": auth}, "verdict": {"S": verdict}}}
    return verdict, state


def replace(key, device, state, used_at):
    """Writes a state over the one that was read; None if it took effect, else what is there instead ({} for nothing)."""
    values = {
        ":heldVersion": device["version"],
        ":heldSeedRef": device["seedRef"],
        ":version": number(int(device["version"]["N"]) + 1),
        ":state": {"M": state},
    }
    names, expression = {"#version": "version", "#seedRef": "seedRef", "#state": "state"}, "SET #version = :version, #state = :state"
    if used_at is not None:
        values[":lastUsedAt"], names["#lastUsedAt"] = number(used_at), "lastUsedAt"
        expression += ", #lastUsedAt = :lastUsedAt"
    try:
        dynamo.client.update_item(
            TableName=service.DEVICES_TABLE,
            Key=key,
            UpdateExpression=expression,
            ConditionExpression="#version = :heldVersion AND #seedRef = :heldSeedRef",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        if not service.condition_failed(error):
            raise
        return error.response.get("Item", {})
    return None


def verdict_of(state, auth, write_id):
    """The verdict of this invocation's own write, if it took effect before and its response was lost."""
    last = state["lastWrite"].get("M")
    for entry in state["accepted"]["L"]:
        if (entry["M"]["authId"]["B"], entry["M"]["writeId"]["B"]) == (auth, write_id):
            return "ACCEPTED"
    return last["verdict"]["S"] if last and (last["authId"]["B"], last["writeId"]["B"]) == (auth, write_id) else None


def settle(key, device, auth, expires_at, codes, steps, now):
    """Decides and writes until there is a verdict; returns it with the state that its write left."""
    write_id, pair = os.urandom(16), len(codes) == 2
    for _ in range(MOST_DECISIONS):
        admit(device, auth, expires_at, codes, now)
        verdict, state = decide(device, auth, expires_at, write_id, pair, steps, now)
        stored = replace(key, device, state, now // 1000 if verdict == "ACCEPTED" else None)
        if stored is None:
            return verdict, state
        if not stored:
            raise Failure(404, "AUTH_NOT_FOUND", "device_gone", "No authentication has this authId")
        own = verdict_of(stored["state"]["M"], auth, write_id)
        if own:
            return own, stored["state"]["M"]
        if stored["seedRef"] != device["seedRef"]:
            raise Failure(409, "AUTH_SUPERSEDED", "superseded", "The device has been registered again; start a new authentication")
        device = stored
    raise Failure(503, "SERVICE_UNAVAILABLE", "contention", "Temporarily unavailable; try again", retryAfterSeconds=1)


def seed_of(key, device):
    """The seed of a device; if it cannot be read, its device may be gone or have another one."""
    try:
        return seeds.get(device["seedRef"]["S"])
    except (BotoCoreError, ClientError, KeyError, ValueError):
        found = dynamo.get(service.DEVICES_TABLE, key)
        if found is None:
            raise Failure(404, "AUTH_NOT_FOUND", "device_gone", "No authentication has this authId") from None
        if found["seedRef"] != device["seedRef"]:
            raise Failure(409, "AUTH_SUPERSEDED", "superseded", "The device has been registered again; start a new authentication") from None
        raise Failure(503, "SERVICE_UNAVAILABLE", "seed_unavailable", "Temporarily unavailable; try again", retryAfterSeconds=1) from None


def answer(request, now, notes):
    client = notes["client"] = request.client()
    members = request.members()
    request.check_device_type(members, required=False)
    codes = offered(members)
    not_found = Failure(404, "AUTH_NOT_FOUND", "unknown", "No authentication has this authId")
    try:
        auth_id = uuid.UUID(request.parameters.get("authId", ""))
    except ValueError:
        raise not_found from None
    if str(auth_id) != request.parameters["authId"]:
        raise not_found
    found = dynamo.get(service.AUTHS_TABLE, {"pk": {"S": str(auth_id)}})
    if found is None or found["owner"]["S"] != service.owner_of(client):
        raise not_found
    owner, user, name = (found[member]["S"] for member in ("owner", "userName", "deviceName"))
    notes["device"] = (owner, user, name)
    key, device = {"pk": {"S": f"{owner}#{user}"}, "sk": {"S": name}}, found["device"]["M"]
    expires_at, auth = int(found["expiresAt"]["N"]), auth_id.bytes
    admit(device, auth, expires_at, codes, now)
    totp = seed_of(key, device)
    verdict, state = settle(key, device, auth, expires_at, codes, matching_steps(totp, codes, now), now)
    if verdict == "ACCEPTED":
        return 200, {"status": "SUCCESS", "message": "OTP has been validated successfully"}, {}, "single_code" if len(codes) == 1 else "two_codes"
    required = 1 if service.single_codes_open(state, now) else 2
    remaining = max(0, service.OWN_ATTEMPTS - failures_of(state, auth)) if len(codes) == 1 else None
    if verdict == "REPLAYED":
        period = int(device["period"]["N"])
        wait = max(0, -(-((int(state["lastStep"]["N"]) + 1) * period * 1000 - now) // 1000))
        message = "This code, or a later one, was used before"
        raise Failure(422, "OTP_REPLAYED", "replayed", message, codesRequired=required, attemptsRemaining=remaining, retryAfterSeconds=wait)
    reason = "wrong_code" if len(codes) == 1 else "wrong_pair"
    raise Failure(422, "OTP_REJECTED", reason, "The code is not valid", codesRequired=required, attemptsRemaining=remaining)


def handler(event, _context):
    return service.serve("validate-otp", event, answer, {"dynamodb": dynamo, "secretsManager": seeds})
