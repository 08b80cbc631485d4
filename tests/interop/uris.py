"""Reads otpauth:// URIs from standard input, one per line, and prints how pyotp reads each as a line of JSON.

With a time in seconds as the argument, it also prints the code of that time.
"""

import json
import sys

import pyotp


def parsed(uri, seconds):
    totp = pyotp.parse_uri(uri)
    fields = {
        "issuer": totp.issuer,
        "name": totp.name,
        "secret": totp.secret,
        "algorithm": totp.digest().name.upper(),
        "digits": totp.digits,
        "period": totp.interval,
    }
    return fields if seconds is None else fields | {"code": totp.at(seconds)}


if __name__ == "__main__":
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else None
    for line in sys.stdin:
        print(json.dumps(parsed(line.rstrip("\n"), seconds), ensure_ascii=False))
