"""The local stack, as the tests of clients use it: its settings, the test clock, and the codes that an authenticator app would show."""

import json

import httpx

# For a device with codes of 6 digits, a code of 8 is wrong at any time, and counts as any other wrong code.
WRONG = "00000000"


class Stack:
    def __init__(self, description):
        """`description` is the file stack.json."""
        self.description = json.loads(description.read_text())
        self.api = self.description["apiUrl"]
        self.origin = self.api.removesuffix("/v1")
        self.http = httpx.Client(trust_env=False)  # loopback, whatever proxies the environment names

    def environment(self):
        """What the programs of the guide take from the environment."""
        client = self.description["clients"][0]
        return {
            "MFA_API_URL": self.api,
            "MFA_TOKEN_URL": self.description["tokenUrl"],
            "MFA_CLIENT_ID": client["clientId"],
            "MFA_CLIENT_SECRET": client["clientSecret"],
        }

    def token(self):
        client = self.description["clients"][0]
        form = {"grant_type": "client_credentials", "scope": "mfa/authenticate mfa/devices"}
        answer = self.http.post(self.description["tokenUrl"], data=form, auth=(client["clientId"], client["clientSecret"]))
        return answer.raise_for_status().json()["access_token"]

    def codes(self, user, device):
        """The code that the app shows now, and the next one."""
        answer = self.http.get(f"{self.origin}/_local/code", params={"userName": user, "deviceName": device})
        return answer.raise_for_status().json()["otps"]

    def advance(self, **time):
        seconds = {"seconds": 1, "minutes": 60, "days": 86400}
        moved = sum(seconds[unit] * number for unit, number in time.items())
        self.http.post(f"{self.origin}/_local/clock", json={"advanceSeconds": moved}).raise_for_status()
