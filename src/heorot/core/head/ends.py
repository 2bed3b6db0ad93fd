"""How a rank ended, as its head knows it and tells a client."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from heorot.core.wire.clients import Exited, ExitedAlike
from heorot.core.wire.node_runs import runs_of
from heorot.core.wire.rows import RankStatus

MESSAGES_OF_ENDS = 4
"""Ranks of one report that ended in more different ways are told to the client in one long message."""


class ExitedRank(Struct, frozen=True, gc=False):
    """The rank's process has ended: the status of wait(2) and how much it wrote."""

    wait_status: int
    stdout_bytes: int
    stderr_bytes: int

    def status(self) -> RankStatus:
        """Return what is shown of it."""
        signal = self.wait_status & 0x7F
        return RankStatus(signal=signal) if signal else RankStatus(code=self.wait_status >> 8 & 0xFF)


class NeverRan(Struct, frozen=True, gc=False):
    """The rank's process could not be started."""

    error: int
    text: str

    def status(self) -> RankStatus:
        """Return what is shown of it: the code is the one that a shell gives."""
        return RankStatus(code=127 if self.error == 2 else 126, error=self.text)


class LostRank(Struct, frozen=True, gc=False):
    """The rank's node is gone, and its status with it."""

    node: int
    text: str

    def status(self) -> RankStatus:
        """Return what is shown of it."""
        return RankStatus(lost=self.text)


RankEnd: TypeAlias = ExitedRank | NeverRan | LostRank


def all_alike(*columns: list[int]) -> bool:
    """Say whether each column holds one value only; none is empty."""
    return all(column.count(column[0]) == len(column) for column in columns)


def exits_of(job: str, exited: list[int]) -> Exited | ExitedAlike:
    """Return the message that tells a client how ranks ended, given as in `Exited`.

    Most ranks of most jobs end in the same way, and what the head sends should not grow with their number.
    """
    if len(exited) > 4 and all_alike(exited[1::4], exited[2::4], exited[3::4]):
        return ExitedAlike(job, runs_of(sorted(exited[0::4])), exited[1], exited[2], exited[3])
    return Exited(job, exited)


def exits_alike(job: str, alike: dict[tuple[int, int, int], list[int]]) -> list[Exited | ExitedAlike]:
    """Return the messages that tell a client how runs of ranks (first, count) ended, given by how they did."""
    if len(alike) <= MESSAGES_OF_ENDS:
        return [ExitedAlike(job, runs, *how) for how, runs in alike.items()]
    exited: list[int] = []
    for how, runs in alike.items():
        for index in range(0, len(runs), 2):
            for rank in range(runs[index], runs[index] + runs[index + 1]):
                exited += (rank, *how)
    return [Exited(job, exited)]
