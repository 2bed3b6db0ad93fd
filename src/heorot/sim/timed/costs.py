"""What things cost in CPU time: measured on real clusters by ``python -m bench.costs``, which prints this table.

A daemon's CPU time for a launch is taken to be linear in what it does: so much for the launch itself, for each message
that it takes or sends, for each KiB of them, and for each rank whose start and end it handles or passes on. The four
coefficients are a non-negative least squares fit over clusters of 64 and 256 nodes with different fan-outs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DaemonCosts:
    """CPU time of one kind of daemon, in microseconds."""

    launch_us: float
    """For each launch: at the head from the client's request to the signed ticket, at an agent the check of it."""
    message_us: float
    """For each message, taken or sent: wake-up, system call, TLS, coding, and what the machine does with it."""
    kib_us: float
    """For each KiB of messages, taken or sent."""
    rank_us: float
    """For each rank: in a report that is taken; at bpinit for its start and its end."""


@dataclass(frozen=True, slots=True)
class Costs:
    """All that the model needs to know, in microseconds."""

    head: DaemonCosts
    agent: DaemonCosts
    init: DaemonCosts
    process_us: float
    """The CPU time of `/bin/true` itself."""
    client_before_us: float
    """`bpsh` from its start until its request is sent."""
    client_after_us: float
    """The rest of it, most of which it does while the cluster works."""
    client_end_us: float
    """What of the rest is left when the last status has come."""
    hop_us: float
    """From one process's send to the other's receipt on the same machine."""
    chunk_in_us: float
    """For each KiB of an image's chunk that comes: TLS, check of the digest, write into the cache."""
    chunk_out_us: float
    """For each KiB of a chunk that is sent: read from the cache, TLS."""


START_SHARE = 2 / 3
"""Of what a rank costs bpinit: so much for its start, and the rest for its end."""

MEASURED = Costs(
    head=DaemonCosts(launch_us=917, message_us=25.6, kib_us=1.73, rank_us=10.2),
    agent=DaemonCosts(launch_us=538, message_us=48.3, kib_us=0.52, rank_us=0),
    init=DaemonCosts(launch_us=334, message_us=110, kib_us=0, rank_us=209),
    process_us=707,
    client_before_us=29_700,
    client_after_us=0,
    client_end_us=0,
    hop_us=20,
    chunk_in_us=1.65,
    chunk_out_us=0.9,
)
"""On a 2-core virtual machine that other programs used at the same time, which makes everything dearer: so what is
predicted is rather too long."""


class TimedUsage:
    """What a daemon did so far, and what that costs."""

    __slots__ = ("launches", "messages", "ranks", "sent", "size_bytes")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.launches = self.messages = self.ranks = self.sent = self.size_bytes = 0

    def row(self) -> list[float]:
        """Return the quantities in the order of the fields of `DaemonCosts`."""
        return [self.launches, self.messages, self.size_bytes / 1024, self.ranks]


def load(path: Path) -> Costs:
    """Read the file that ``python -m bench.costs`` writes.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is no such file.
    """
    try:
        values = json.loads(path.read_text())["costs"]
        daemons = {name: DaemonCosts(**values.pop(name)) for name in ("head", "agent", "init")}
        return Costs(**{**values, **daemons})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what 'python -m bench.costs' writes: {error}") from error


def as_json(costs: Costs) -> dict[str, object]:
    """Return the form in which costs are written to a file."""
    return asdict(costs)
