"""Jobs for the chaos runs: what each kind does is known to the last byte, so that nothing wrong goes unseen.

Every rank writes its number into a file of its job as its first act: a rank that was started twice is seen there.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from subprocess import PIPE
from time import sleep

from heorot.start import EXIT_REFUSED
from tests.cluster.harness import Cluster

JOB_DEADLINE_S = 180.0
CHATTY_ROUNDS, CHATTY_LINES = 8, 1_500
TICKS = 30
FEED_LINES = 20_000
FEED_PIECES = 20
FEED_PAUSE_S = 0.08

_START = 'echo "$HEOROT_RANK" >>"$1"; '
_AWK = (
    """awk -v r="$HEOROT_RANK" -v k="$k" -v n=%d """
    """'BEGIN { for (i = 0; i < n; i++) printf "%%d %%d %%d %%040d\\n", r, k, i, i * 7919 }'"""
)


@dataclass(frozen=True)
class Kind:
    """What the ranks of a job do; the expected output and statuses are functions of the rank."""

    name: str
    script: str
    output: Callable[[int], bytes] = lambda rank: b""
    status: Callable[[int], int] = lambda rank: 0
    feed: bytes = b""


def _chatty(rank: int) -> bytes:
    lines = [b"%d %d %d %040d\n" % (rank, k, i, i * 7919) for k in range(CHATTY_ROUNDS) for i in range(CHATTY_LINES)]
    return b"".join(lines)


_FEED = b"".join(b"%d %060d\n" % (i, i * 104_729) for i in range(FEED_LINES))

KINDS = [
    Kind("short", "exit $((HEOROT_RANK % 3))", status=lambda rank: rank % 3),
    Kind("true", ":"),
    Kind("silent", "sleep 2; exit 7", status=lambda rank: 7),
    Kind("killed", "kill -9 $$", status=lambda rank: 137),
    Kind(
        "chatty",
        f"k=0; while [ $k -lt {CHATTY_ROUNDS} ]; do {_AWK % CHATTY_LINES}; sleep 0.15; k=$((k + 1)); done; exit 3",
        output=_chatty,
        status=lambda rank: 3,
    ),
    Kind(
        "ticking",
        f'k=0; while [ $k -lt {TICKS} ]; do echo "tick $k of $HEOROT_RANK"; sleep 0.1; k=$((k + 1)); done',
        output=lambda rank: b"".join(b"tick %d of %d\n" % (k, rank) for k in range(TICKS)),
    ),
    Kind("fed", "cat; exit 4", output=lambda rank: _FEED, status=lambda rank: 4, feed=_FEED),
]


@dataclass
class Tally:
    """What was seen; filled by several threads."""

    jobs: Counter[str] = field(default_factory=Counter)
    ranks: int = 0
    checked_bytes: int = 0
    away: int = 0
    """Commands that were refused on a host that was down."""
    findings: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def found(self, text: str) -> None:
        """Note that something is wrong, and say so at once: a long run shall not have to be waited for."""
        with self.lock:
            self.findings.append(text)
        print(f"{datetime.now():%H:%M:%S.%f} found: {text}", file=sys.stderr, flush=True)


class Worker(threading.Thread):
    """A user who runs one job after the other, through bpsh, until told to stop."""

    def __init__(
        self,
        cluster: Cluster,
        nodes: int,
        number: int,
        seed: int,
        directory: Path,
        tally: Tally,
        is_down: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(name=f"worker-{number}")
        self._is_down = is_down
        """Whether nothing runs just now on the host where this user types."""
        self._cluster = cluster
        self._nodes = nodes
        self._number = number
        self._random = Random(f"{seed} {number}")
        self._directory = directory
        self._tally = tally
        self.stopping = threading.Event()

    def run(self) -> None:
        """Run jobs."""
        count = 0
        while not self.stopping.is_set():
            kind = self._random.choice(KINDS)
            count += 1
            try:
                self._one(kind, f"{self._number}-{count}-{kind.name}")
            except Exception as error:
                self._tally.found(f"{kind.name}: {error!r}")
                return

    def _one(self, kind: Kind, name: str) -> None:
        width = self._random.randint(1, min(5, self._nodes))
        first = self._random.randint(0, self._nodes - width)
        starts = self._directory / name
        options = ["-p"] if kind.feed else ["-p", "-n"]
        arguments = [
            *options,
            f"{first}-{first + width - 1}",
            "/bin/sh",
            "-c",
            _START + kind.script,
            "chaos",
            str(starts),
        ]
        with self._cluster.start("bpsh", *arguments, stdin=PIPE) as process:
            feeder = threading.Thread(target=_feed, args=(process.stdin, kind.feed))
            feeder.start()
            # `communicate` would write to stdin itself: what it does for the others, threads do here.
            assert process.stdout is not None
            assert process.stderr is not None
            errors: list[bytes] = []
            stderr = process.stderr
            listener = threading.Thread(target=lambda: errors.append(stderr.read()))
            listener.start()
            watchdog = threading.Timer(JOB_DEADLINE_S, process.kill)
            watchdog.start()
            output = process.stdout.read()
            status = process.wait()
            watchdog.cancel()
            feeder.join()
            listener.join()
        self._check(kind, name, range(first, first + width), status, output, b"".join(errors))

    def _check(self, kind: Kind, name: str, nodes: range, status: int, output: bytes, errors: bytes) -> None:
        starts = self._directory / name
        started = Counter(starts.read_text().split()) if starts.exists() else Counter[str]()
        wrong = []
        if twice := [rank for rank, count in started.items() if count > 1]:
            wrong.append(f"ranks {twice} were started more than once")
        if status == EXIT_REFUSED and not started and b"no head is running" in errors and self._is_down():
            with self._tally.lock:
                self._tally.away += 1
            return
        expected = max(kind.status(rank) for rank in range(len(nodes)))
        if status != expected:
            wrong.append(f"status {status}, not {expected}")
        if len(started) != len(nodes):
            wrong.append(f"{len(started)} of {len(nodes)} ranks were started")
        shown: dict[int, list[bytes]] = {node: [] for node in nodes}
        for line in output.splitlines(keepends=True):
            prefix, _, text = line.partition(b": ")
            shown[int(prefix)].append(text)
        for rank, node in enumerate(nodes):
            got, want = b"".join(shown[node]), kind.output(rank)
            if got != want:
                wrong.append(f"rank {rank} wrote {len(want)} bytes, {len(got)} arrived{_difference(got, want)}")
        tally = self._tally
        with tally.lock:
            tally.jobs[kind.name] += 1
            tally.ranks += len(nodes)
            tally.checked_bytes += len(output)
        if wrong:
            tally.found(f"{name} on {nodes}: {'; '.join(wrong)}; it said {errors.decode(errors='replace')!r}")
        starts.unlink(missing_ok=True)


def _difference(got: bytes, want: bytes) -> str:
    at = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), min(len(got), len(want)))
    return f", the first difference at byte {at}"


def _feed(stdin: object, data: bytes) -> None:
    """Write input slowly, so that it is on its way while heads come and go."""
    size = len(data) // FEED_PIECES + 1
    try:
        for start in range(0, len(data), size):
            stdin.write(data[start : start + size])  # type: ignore[attr-defined]
            sleep(FEED_PAUSE_S)
        stdin.close()  # type: ignore[attr-defined]
    except BrokenPipeError:
        pass
