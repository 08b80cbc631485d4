"""Lets schemathesis type right codes, as a user with an authenticator does: otherwise no authentication and no activation succeeds, and nothing after them is reached."""

import base64
import hmac
import json
import os
import time
import urllib.parse

import schemathesis

DEMO = json.loads(os.environ["DEMO_DEVICE"])

uris = {}  # by authId, the `otpauth` URI of its device


def code(uri, now):
    """RFC 6238, from an `otpauth` URI."""
    parameters = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(uri).query))
    seed = base64.b32decode(parameters["secret"] + "=" * (-len(parameters["secret"]) % 8))
    digest = hmac.digest(seed, (int(now) // int(parameters["period"])).to_bytes(8, "big"), parameters["algorithm"])
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number)[-int(parameters["digits"]) :].zfill(int(parameters["digits"]))


def operation(case):
    return case.operation.definition.raw["operationId"]


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code != 201:
        return
    body = response.json()
    if operation(case) == "registerDevice":
        uris[body["authId"]] = body["registrationUri"]
    elif (case.body["userName"], case.body["deviceName"]) == (DEMO["userName"], DEMO["deviceName"]):
        uris[body["authId"]] = f"otpauth://totp/x?secret={DEMO['seedBase32']}&algorithm=SHA1&digits=6&period=30"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Every single code for a known authId is the right one; pairs stay wrong."""
    uri = uris.get((case.path_parameters or {}).get("authId"))
    if uri and isinstance(case.body, dict) and "otp" in case.body and case.meta.generation.mode.is_positive:
        case.body["otp"] = code(uri, time.time())
