"""Shared by the scripts under tests/: builds programs of this workspace, starts servers, and stops them with all that they started."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
STOP_SECONDS = 15
START_SECONDS = 60
DESCRIPTION = ".local/stack.json"


def build(*programs, seconds):
    """Builds programs of the workspace; returns their folder.

    With the features of the whole workspace and of its tests, which a test target among the selected ones turns on: otherwise
    the SDK would be built again.
    """
    command = ["cargo", "build", "--workspace", "--test", "consistency"] + [argument for program in programs for argument in ("--bin", program)]
    subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=True, timeout=seconds)
    return target_folder() / "debug"


def target_folder():
    """Where cargo builds."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    described = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return pathlib.Path(json.loads(described.stdout)["target_directory"])


class Server:
    """A process in a separate group, so that its children can be stopped with it."""

    def __init__(self, command, folder, log, environment=None):
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def require_running(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.process.args[:3]} exited with {self.process.returncode}:\n{self.log.read_text()}")

    def stop(self):
        """Interrupts it as Ctrl-C does, then kills what is left of its group and of its descendants in other groups."""
        family = family_of(self.process.pid)
        stop_group(self.process)
        for pid, name in family.items():
            if pid != self.process.pid and family_of(pid).get(pid) == name:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def local_stack(program):
    """Runs the local stack in a temporary folder, which it describes itself in; yields the folder when it is ready."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server([program, "--port", "0"], folder, folder / "local.log")
        try:
            wait_for("the local stack", (folder / DESCRIPTION).exists, server, START_SECONDS)
            yield folder
        finally:
            server.stop()


def stop_group(process, signs=(signal.SIGINT, signal.SIGKILL)):
    """Stops a process and its group, by one signal after the other."""
    for sign in signs:
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{process.args[:3]} did not stop within {STOP_SECONDS} s", file=sys.stderr)


def family_of(pid):
    """A process and its descendants, whatever their group: pid and command."""
    parents, commands = {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
        except (ProcessLookupError, FileNotFoundError):
            pass
    family = {pid} & parents.keys()
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return {member: commands.get(member, "") for member in family}


def wait_for(what, ready, server, seconds):
    """Polls `ready` as long as the server runs."""
    end = time.monotonic() + seconds
    while not ready():
        server.require_running()
        if time.monotonic() > end:
            raise RuntimeError(f"{what} not ready within {seconds} s:\n{server.log.read_text()}")
        time.sleep(0.1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
