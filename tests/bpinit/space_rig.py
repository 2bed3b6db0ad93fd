"""A real bpinit for tests: in a namespace as root, or as a subreaper of an unprivileged user."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any

from heorot.bpinit.namespace import pid_range, spawn_space
from heorot.bpinit.space_socket import connect_space, listen
from heorot.core.space.events import SpaceConfig
from heorot.core.streams import InboundStream
from heorot.core.wire import tree as m
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.core.wire.launch import LaunchSpec
from tests.core.launches import changed
from tests.support.other_user import NOBODY, become, open_temporary_directory
from tests.support.waiting import DEADLINE_S as DEADLINE_S

NODE = 3
CAPACITY = 63
BASE, SIZE = pid_range(NODE, CAPACITY)


class Agent:
    """The agent's end: sends commands, and keeps account of all that is answered."""

    def __init__(self, path: str) -> None:
        self.socket = connect_space(path)
        self._decoder = FrameDecoder()
        self.answers: list[m.SpaceAnswer] = []
        self.output: dict[tuple[str, int, int], bytearray] = {}
        self._inbound: dict[tuple[str, int, int], InboundStream] = {}
        self.acknowledge = True

    def expect_from(self, job: str, rank: int, stream: int, offset: int) -> None:
        """What comes before this offset was acknowledged by another agent."""
        self._inbound[(job, rank, stream)] = InboundStream(offset)

    def send(self, *commands: m.SpaceCommand) -> None:
        """Send commands in one write."""
        self.socket.settimeout(DEADLINE_S)
        self.socket.sendall(b"".join(encode_frame(m.encode(command)) for command in commands))

    def pump(self, timeout_s: float) -> bool:
        """Take what arrives within the time; False if nothing did."""
        if not select.select([self.socket], [], [], timeout_s)[0]:
            return False
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("bpinit closed the connection")
        acks: list[m.SpaceCommand] = []
        for frame in self._decoder.feed(data):
            answer = m.decode_space_answer(frame)
            self.answers.append(answer)
            if isinstance(answer, m.Output):
                key = (answer.job, answer.rank, answer.stream)
                stream = self._inbound.setdefault(key, InboundStream())
                self.output.setdefault(key, bytearray()).extend(stream.take(answer.offset, bytes(answer.data)))
                if self.acknowledge:
                    acks.append(m.Ack(*key, stream.offset))
        if acks:
            self.send(*acks)
        return True

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Take answers until the condition holds; return its value."""
        deadline = time.monotonic() + DEADLINE_S
        while not (value := condition()):
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"not within {DEADLINE_S} s: {what}; the last answers: {self.answers[-5:]}")
            self.pump(min(left, 0.02))
        return value

    def settle(self, quiet_s: float = 0.3) -> None:
        """Take answers until none comes for a while (to show that nothing more comes)."""
        while self.pump(quiet_s):
            pass

    def reports(self, job: str) -> list[m.Report]:
        """All reports of a job so far."""
        return [answer for answer in self.answers if isinstance(answer, m.Report) and answer.job == job]

    def started(self, job: str) -> dict[int, int]:
        """PIDs by rank."""
        return {r.started[i + 1]: r.started[i + 2] for r in self.reports(job) for i in range(0, len(r.started), 3)}

    def exited(self, job: str) -> dict[int, int]:
        """Wait statuses by rank; fails if a rank is reported twice differently."""
        statuses: dict[int, int] = {}
        for report in self.reports(job):
            for i in range(0, len(report.exited), 5):
                rank, status = report.exited[i + 1 : i + 3]
                assert statuses.setdefault(rank, status) == status
        return statuses

    def failed(self, job: str) -> dict[int, m.Failure]:
        """Failures by rank."""
        return {failure.rank: failure for report in self.reports(job) for failure in report.failed}

    def over(self, job: str) -> bool:
        """True if the node has said that all ranks are over."""
        return any(report.nodes_over for report in self.reports(job))

    def wait_over(self, job: str) -> dict[int, int]:
        """Wait for the end of the job and for all of its output; return the statuses."""
        self.until(lambda: self.over(job), f"the end of job {job}")

        def complete() -> bool:
            for report in self.reports(job):
                for i in range(0, len(report.exited), 5):
                    _, rank, _, *sizes = report.exited[i : i + 5]
                    if any(len(self.output.get((job, rank, s), b"")) < size for s, size in enumerate(sizes, 1)):
                        return False
            return True

        self.until(complete, f"the output of job {job}")
        return self.exited(job)

    def wait_started(self, job: str, count: int = 1) -> dict[int, int]:
        """Wait until so many ranks are reported as started."""
        self.until(lambda: len(self.started(job)) >= count, f"the start of job {job}")
        return self.started(job)

    def ask(self, query: m.Query) -> m.Reply:
        """Send a question and return its reply."""
        before = len(self.answers)
        self.send(query)

        def reply() -> m.Reply | None:
            for answer in self.answers[before:]:
                if isinstance(answer, m.Reply) and answer.id == query.id:
                    return answer
            return None

        found = self.until(reply, f"the reply to {query.id}")
        assert isinstance(found, m.Reply)
        return found

    def run(self, job: str, *argv: bytes, **fields: Any) -> bytes:
        """Launch one rank, wait for its end, check that it ended well, and return its stdout."""
        self.send(launch(job, *argv, **fields))
        assert self.wait_over(job) == {0: 0}, self.answers[-3:]
        return bytes(self.output.get((job, 0, 1), b""))

    def close(self) -> None:
        """Be gone."""
        self.socket.close()


def launch(job: str, *argv: bytes, ranks: int = 1, **fields: Any) -> m.Launch:
    """A launch for this node."""
    environment = [b"PATH=/usr/bin:/bin", b"LANG=C"]
    spec = LaunchSpec(list(argv), environment, b"/", 0o22, [], None, b"", b"", [])
    ticket = m.Ticket(
        "test", 1, job, 1_000, 2**50, "someone", os.getuid(), os.getgid(), [], spec, [NODE, 1] * ranks, 256 * 1024, True
    )
    return m.Launch(m.encode(changed(ticket, **fields)), b"signature")


class SpaceRig:
    """One bpinit. `mode` is ``namespace`` (needs root) or ``rootless``."""

    def __init__(self, mode: str, descriptors: int = 0, **config: Any) -> None:
        self.mode = mode
        self.descriptors = descriptors
        """The limit on descriptors of a rootless bpinit; 0: none of its own."""
        self.directory = tempfile.mkdtemp(prefix="heorot-space-")
        self.uid = os.getuid()
        self.path = os.path.join(self.directory, "init.sock")
        self.marker = os.urandom(8).hex()
        self.log = os.path.join(self.directory, "log")
        self.work = tempfile.mkdtemp(prefix="heorot-work-")
        """Where any user may write."""
        os.chmod(self.work, 0o777)
        if os.getuid() == 0:
            open_temporary_directory()
        values: dict[str, Any] = {
            "node": NODE,
            "base_pid": BASE,
            "range_size": SIZE,
            "spool_dir": self.directory,
            "marker": self.marker,
            "die_with_parent": True,
            "log_path": self.log,
        }
        values.update(config)
        self.config = SpaceConfig(**values)
        self.listener = listen(self.path)
        self.agents: list[Agent] = []
        if mode == "namespace":
            self.pid = spawn_space(self.config, self.listener)
        else:
            self.pid = self._spawn_unprivileged()

    def _spawn_unprivileged(self) -> int:
        if os.getuid() == 0:
            self.uid = NOBODY
            os.chown(self.directory, NOBODY, NOBODY)
            os.chown(self.path, NOBODY, NOBODY)
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            from heorot.bpinit import daemon

            if self.descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))
            if os.getuid() == 0:
                become(NOBODY)
            daemon.run_space(self.config, self.listener, os.pidfd_open(parent))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def agent(self) -> Agent:
        """Connect another agent, which replaces the former."""
        agent = Agent(self.path)
        self.agents.append(agent)
        return agent

    def launch(self, job: str, *argv: bytes, **fields: Any) -> m.Launch:
        """A launch as the user that this space can serve."""
        return launch(job, *argv, **({"uid": self.uid, "gid": self.uid} | fields))

    def log_text(self) -> str:
        """What the daemon has logged."""
        with open(self.log, encoding="utf-8") as file:
            return file.read()

    def file_descriptors(self) -> int:
        """How many descriptors the daemon has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def processes(self) -> set[int]:
        """The host's PIDs of all processes that were started in this space, by their environment."""
        found = set()
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/environ", "rb") as file:
                        if f"HEOROT_SPACE={self.marker}".encode() in file.read():
                            found.add(int(name))
                except OSError:
                    continue
        return found

    def end(self) -> None:
        """End the space and show that nothing of it is left."""
        for agent in self.agents:
            agent.close()
        self.listener.close()
        os.kill(self.pid, signal.SIGKILL if self.mode == "namespace" else signal.SIGTERM)
        os.waitpid(self.pid, 0)
        left = self.processes()
        names = sorted(os.listdir(self.directory))
        shutil.rmtree(self.directory)
        shutil.rmtree(self.work)
        assert not left, f"processes {left} are left"
        assert set(names) <= {"init.sock", "log"}, f"files are left: {names}"


def peer_closed(connection: socket.socket) -> bool:
    """True if the other side has closed; waits for it."""
    connection.settimeout(DEADLINE_S)
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True
