"""Registration and the three steps with the client that openapi-python-client generated. journey.ts does the same in TypeScript."""

import httpx

from stack import WRONG

USER, DEVICE = "Zo\u00eb+tag@example.com", "my phone"


def go(stack):
    from mfa_client import AuthenticatedClient
    from mfa_client.api.authentication import start_authentication, validate_code
    from mfa_client.api.devices import activate_device, list_devices, register_device, remove_device
    from mfa_client.models import AuthenticationRequest, DeviceStatus, DeviceType, OneCode, RegistrationRequest, TwoCodes

    client = AuthenticatedClient(stack.api, stack.token(), raise_on_unexpected_status=True, timeout=httpx.Timeout(10), httpx_args={"trust_env": False})

    def expect(answer, status, code=None):
        """The typed body of an answer that has this status and code."""
        found = answer.status_code, getattr(answer.parsed, "code", None)
        assert found == (status, code), f"{found} instead of {(status, code)}: {answer.content}"
        return answer.parsed

    def activate(registered, code, status, error=None):
        return expect(activate_device.sync_detailed(USER, registered.auth_id, client=client, body=OneCode(code)), status, error)

    def start(status=201, code=None):
        body = AuthenticationRequest(user_name=USER, device_name=DEVICE, device_type=DeviceType.TOTP)
        answer = start_authentication.sync_detailed(client=client, body=body)
        return expect(answer, status, code), answer.headers

    def check(auth, body, status, code=None):
        answer = validate_code.sync_detailed(auth.auth_id, client=client, body=body)
        return expect(answer, status, code), answer.headers

    # Registration: a wrong first code, then the right one.
    registration = RegistrationRequest(device_type=DeviceType.TOTP, device_name=DEVICE)
    registered = expect(register_device.sync_detailed(USER, client=client, body=registration), 201)
    assert registered.registration_uri.startswith("otpauth://totp/"), registered
    start(423, "DEVICE_NOT_ACTIVE")
    rejected = activate(registered, WRONG, 422, "OTP_REJECTED")
    assert (rejected.codes_required, rejected.attempts_remaining) == (1, 4), rejected
    activated = activate(registered, stack.codes(USER, DEVICE)[0], 200)
    assert (activated.status, activated.message) == ("ACTIVE", DEVICE), activated
    expect(register_device.sync_detailed(USER, client=client, body=registration), 409, "DEVICE_EXISTS")
    (device,) = expect(list_devices.sync_detailed(USER, client=client), 200)
    assert (device.device_name, device.status) == (DEVICE, DeviceStatus.ACTIVE), device

    # One code; the authId works once.
    stack.advance(minutes=2)
    auth, headers = start()
    assert "Auth-Codes-Required" not in headers and "Auth-Expires-At" in headers, headers
    rejected, _ = check(auth, OneCode(WRONG), 422, "OTP_REJECTED")
    assert (rejected.codes_required, rejected.attempts_remaining) == (1, 4), rejected
    code = OneCode(stack.codes(USER, DEVICE)[0])
    success, _ = check(auth, code, 200)
    assert success.status == "SUCCESS", success
    check(auth, code, 409, "AUTH_ALREADY_USED")
    replayed, _ = check(start()[0], code, 422, "OTP_REPLAYED")
    assert replayed.retry_after_seconds > 0, replayed

    # Too late; the same code with another authId.
    auth, _ = start()
    stack.advance(minutes=10)
    code = OneCode(stack.codes(USER, DEVICE)[0])
    check(auth, code, 410, "AUTH_EXPIRED")
    check(start()[0], code, 200)

    # Five wrong codes, then two codes are required; wrong pairs are limited too.
    stack.advance(minutes=1)
    auth, _ = start()
    for remaining in (4, 3, 2, 1, 0):
        rejected, _ = check(auth, OneCode(WRONG), 422, "OTP_REJECTED")
        assert rejected.attempts_remaining == remaining, rejected
    assert rejected.codes_required == 2, rejected
    check(auth, OneCode(WRONG), 409, "AUTH_ATTEMPTS_EXHAUSTED")
    auth, headers = start()
    assert headers["Auth-Codes-Required"] == "2", headers
    refused, _ = check(auth, OneCode(stack.codes(USER, DEVICE)[0]), 422, "TWO_CODES_REQUIRED")
    assert refused.codes_required == 2 and refused.single_codes_after_seconds > 0, refused
    pairs = 0
    while (answer := validate_code.sync_detailed(auth.auth_id, client=client, body=TwoCodes([WRONG, WRONG]))).status_code == 422:
        assert answer.parsed.codes_required == 2, answer
        pairs += 1
        assert pairs < 100, "wrong pairs are not limited"
    limited, headers = expect(answer, 429, "TOO_MANY_ATTEMPTS"), answer.headers
    assert limited.retry_after_seconds == int(headers["Retry-After"]), limited
    stack.advance(seconds=limited.retry_after_seconds)
    check(auth, TwoCodes(stack.codes(USER, DEVICE)), 200)

    expect(remove_device.sync_detailed(USER, DEVICE, client=client), 204)
    expect(remove_device.sync_detailed(USER, DEVICE, client=client), 404, "DEVICE_NOT_FOUND")
