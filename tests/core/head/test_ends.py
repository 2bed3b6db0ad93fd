"""What is shown of how a rank ended."""

from __future__ import annotations

import pytest

from heorot.core.head.ends import ExitedRank, LostRank, NeverRan, RankEnd
from heorot.core.wire.rows import RankStatus


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (ExitedRank(0, 5, 0), RankStatus(code=0)),
        (ExitedRank(42 << 8, 0, 0), RankStatus(code=42)),
        (ExitedRank(9, 0, 0), RankStatus(signal=9)),
        (ExitedRank(6 | 0x80, 0, 0), RankStatus(signal=6)),
        (NeverRan(2, "no such file"), RankStatus(code=127, error="no such file")),
        (NeverRan(13, "permission denied"), RankStatus(code=126, error="permission denied")),
        (LostRank(3, "n3 is down"), RankStatus(lost="n3 is down")),
    ],
)
def test_what_is_shown_of_an_end(end: RankEnd, status: RankStatus) -> None:
    assert end.status() == status
