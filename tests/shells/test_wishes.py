"""What is wanted of nodes: a shell answers for each that it was given, in order, when it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from heorot.core.wire.wishes import KeepWishes, NodeWish, WishesKept
from heorot.security.wishes import WishFile
from tests.shells.rigs import Rig


@pytest.mark.parametrize("rig", ["daemon-of-a-head"], indirect=True)
def test_each_is_answered_in_order_and_is_there_for_the_next_head(rig: Rig, tmp_path: Path) -> None:
    former, newer = NodeWish(3, 1, 1, "drain", "fan"), NodeWish(3, 1, 2, "error")
    rig.do(KeepWishes(1, (former, NodeWish(4, 1, 1))), KeepWishes(2, (newer,)))
    rig.until(lambda: len(rig.machine.of(WishesKept)) == 2)
    assert rig.machine.of(WishesKept) == [WishesKept(1), WishesKept(2)]
    assert WishFile(tmp_path).content() == {3: newer, 4: NodeWish(4, 1, 1)}
