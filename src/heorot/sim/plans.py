"""What a virtual user is going to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heorot.sim.images import PROGRAM, VirtualImage


@dataclass(slots=True)
class UserPlan:
    """What a user is going to do; times in milliseconds after the job was acknowledged, -1: never."""

    nodes: str
    select: str
    argv: list[bytes]
    detached: bool
    stdin: bytes | None
    input_size: int = 0
    input_to: str = "all"
    """``all`` or ``ranks``."""
    leave_ms: int = -1
    """Close the connection without a word."""
    detach_ms: int = -1
    signal_ms: int = -1
    signal: int = 15
    attach_ms: int = -1
    """Come back and attach (for one who detached or left a detached job)."""
    stall_ms: int = 0
    """Consume nothing for so long."""
    query_ms: int = -1
    image: VirtualImage | None = None
    """What the job is started from; None: what the nodes have."""
    always_send: bool = False
    linger: bool = False
    mpi: bool = False
    time_limit_ms: int = 0
    ranks_per_node: int = 0

    def fields(self) -> dict[str, Any]:
        """Return what is said of the launch that not every launch says."""
        said: dict[str, Any] = {
            "linger": self.linger,
            "pmi": self.mpi,
            "time_limit_ms": self.time_limit_ms,
            "ranks_per_node": self.ranks_per_node,
        }
        if self.image is not None:
            program_id = b"" if self.always_send else self.image.program_id
            said |= {"image": self.image.image, "program": PROGRAM, "program_id": program_id}
        return said
