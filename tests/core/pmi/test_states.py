"""How far ranks come with PMI."""

from __future__ import annotations

import pytest

from heorot.core.pmi import states as s
from heorot.core.pmi.rank import PmiRank
from heorot.core.pmi.states import PmiChange
from heorot.core.states import ImpossibleStep


@pytest.mark.parametrize(
    ("changes", "state", "owes"),
    [
        ([PmiChange.NONSENSE], s.MUTE, False),
        ([PmiChange.INIT, PmiChange.ENTERED, PmiChange.NONSENSE], s.CUT, True),
        ([PmiChange.INIT, PmiChange.ENTERED, PmiChange.OPENED], s.INSIDE, True),
        ([PmiChange.INIT, PmiChange.FINALIZED], s.LEFT, False),
        ([PmiChange.INIT, PmiChange.FINALIZED, PmiChange.INIT], s.INSIDE, True),
    ],
)
def test_who_was_inside_owes_its_job_a_last_word(changes: list[PmiChange], state: s.PmiState, owes: bool) -> None:
    rank = PmiRank(3)
    for change in changes:
        s.PMI_RANK.step(rank, change)
    assert rank.state is state
    assert (rank.state in s.OWES_FINALIZE) == owes


def test_who_is_cut_off_does_nothing_more() -> None:
    rank = PmiRank(3)
    s.PMI_RANK.step(rank, PmiChange.NONSENSE)
    with pytest.raises(ImpossibleStep, match="rank 3 is mute"):
        s.PMI_RANK.step(rank, PmiChange.INIT)
