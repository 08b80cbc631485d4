"""The code of docs/clients.md: shell commands run as they are, programs sign in through a relay that loses answers, what has no runtime here is parsed."""

import contextlib
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import tree_sitter
import tree_sitter_go
import tree_sitter_java

from stack import WRONG

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/clients.md"
RUST = ROOT / "tests/clients/sign_in/sign_in.rs"
JACKSON = "/usr/share/java/jackson-{}.jar"  # where Debian has it
SECONDS = 120


def part_of(document, title):
    """The section of a document with a title."""
    sections = re.split(r"^## ", document.read_text(), flags=re.MULTILINE)
    (found,) = [section for section in sections if section.startswith(f"{title}\n")]
    return found


def facts():
    """The costs and statuses of the guide are those of the other documents."""
    costs, tokens = part_of(ROOT / "docs/operations.md", "Costs"), part_of(GUIDE, "Get and keep a token")
    authentication = float(re.search(r"^\| \| \| \*\*([\d.]+)\*\* \|$", costs, re.MULTILINE)[1])
    token = float(re.search(r"\*\*Tokens\*\*: ([\d.]+) per 1,000", costs)[1])
    million = 1000 * token
    for figure in (f"| {authentication:.2f} |", f"| {million:,.2f} |", f"= {million / authentication:.0f} times", f"= {730 * token / 1000:.2f} a month"):
        assert figure in tokens, f"{figure} is not in the guide"

    def statuses(document, title):
        rows = re.findall(r"^\| ([45]\d\d[^|]*) \|", part_of(document, title), re.MULTILINE)
        return sorted(re.findall(r"\d{3}", " ".join(rows)))

    ours, documented = statuses(GUIDE, "What to do with an answer"), statuses(ROOT / "docs/api.md", "What to do with a status")
    assert ours == documented, f"{ours} instead of {documented}"


def blocks(language, section=""):
    """The fenced blocks of a language in the guide, or in its section with a title."""
    text = part_of(GUIDE, section) if section else GUIDE.read_text()
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"no block of {language} in the guide"
    return found


def program(language, folder, name):
    """Writes the only program of a language to a file."""
    (text,) = blocks(language)
    file = folder / name
    file.write_text(text)
    return file


def finished(command, folder, environment, typed=""):
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()} | environment
    return subprocess.run(command, cwd=folder, env=environment, input=typed, capture_output=True, text=True, timeout=SECONDS)


def shell(folder):
    """The commands of the guide, in the folder in which the local stack was started."""
    (settings, *steps), registration = blocks("sh", "Try it with curl"), blocks("sh", "Let users set up their own app")
    rest_of_devices = 'echo; curl -sS -H "Authorization: Bearer $TOKEN" "$DEVICES"\n'
    script = "set -euo pipefail\n" + "".join([settings, *steps, "echo\n", *registration, rest_of_devices])
    done = finished(["bash", "-c", script], folder, {})
    assert done.returncode == 0, done.stderr
    success, uri, activated_and_listed, left = done.stdout.split("\n")
    assert success + "\n" == blocks("json", "Try it with curl")[0], success
    assert uri.startswith("otpauth://totp/Local:me%2Btag%40example.com%20%28phone%29?secret="), uri
    activated, devices = activated_and_listed.split("}", 1)
    assert json.loads(activated + "}") == {"status": "ACTIVE", "message": "phone"}, activated
    assert [device["status"] for device in json.loads(devices)] == ["ACTIVE"], devices
    assert left == "[]", left


class Relay(http.server.ThreadingHTTPServer):
    """Passes requests to the stack, except for faults that it was told to make of the next calls of the API. `seen` has every request and its status."""

    daemon_threads = True

    def __init__(self, stack):
        super().__init__(("127.0.0.1", 0), Handler)
        self.stack, self.faults, self.seen = stack, [], []
        self.origin = f"http://127.0.0.1:{self.server_port}"

    def environment(self):
        return {name: value.replace(self.stack.origin, self.origin) for name, value in self.stack.environment().items()}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_token = self.path == "/oauth2/token"
        fault = self.server.faults.pop(0) if self.server.faults and not is_token else None
        if fault in (401, 503):
            status, headers, content = fault, {"Retry-After": "0"} if fault == 503 else {}, b'{"status":"FAILED"}'
        else:
            headers = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
            answer = self.server.stack.http.post(self.server.stack.origin + self.path, content=body, headers=headers)
            status, content = answer.status_code, answer.content
            headers = {name: answer.headers[name] for name in ("Auth-Codes-Required", "Retry-After") if name in answer.headers}
            if fault == "lost":
                status, headers, content = 504, {"Retry-After": "0"}, b'{"status":"FAILED","code":"GATEWAY_TIMEOUT"}'
        step = "token" if is_token else "start" if self.path.endswith("/deviceAuthentications") else "check"
        self.server.seen.append((f"{step} {status}", body.decode(), self.headers["Authorization"]))
        self.send_response(status)
        for name, value in (headers | {"Content-Type": "application/json", "Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def sign_ins(prepare, folder, stack, relay):
    """What every program of the guide has to master, typed into it as a user would."""
    command = prepare()
    if command is None:
        return "parsed only, there is nothing to run it with"
    demo = stack.description["demo"]
    demo = demo["userName"], demo["deviceName"]

    def typed(*lines, user=demo, faults=(), expected):
        relay.faults[:], relay.seen[:] = faults, []
        done = finished([*command, *user], folder, relay.environment(), "".join(f"{line}\n" for line in lines))
        seen = [step for step, *_ in relay.seen]
        assert seen == expected, f"{seen} instead of {expected}: {done.stdout} {done.stderr}"
        stack.advance(seconds=90)
        return done

    def signed_in(*lines, **rest):
        done = typed(*lines, **rest)
        assert done.returncode == 0 and done.stdout.endswith("Signed in.\n"), done
        return [json.loads(body) for step, body, _ in relay.seen if step.startswith("check")]

    stack.advance(days=10)  # the wrong codes of earlier programs are forgiven
    code, _ = stack.codes(*demo)
    tries = ["start 503", "start 401", "token 200", "start 201"]
    offers = signed_in(WRONG, f"{code[:3]} {code[3:]}", faults=[503, 401], expected=["token 200", *tries, "check 422", "check 200"])
    assert [offer["otp"].replace(" ", "") for offer in offers] == [WRONG, code], offers
    started = [(body, authorization) for step, body, authorization in relay.seen if step.startswith("start")]
    assert len({body for body, _ in started}) == 1, "another request was sent than the first one"
    assert started[0] == started[1], "the token of the first request was thrown away"

    pair = stack.codes(*demo)
    wrong = ["check 422"] * 5
    offers = signed_in(*[WRONG] * 5, *pair, expected=["token 200", "start 201", *wrong, "start 201", "check 200"])
    assert offers[-1] == {"otps": pair}, offers

    # The answer to a success is lost: the repeated request must not count as one.
    signed_in(*stack.codes(*demo), faults=[None, "lost"], expected=["token 200", "start 201", "check 504", "check 409", "start 201", "check 200"])

    done = typed(user=(demo[0], "unknown"), expected=["token 200", "start 404"])
    assert done.returncode != 0 and "DEVICE_NOT_FOUND" in done.stderr and "Signed in" not in done.stdout, done
    return None


def parsed(language, file):
    node = tree_sitter.Parser(tree_sitter.Language(language)).parse(file.read_bytes()).root_node
    while node.has_error and (inner := [child for child in node.children if child.has_error]):
        node = inner[0]
    assert not node.has_error, f"{file.name} does not parse, line {node.start_point.row + 1}"


def rust(folder, built):
    """The program that cargo built is that of the guide."""
    file = program("rust", folder, "sign_in.rs")
    assert file.read_text() == RUST.read_text(), f"the Rust program of {GUIDE.name} differs from {RUST.relative_to(ROOT)}: copy it there"
    return [built / "sign-in"]


def java(folder):
    """Runs where Java and Jackson are."""
    file = program("java", folder, "SignIn.java")
    parsed(tree_sitter_java.language(), file)
    jars = [JACKSON.format(name) for name in ("core", "databind", "annotations")]
    if shutil.which("javac") is None or not all(map(os.path.exists, jars)):
        return None
    subprocess.run(["javac", "-Werror", "-Xlint:all,-serial", "-cp", ":".join(jars), "-d", folder, file], check=True, timeout=SECONDS)
    return ["java", "-cp", ":".join([*jars, str(folder)]), "SignIn"]


def go(folder):
    """Runs where Go is."""
    file = program("go", folder, "sign_in.go")
    parsed(tree_sitter_go.language(), file)
    if shutil.which("go") is None:
        return None
    environment = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    subprocess.run(["go", "build", "-o", folder / "sign_in_go", file], cwd=folder, env=environment, check=True, timeout=SECONDS)
    return [folder / "sign_in_go"]


@contextlib.contextmanager
def relay(stack):
    server = Relay(stack)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def programs(folder, built, typescript):
    """For every language of the guide, how to get the command that runs its program; None if it could only be parsed."""
    return {
        "Python": lambda: [sys.executable, program("python", folder, "sign_in.py")],
        "TypeScript": lambda: ["node", typescript / "built/sign_in.js"],
        "Rust": functools.partial(rust, folder, built),
        "Java": functools.partial(java, folder),
        "Go": functools.partial(go, folder),
    }
