"""The shells of process spaces: bpinit with real processes, the simulator's host, that of launch times."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import socket
import struct
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NoReturn

from heorot.bpinit.space_socket import connect_space, listen
from heorot.core.machine import FromSpace, ToSpace
from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.wire import tree as m
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.core.wire.launch import LaunchSpec
from heorot.sim.timed.cluster import TimedCluster, one_machine
from heorot.sim.truth import JobTruth, content
from tests.shells.rigs import Poke, Scripted
from tests.shells.timed import QUIET_NS
from tests.shells.virtual import QUIET_US, Stage
from tests.support.waiting import DEADLINE_S

JOB = "1.1"
RANKS = 8
INPUT = content(JOB, -1, 0, 0, 1 << 20)
"""What may be fed: a virtual process knows what it has to read."""
ENVIRONMENT = [b"PATH=/usr/bin:/bin", b"LANG=C"]

ENDS, SLEEPS, MISSING = [b"true", b"0", b"0"], [b"sleep", b"1000", b"0"], [b"missing"]
WRITES, WRITES_ON, READS, LEAVES, SPEAKS = [b"writes"], [b"writes on"], [b"reads"], [b"leaves"], [b"speaks"]
"""What a process does; the last five are put into each shell's own words."""


class SpaceMachine(Scripted):
    """The machine of a process space."""

    deadline_ms = None

    def of_slot(self, slot: int) -> list[Any]:
        """Return what it was told of a slot."""
        return [event for event in self.events if getattr(event, "slot", None) == slot]


class SpaceRig(ABC):
    """A shell of a process space around a scripted machine."""

    words: dict[bytes, list[bytes]]

    def __init__(self) -> None:
        self.machine = SpaceMachine()
        self._slots = 0

    def do(self, *items: Any) -> None:
        """Let the machine say this in one turn."""
        self.machine.pokes.append(list(items))
        self.poke(Poke(len(self.machine.pokes) - 1))

    def starting(
        self, argv: list[bytes], ranks: int = 1, *, reads: bool = False, silent: bool = False, mpi: bool = False
    ) -> tuple[e.StartRanks, list[int]]:
        """Return what starts some ranks, and their slots; of `silent` ones nobody reads what they write."""
        slots = [self._slots + 1 + rank for rank in range(ranks)]
        self._slots += ranks
        argv, out = self.words.get(argv[0], argv), None if silent else b""
        spec = LaunchSpec(argv, ENVIRONMENT, b"/", 0o22, [], b"" if reads else None, out, out, [], pmi=mpi)
        of = "someone", os.getuid(), os.getgid()
        ticket = m.Ticket("test", 1, JOB, 1_000, 2**50, *of, [], spec, [0, ranks], 4096, True)
        return e.StartRanks(JOB, ticket, RANKS, [(slot, slot - 1) for slot in slots]), slots

    def start(self, argv: list[bytes], ranks: int = 1, **how: bool) -> list[int]:
        """Start some ranks, and wait until they run; return their slots."""
        item, slots = self.starting(argv, ranks, **how)
        self.do(item)
        self.until(lambda: len(self.machine.of(e.ProcessStarted)) >= self._slots)
        return slots

    @abstractmethod
    def poke(self, poke: Poke) -> None:
        """Hand it to the machine."""

    @abstractmethod
    def until(self, condition: Callable[[], object]) -> None:
        """Let time pass until this is true."""

    @abstractmethod
    def settle(self) -> None:
        """Let time pass until whatever is on its way has come."""

    @abstractmethod
    def agent(self) -> SpaceAgent:
        """Let an agent connect."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""


class SpaceAgent(ABC):
    """An agent."""

    @property
    @abstractmethod
    def received(self) -> list[m.SpaceAnswer]:
        """What has come."""

    @abstractmethod
    def say(self, command: m.SpaceCommand) -> None:
        """Send a command."""

    @abstractmethod
    def close(self) -> None:
        """Be gone."""


# ---------------------------------------------------------------------- bpinit


class Relay:
    """In place of the machine, in bpinit: asks the one in the test what to say."""

    deadline_ms = None

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._carried_out = True

    def handle(self, event: Any, now_ms: int) -> Iterator[Any]:
        """Hand the event over, and return the answer."""
        assert self._carried_out, f"told of {event} before all that it has said was carried out"
        send(self._connection, event)
        return self._say(receive(self._connection))

    def _say(self, items: list[Any]) -> Iterator[Any]:
        self._carried_out = False
        yield from items
        self._carried_out = True

    def payer(self, command: m.SpaceCommand) -> None:
        """Nobody's command waits for a turn."""


def send(connection: socket.socket, value: object) -> None:
    """Send a value to the other end of a pair."""
    data = pickle.dumps(value)
    connection.sendall(struct.pack("I", len(data)) + data)


def receive(connection: socket.socket) -> Any:
    """Take a value; EOFError if the other end is gone."""
    (size,) = struct.unpack("I", take(connection, 4))
    return pickle.loads(take(connection, size))


def take(connection: socket.socket, size: int) -> bytes:
    """Take so many bytes."""
    data = b""
    while len(data) < size:
        if not (part := connection.recv(size - len(data))):
            raise EOFError("bpinit has ended")
        data += part
    return data


class RealSpaceRig(SpaceRig):
    """A bpinit in a process of its own, without a namespace."""

    words = {  # noqa: RUF012
        WRITES[0]: [b"printf", b"0123456789"],
        WRITES_ON[0]: [b"cat", b"/dev/zero"],
        READS[0]: [b"sh", b"-c", b"cat > /dev/null"],
        LEAVES[0]: [b"sh", b"-c", b"sleep 1000 & exit 0"],
        SPEAKS[0]: [b"sh", b"-c", b"echo cmd=init >&3; read line <&3; echo cmd=put >&3; exec sleep 1000"],
    }

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.mkdtemp(prefix="heorot-shell-")
        self._path = os.path.join(self._directory, "init.sock")
        listener = listen(self._path)
        self._relay, theirs = socket.socketpair()
        self._pokes, pokes = socket.socketpair()
        self._agents: list[RealAgent] = []
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            self._be_bpinit(listener, theirs, pokes, parent)
        for end in (listener, theirs, pokes):
            end.close()

    def _be_bpinit(self, listener: socket.socket, relay: socket.socket, pokes: socket.socket, parent: int) -> NoReturn:
        try:
            from heorot.bpinit.daemon import SpaceDaemon

            self._relay.close()
            self._pokes.close()
            config = e.SpaceConfig(node=0, incarnation=7, init_pid=os.getpid(), marker="shells", die_with_parent=True)
            daemon: Any = SpaceDaemon(config, listener, os.pidfd_open(parent))
            machine: Any = Relay(relay)
            daemon._space = daemon._wanted._space = machine
            daemon._watcher.add(pokes.fileno(), lambda fd, subject: daemon._do(receive(pokes)), None)
            daemon.loop()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def poke(self, poke: Poke) -> None:
        send(self._pokes, poke)
        self.until(lambda: self.machine.poked > poke.number)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"not in time; the last it was told: {self.machine.events[-5:]}"
            for agent in self._agents:
                agent.take()
            if select.select([self._relay], [], [], 0.02)[0]:
                send(self._relay, list(self.machine.handle(receive(self._relay), 0)))

    def settle(self) -> None:
        for _ in range(5):
            self.do()

    def agent(self) -> SpaceAgent:
        self._agents.append(RealAgent(self._path))
        return self._agents[-1]

    def close(self) -> None:
        for agent in self._agents:
            agent.close()
        os.kill(self._pid, signal.SIGTERM)
        # Until it is gone it may have something to tell.
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                receive(self._relay)
                send(self._relay, [])
        os.waitpid(self._pid, 0)
        self._relay.close()
        self._pokes.close()
        shutil.rmtree(self._directory)


class RealAgent(SpaceAgent):
    """At the other end of bpinit's socket."""

    def __init__(self, path: str) -> None:
        self._received: list[m.SpaceAnswer] = []
        self._socket = connect_space(path)
        self._decoder = FrameDecoder()

    @property
    def received(self) -> list[m.SpaceAnswer]:
        """What has come."""
        return self._received

    def say(self, command: m.SpaceCommand) -> None:
        self._socket.sendall(encode_frame(m.encode(command)))

    def take(self) -> None:
        """Take what has come."""
        while self._socket.fileno() >= 0 and select.select([self._socket], [], [], 0)[0]:
            data = self._socket.recv(1 << 16)
            if not data:
                self.close()
            self._received += [m.decode_space_answer(frame) for frame in self._decoder.feed(data)]

    def close(self) -> None:
        self._socket.close()


# ---------------------------------------------------------------------- the simulators


class SpaceStage(Stage):
    """A cluster whose first node has a process space with a scripted machine, and an agent that says nothing."""

    def __init__(self, machine: object, agent: object) -> None:
        super().__init__(agent)
        self._space = machine

    def mutate(self, machine: Any) -> Any:
        """Put the scripted machines in."""
        return self._space if isinstance(machine, Space) else super().mutate(machine)


class VirtualSpaceRig(SpaceRig):
    """A node of the simulator."""

    words = {  # noqa: RUF012
        WRITES[0]: [b"count", b"1", b"10"],
        WRITES_ON[0]: [b"count", b"1000", b"10"],
        READS[0]: [b"read", b"0", b"0"],
        SPEAKS[0]: [b"mpi", b"0", b"100"],
        # One of those that leave something for some seconds.
        LEAVES[0]: [
            b"parent",
            next(b"%d" % v for v in range(0, 100, 2) if Random(f"{v} 0").choice((0, 0, 0, 6)) == 6),
            b"1",
        ],
    }

    def __init__(self) -> None:
        super().__init__()
        self._listener = Scripted()
        self.stage = SpaceStage(self.machine, self._listener)
        job = JobTruth(JOB, [0] * RANKS, True, {}, {}, inputs={-1: len(INPUT)}, inputs_ended={-1: True})
        self.stage.truth.jobs[JOB] = job
        self.host = self.stage.hosts[0]
        self.host.start_space()
        self.host.kill_agent()
        self.settle()
        self.machine.events.clear()

    @property
    def space(self) -> Any:
        """The host's process space."""
        return self.host.space

    def poke(self, poke: Poke) -> None:
        event: Any = poke
        self.space.tell(event)

    def until(self, condition: Callable[[], object]) -> None:
        until_us = self.stage.world.now_us + QUIET_US
        while not condition():
            assert self.stage.world.step(), "nothing more happens"
            assert self.stage.world.now_us < until_us, "the condition did not come true in time"

    def settle(self) -> None:
        self.stage.world.run_until(self.stage.world.now_us + QUIET_US, lambda: None)

    def agent(self) -> SpaceAgent:
        return VirtualAgent(self.host, self._listener)

    def close(self) -> None:
        pass


class VirtualAgent(SpaceAgent):
    """The agent of the same host."""

    def __init__(self, host: Any, listener: Scripted) -> None:
        self._host = host
        self._listener = listener
        host.start_agent()

    @property
    def received(self) -> list[m.SpaceAnswer]:
        """What has come."""
        return [m.decode_space_answer(event.payload) for event in self._listener.of(FromSpace)]

    def say(self, command: m.SpaceCommand) -> None:
        self._host.to_space(ToSpace(m.encode(command)))

    def close(self) -> None:
        self._host.kill_agent()


class TimedSpaceRig(SpaceRig):
    """A node of the simulator of launch times."""

    words = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.cluster = TimedCluster(1, 2, one_machine(2))
        self.init = self.cluster.nodes[0].init
        machine: Any = self.machine
        self.init.space = machine

    def poke(self, poke: Poke) -> None:
        self.init.process.give(self.init.turn, poke, 0)
        self.until(lambda: not self.init.process.scheduled)

    def until(self, condition: Callable[[], object]) -> None:
        timeline = self.cluster.timeline
        if not condition():
            timeline.run_until(timeline.now_ns + QUIET_NS, lambda: bool(condition()))
        assert condition(), "the condition did not come true in time"

    def settle(self) -> None:
        self.cluster.timeline.run_until(self.cluster.timeline.now_ns + QUIET_NS)

    def agent(self) -> SpaceAgent:
        raise NotImplementedError

    def close(self) -> None:
        pass
