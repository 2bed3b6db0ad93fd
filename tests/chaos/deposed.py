"""Pauses beyond the lease: what a head that wakes up after it was replaced does, and whether anybody obeys.

While the head is stopped, commands for it are put into the socket of a client that it knows: to start a job on all
nodes, to kill the sentinel on all nodes, and to kill the sentinel's processes by PID. When all nodes have seen the
next epoch, the head alone goes on, its keeper does not yet: for a moment nobody tells it that it was replaced, and
some agents are killed meanwhile, so that they look for a head just then. What the job would have done first, and
the sentinel's processes, show whether a command was obeyed.
"""

from __future__ import annotations

import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heorot import __version__
from heorot.core.client import messages as wire
from tests.chaos.faults import AgentsKilled
from tests.chaos.network import HeadHost, send_signal
from tests.chaos.rounds import HostsChaos
from tests.cluster.harness import await_that

ALONE_S = (0.3, 1.0)
"""How long the woken head is without its keeper."""
ANSWER_S = 10.0
REFUSALS = ("this node has seen", "has seen epoch")
"""What nodes and heads log when one of an older epoch speaks."""


@dataclass
class Pauses:
    """What the pauses have shown."""

    count: int = 0
    commands: int = 0
    """Given to heads that were replaced."""
    refused: int = 0
    """Of these, how many the head itself has refused."""
    unanswered: int = 0
    """How many it never answered: it was ended before."""
    acknowledged: list[str] = field(default_factory=list)
    """Which of them it has acknowledged, as (pause, command)."""
    obeyed: list[str] = field(default_factory=list)
    """What a node did for it."""


class _Friend:
    """A client that a head knows, and that goes on to no other head."""

    def __init__(self, head: HeadHost) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_S)
        self._socket.connect(str(head.host.directory / "head.sock"))
        self._reader = wire.MessageReader()
        self._socket.sendall(wire.encode(wire.client_hello(__version__)))
        assert self.read()[0][0] == "welcome"

    def say(self, *messages: list[object]) -> None:
        self._socket.sendall(b"".join(wire.encode(message) for message in messages))

    def read(self) -> list[list[Any]]:
        """Return what it says next; nothing: it is gone."""
        data = self._socket.recv(1 << 20)
        return self._reader.feed(data) if data else []

    def read_all(self) -> list[list[Any]]:
        """Return all that it says until it is gone."""
        found: list[list[Any]] = []
        with suppress(ConnectionError):
            while messages := self.read():
                found += messages
        return found

    def close(self) -> None:
        self._socket.close()


class PausedHeads:
    """Stops the active head of `chaos` beyond its lease, again and again; forbidden jobs leave files in `directory`."""

    def __init__(self, chaos: HostsChaos, directory: Path) -> None:
        self.seen = Pauses()
        self._chaos = chaos
        self._cluster = chaos.cluster
        self._directory = directory

    def pause(self) -> None:
        """Do it once."""
        chaos, cluster = self._chaos, self._cluster
        active = cluster.await_calm()
        epoch = active.epoch()
        friend = _Friend(active)
        head, pids = active.head_pid(), active.pids()
        forbidden = self._directory / f"forbidden-{self.seen.count}"
        struck_s = time.monotonic()
        send_signal(pids, signal.SIGSTOP)
        try:
            chaos.seen.times_s["host"].append(chaos.probe(active, struck_s, "PausedHead"))
            nodes = range(len(cluster.nodes))
            await_that(lambda: all(cluster.node_epoch(node) > epoch for node in nodes), "all nodes in the next epoch")
            commands = self._commands(forbidden)
            friend.say(*commands)
            send_signal([head], signal.SIGCONT)
            AgentsKilled(cluster, active, chaos.random).strike()
            time.sleep(chaos.random.uniform(*ALONE_S))
        finally:
            send_signal(pids, signal.SIGCONT)
        answers = friend.read_all()
        friend.close()
        self.seen.count += 1
        self._judge(commands, answers, forbidden)
        cluster.await_calm()
        chaos.check_sentinels()

    def _commands(self, forbidden: Path) -> list[list[object]]:
        processes = self._chaos.sentinel_pids
        script = f'echo "$HEOROT_JOB $HEOROT_RANK" >>{forbidden}'
        return [
            wire.spawn(
                1, nodes=f"0-{len(self._cluster.nodes) - 1}", select="list", argv=[b"/bin/sh", b"-c", script.encode()],
                environment=[], directory=b"/", umask=0o022, limits=[], stdin=None, stdout=None, stderr=None,
                terminal=[], detached=True, max_processes=0,
            ),
            wire.signal(2, self._chaos.sentinel, None, None, int(signal.SIGKILL)),
            wire.signal(3, None, None, processes, int(signal.SIGKILL)),
        ]  # fmt: skip

    def _judge(self, commands: list[list[object]], answers: list[list[Any]], forbidden: Path) -> None:
        seen = self.seen
        seen.commands += len(commands)
        requests = {answer[1]: answer for answer in answers if answer[0] in ("spawned", "signalled", "error")}
        for command in commands:
            answer = requests.get(command[1])
            if answer is None:
                seen.unanswered += 1
            elif answer[0] == "error":
                seen.refused += 1
            else:
                seen.acknowledged.append(f"pause {seen.count}: {command[0]} {answer!r}")
        if forbidden.exists():
            seen.obeyed.append(f"pause {seen.count}: {forbidden.read_text()!r}")

    def refusals(self) -> int:
        """Return how often nodes and heads have said that one of them is of an older epoch."""
        logs = "".join(host.logs() for host in self._cluster.network.hosts.values())
        return sum(logs.count(text) for text in REFUSALS)
