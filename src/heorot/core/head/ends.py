"""How a rank ended, as its head knows it."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from heorot.core.wire.rows import RankStatus


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
