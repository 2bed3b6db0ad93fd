"""The measurement: every peer has a turn in each round, and all are ended when it is over."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.cluster import BenchError
from bench.peers import processes
from bench.peers.peer import CALL_LIMIT_S, CAT, Peer, PeerError, Place
from bench.peers.results import COPY_AGAIN, COPY_NEW, OUTPUT, TRUE, Attempt, Found, Row, Work

WARM_RUNS = 2
CHECKS = 3
CHECK_BYTES = 64
LINE = b"0123456789" * 6 + b"abc\n"
"""64 bytes: what peers that read lines are made for."""
WRONG = (OSError, ValueError, KeyError, AssertionError, BenchError, subprocess.SubprocessError)
"""What a peer whose programs died may raise beside `PeerError`: its row tells of it, and the others go on."""
Say = Callable[[str], None]


class Turns:
    """A number of nodes, and the peers that are up with as many."""

    def __init__(
        self, found: Found, nodes: int, directory: Path, say: Say, settle: Callable[[list[Peer], int], None]
    ) -> None:
        self._found = found
        self._nodes = nodes
        self._directory = directory
        self._say = say
        self._settle = settle
        self._up: list[tuple[Peer, Row]] = []
        self._late: set[tuple[str, str]] = set()

    def begin(self, peers: Sequence[tuple[Peer, Row]], python: str) -> None:
        """Start each peer that is to be had and is meant for so many nodes; one that does not start is said."""
        for peer, row in peers:
            if row.absent:
                continue
            if self._nodes > peer.most_nodes:
                for work in self._works():
                    row.without[work.key] = peer.most_nodes_because
                continue
            self._say(f"{self._nodes} nodes: {peer.name}")
            # It is stopped at the end even if it is up by half.
            self._up.append((peer, row))
            try:
                peer.begin(self._nodes, Place(self._directory / f"{peer.key}-{self._nodes}", python))
                self._check(peer)
            except (PeerError, *WRONG) as error:
                problem = str(error) if isinstance(error, PeerError) else f"did not start: {type(error).__name__}"
                self._say(f"{peer.name}: {problem}: {getattr(error, 'said', '') or error}")
                self._leave(peer, row, problem)

    def _works(self) -> list[Work]:
        return [work for work in self._found.works if work.nodes == self._nodes]

    def _leave(self, peer: Peer, row: Row, problem: str) -> None:
        """Take a peer out; if it has never worked, its row says why and no more."""
        if not row.attempts:
            row.absent = problem
        else:
            row.without |= {work.key: problem for work in self._works() if work.kind in peer.kinds}
        self._up.remove((peer, row))
        self._stop(peer)

    def _check(self, peer: Peer) -> None:
        """Run something small on all nodes, whose output shows that all ran it; some peers fail now and then."""
        problem = said = ""
        for _ in range(CHECKS):
            attempt = peer.run([CAT, str(self._file(CHECK_BYTES))], CHECK_BYTES * self._nodes)
            problem, said = attempt.problem, attempt.said
            if not problem:
                return
        raise PeerError(f"did not work: {problem}", said)

    def _file(self, size: int) -> Path:
        path = self._directory / f"lines-{size}"
        if not path.exists():
            path.write_bytes(LINE * (size // len(LINE)))
        return path

    def measure(self, rounds: int) -> None:
        """Give everybody a turn in each round, beginning with another one each time."""
        self._memory(fresh=True)
        for work in self._works():
            if work.kind == COPY_AGAIN:
                continue  # A turn at copying is both.
            self._say(f"{self._nodes} nodes: {work.kind}, {rounds} rounds")
            for number in range(-1, rounds):
                for peer, row in rotated(self._up, number):
                    if work.kind in peer.kinds and (peer.key, work.kind) not in self._late:
                        self._turn(peer, row, work, number)
        self._memory(fresh=False)

    def _turn(self, peer: Peer, row: Row, work: Work, number: int) -> None:
        """One turn; those before the first round only warm up and are not kept."""
        for _ in range(WARM_RUNS if number < 0 and work.kind == TRUE else 1):
            self._settle([other for other, _ in self._up], self._nodes)
            for does, attempt in self._attempts(peer, work, number):
                if attempt.problem:
                    self._say(f"{peer.name}, {does.key}: {attempt.problem}: {attempt.said}")
                late = attempt.elapsed_s >= CALL_LIMIT_S
                if late:
                    self._late.add((peer.key, work.kind))
                    row.without[does.key] = "no more turns after one that was not over in time"
                if number >= 0 or late:
                    row.add(does, attempt)

    def _attempts(self, peer: Peer, work: Work, number: int) -> Iterator[tuple[Work, Attempt]]:
        start = time.perf_counter()
        try:
            if work.kind == TRUE:
                yield work, peer.run(["/bin/true"], 0)
            elif work.kind == OUTPUT:
                size = self._found.output_bytes
                yield work, peer.run([CAT, str(self._file(size))], size * self._nodes)
            else:
                yield from self._copies(peer, number)
        except (PeerError, *WRONG) as error:
            yield work, Attempt(time.perf_counter() - start, f"raised {type(error).__name__}", str(error))

    def _copies(self, peer: Peer, number: int) -> Iterator[tuple[Work, Attempt]]:
        """Copy a file that nobody has, and the same once more; look at it each time."""
        source, target = peer.place.directory / "source", peer.place.directory / "target"
        data = random.Random(f"{peer.key} {number}").randbytes(self._found.copy_bytes)
        source.write_bytes(data)
        try:
            for kind in (COPY_NEW, COPY_AGAIN):
                attempt = peer.copy(source, target)
                if not attempt.problem and not all(_holds(path, data) for path in peer.targets(target)):
                    attempt = Attempt(attempt.elapsed_s, "the copy differs from the file")
                yield Work(kind, self._nodes), attempt
                if attempt.problem:
                    return
        finally:
            for path in [source, *peer.targets(target)]:
                path.unlink(missing_ok=True)

    def _memory(self, fresh: bool) -> None:
        """Note what a node of each peer holds, the mean of all, at the number of nodes at which that is asked for."""
        if self._nodes != self._found.works[0].nodes:
            return
        for peer, row in self._up:
            with suppress(*WRONG):
                if pids := peer.daemon_pids():
                    mean = processes.pss_bytes(pid for node in pids for pid in node) / len(pids)
                    if fresh:
                        row.fresh_bytes = mean
                    else:
                        row.warm_bytes = mean

    def end(self) -> None:
        """Stop all peers, the last first."""
        while self._up:
            self._stop(self._up.pop()[0])

    def _stop(self, peer: Peer) -> None:
        try:
            peer.stop()
        except Exception as error:
            self._say(f"{peer.name} did not stop by itself: {error}")


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def settle(peers: list[Peer], nodes: int) -> None:
    """Let pass what comes after a launch, and collect what a peer left to this process."""
    processes.reap(process for peer in peers for process in peer.running)
    time.sleep(0.4 + nodes / 2000)


def rotated(items: Sequence[tuple[Peer, Row]], by: int) -> list[tuple[Peer, Row]]:
    """Return them beginning with another one for each number."""
    if not items:
        return []
    start = by % len(items)
    return [*items[start:], *items[:start]]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let nobody interrupt what ends the peers."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def load_average() -> float:
    """Return how many processes wanted to run, over the last minute."""
    return os.getloadavg()[0]
