"""One plain user takes all that a head gives him: the others, and root, are still served.

The limits are scaled down; what is done is what a user of the default ones can do in seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import heorot
from tests.cluster.harness import DEADLINE_S, Cluster, Finished, await_that, cluster, private_bytes, stopped
from tests.support.other_user import BECOME, as_user_options, open_to_all, own_uid

ALICE, BOB = own_uid(), own_uid()
LIMITS = {"max_jobs": 32, "max_questions": 32, "max_waits": 32, "max_stages": 16, "max_clients": 64, "max_watches": 32}
CLIENT_BYTES = 64 << 20
TIMES = {"query_timeout_ms": 600_000, "link_timeout_ms": 600_000}
"""What a user holds in a test lasts as long as the test, however slow the machine is."""

USER = """
import json, os, socket, sys
import msgpack
from heorot.core.client import messages

directory, uid = os.open(sys.argv[1], os.O_PATH), int(sys.argv[2])
become(uid)

class Client:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(150)
        self.socket.connect(f"/proc/self/fd/{directory}/head.sock")
        self.file = self.socket.makefile("rb")

    def send(self, *message):
        frame = msgpack.packb(list(message))
        self.socket.sendall(len(frame).to_bytes(4, "big") + frame)

    def receive(self):
        header = self.file.read(4)
        return msgpack.unpackb(self.file.read(int.from_bytes(header, "big"))) if header else None

    def greet(self):
        self.send(*messages.client_hello("0"))
        assert self.receive()[0] == "welcome"
        return self

    def answer(self, request):
        while True:
            message = self.receive()
            if message is None or (message[0] in ("spawned", "result", "error") and message[1] == request):
                return message

WHAT = dict(nodes="n0", select="list", environment=[], directory=b"/", umask=18, limits=[], stdin=None, stdout=None)
WHAT |= dict(stderr=None, terminal=[])

def spawn(client, request, detached=True):
    client.send(*messages.spawn(request, argv=[b"/bin/sleep", b"1000"], detached=detached, **WHAT))
    return client.answer(request)

def tell(value):
    print(json.dumps(value, default=repr), flush=True)
"""


@pytest.fixture(scope="module")
def small() -> Iterator[Cluster]:
    """Two nodes, and a head with small limits, which users may reach."""
    settings = LIMITS | TIMES | {"max_client_bytes": CLIENT_BYTES}
    times = ",".join(f"{name}={value}" for name, value in settings.items())
    with cluster(2, environment={"HEOROT_TIMES": times}) as made:
        open_to_all(made.directory.parent)
        yield made


class User:
    """A process of a plain user, which speaks to the head by itself."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def told(self) -> Any:
        """Return what it says next."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or "null")


@contextmanager
def user(made: Cluster, uid: int, script: str) -> Iterator[User]:
    """Run a script as a plain user, who stays until the block ends."""
    command = [sys.executable, "-c", BECOME + USER + script + "\nsys.stdin.read()\n", str(made.directory), str(uid)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield User(process)
    finally:
        process.communicate(timeout=DEADLINE_S)


def as_user(made: Cluster, uid: int, *arguments: str) -> Finished:
    """Run a command of Heorot's as a plain user."""
    return made.run(arguments[0], *arguments[1:], **as_user_options(uid))


def end_jobs(made: Cluster) -> None:
    """Leave nothing for the next test."""
    for job in made.jobs():
        if job["state"] != "done":
            made.run("bpjob", "kill", "-KILL", job["job"])
    await_that(lambda: not made.processes(), "all jobs over")


def test_a_user_cannot_take_all_jobs(small: Cluster) -> None:
    script = """
client = Client().greet()
for count in range(100):
    answer = spawn(client, count + 1)
    if answer[0] == "error":
        break
tell([count, answer])
"""
    try:
        with user(small, ALICE, script) as alice:
            count, answer = alice.told()
            assert (count, answer[2]) == (15, "too-many-jobs")
            assert f"of at most 32 jobs that run or are read, {ALICE} has 15 and others have 0" in answer[3]
            assert "let root raise max_jobs ([limits] in head.toml)" in answer[3]
            with user(small, BOB, "tell(spawn(Client().greet(), 1))") as bob:
                assert bob.told()[0] == "spawned"
            assert small.check("bpsh", "n0", "/bin/echo", "x") == b"x\n"
    finally:
        end_jobs(small)


def test_a_user_cannot_ask_so_much_that_others_cannot_ask(small: Cluster) -> None:
    script = """
client = Client().greet()
for request in range(1, 101):
    client.send("processes", request, "n1", None)
refused = [client.receive() for _ in range(85)]
tell(refused)
"""
    job = small.detach("n0", "/bin/sleep", "1000")
    try:
        with stopped(small.node(1)["agent_pid"]), user(small, ALICE, script) as alice:
            refused = alice.told()
            assert {answer[2] for answer in refused} == {"busy"}
            assert "max_questions" in refused[0][3]
            assert len(small.processes("-n", "n0")) == 1
            small.check("bpkill", "-KILL", job)
    finally:
        end_jobs(small)


def test_a_user_waits_only_for_what_is_his_and_not_for_all_that_can_wait(small: Cluster) -> None:
    job = small.detach("n0", "/bin/sh", "-c", "while [ ! -e go ]; do sleep 0.05; done", "sh")
    script = f"""
client = Client().greet()
client.send("wait", 1, "{job}")
tell(client.answer(1))
own = spawn(client, 2)[2]
for request in range(3, 103):
    client.send("wait", request, own)
tell([client.receive() for _ in range(85)])
"""
    try:
        with user(small, ALICE, script) as alice:
            assert alice.told()[:3] == ["error", 1, "not-permitted"]
            refused = alice.told()
            assert {answer[2] for answer in refused} == {"busy"}
            assert "max_waits" in refused[0][3]
            with small.start("bpjob", "wait", job) as waiting:
                small.check("bpjob", "kill", "-KILL", job)
                assert waiting.wait(DEADLINE_S) == 128 + 9
    finally:
        end_jobs(small)


def test_a_user_cannot_take_all_watches(small: Cluster) -> None:
    script = """
client = Client().greet()
for request in range(1, 101):
    client.send(*messages.watch_topics(request, ["nodes"], 0))
refused = []
while len(refused) < 85:
    message = client.receive()
    if message[0] == "error":
        refused.append(message)
tell(refused)
"""
    other = """
client = Client().greet()
client.send(*messages.watch_topics(1, ["nodes"], 0))
tell(client.receive()[:3])
"""
    with user(small, ALICE, script) as alice:
        refused = alice.told()
        assert {answer[2] for answer in refused} == {"busy"}
        assert f"of at most 32 watches, {ALICE} has 15 and others have 0" in refused[0][3]
        assert "max_watches" in refused[0][3]
        with user(small, BOB, other) as bob:
            assert bob.told() == ["changed", 1, "nodes"]
        with heorot.connect(small.directory) as root:
            assert sorted(next(iter(root.watch("nodes"))).nodes) == [0, 1]
    with user(small, ALICE, other) as alice:
        assert alice.told() == ["changed", 1, "nodes"], "what is held goes with its client"


def test_a_user_cannot_take_all_connections(small: Cluster) -> None:
    script = """
crowd = [Client() for _ in range(100)]
tell(crowd[-1].receive())
"""
    with user(small, ALICE, script) as alice:
        refused = alice.told()
        assert refused[:3] == ["error", 0, "busy"]
        assert f"of at most 64 clients that are connected to the head, {ALICE} has 30" in refused[3]
        with user(small, BOB, "tell(bool(Client().greet()))") as bob:
            assert bob.told()
        assert small.check("bpsh", "n0", "/bin/echo", "x") == b"x\n"


def test_a_user_cannot_fill_the_heads_memory_with_frames_that_he_begins(small: Cluster) -> None:
    script = """
crowd = []
beginning = (8 << 20).to_bytes(4, "big") + bytes(7 << 20)
refused = []
for _ in range(20):
    client = Client()
    try:
        client.socket.sendall(beginning)
        crowd.append(client)
    except (BrokenPipeError, ConnectionResetError):
        pass
    client.socket.setblocking(False)
tell(len(crowd))
tell([message for message in map(attempt, crowd) if message])
"""
    attempt = """
def attempt(client):
    try:
        return client.receive()
    except (OSError, TypeError):
        return None
"""
    pid = small.head_pid()
    before = private_bytes(pid)
    with user(small, ALICE, attempt + script) as alice:
        assert alice.told() < 20
        alice.told()
        assert small.check("bpsh", "n0", "/bin/echo", "x") == b"x\n"
        assert private_bytes(pid) - before < CLIENT_BYTES
        with user(small, BOB, "tell(bool(Client().greet()))") as bob:
            assert bob.told()


def test_a_user_cannot_fill_the_heads_memory_with_answers_that_he_does_not_read(small: Cluster) -> None:
    script = """
import time
crowd = []
for _ in range(8):
    client = Client().greet()
    crowd.append(client)
sent = 0
try:
    for request in range(1, 200_000):
        for client in crowd:
            client.send("status", request)
            sent += 1
except OSError as error:
    tell(type(error).__name__)
"""
    pid = small.head_pid()
    before = private_bytes(pid)
    with user(small, ALICE, script) as alice:
        assert alice.told() in ("BrokenPipeError", "ConnectionResetError")
        assert private_bytes(pid) - before < CLIENT_BYTES
        assert small.check("bpsh", "n0", "/bin/echo", "x") == b"x\n"


def test_what_was_refused_fills_no_log(small: Cluster) -> None:
    script = """
for _ in range(300):
    client = Client()
    client.send("nonsense")
    client.receive()
    client.socket.close()
tell(True)
"""
    log = Path(small.directory, "log", "h0.log")
    before = log.stat().st_size
    with user(small, ALICE, script) as alice:
        assert alice.told()
    assert log.stat().st_size - before < 4096
    assert f"of {ALICE}: not a valid client message" in log.read_text()


def test_a_user_cannot_launch_so_many_programs_that_others_cannot_be_sent() -> None:
    script = """
crowd, told = [Client().greet() for _ in range(5)], []
for request in range(1, 1101):
    client = crowd[request % 5]
    key, image = os.urandom(16), os.urandom(32)
    what = dict(argv=[b"/bin/no"], image=image, program=b"/bin/no")
    client.send(*messages.spawn(request, detached=False, key=key, **what, **WHAT))
    told.append(client.answer(request)[0])
tell([told.count("spawned"), told.count("error")])
"""
    with cluster(2) as made:
        open_to_all(made.directory.parent)
        program = made.directory.parent / "program"
        program.write_text("#!/bin/sh\necho sent\n")
        program.chmod(0o755)
        with user(made, ALICE, script) as alice:
            assert alice.told() == [480, 620]
            for number in (0, 1):
                assert made.check("bpsh", f"n{number}", "--image", "send", str(program)) == b"sent\n"
