"""What the head tells a client of a job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.head.ends import ExitedRank, LostRank
from heorot.core.head.job import HeadJob, cut_short
from heorot.core.head.rank_places import RankPlaces
from heorot.core.head.states import PENDING
from heorot.core.tree.nodeset import NodeSet
from tests.core.rigs import ticket

LONG = b"x" * 10_000
RUNS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("argv", "listed"),
    [
        ([b"echo", b"a"], [b"echo", b"a"]),
        ([LONG], [b"x" * 4095, b"..."]),
        ([b"a", LONG, b"b"], [b"a", b"x" * 4093, b"..."]),
        ([b"x" * 4095, b"", b"b"], [b"x" * 4095, b"", b"..."]),
    ],
)
def test_a_listed_command_line_is_cut(argv: list[bytes], listed: list[bytes]) -> None:
    assert cut_short(argv) == listed


@given(RUNS, st.data())
def test_a_node_is_pending_until_something_was_heard_of_each_of_its_ranks(
    flat: list[tuple[int, int]], data: st.DataObject
) -> None:
    runs = [value for run in flat for value in run]
    job = HeadJob(ticket("1.1", runs), RankPlaces(runs), False, 0)
    ranks = len(job.nodes)
    # Each step is taken or refused as a whole: what arrives twice, or late, changes nothing.
    for _ in range(data.draw(st.integers(0, 12))):
        rank = data.draw(st.integers(0, ranks - 1))
        what = data.draw(st.sampled_from(["start", "start_run", "start_all", "end_run", "end", "lose"]))
        if what == "start":
            job.start(rank, 100)
        elif what == "start_run":
            job.start_run(rank, [100] * data.draw(st.integers(1, ranks - rank)))
        elif what == "start_all":
            some = data.draw(st.lists(st.integers(0, ranks - 1), min_size=1))
            job.start_all(some, [100] * len(some))
        elif what == "end_run":
            job.end_run(rank, 1, ExitedRank(0, 0, 0))
        elif what == "end":
            job.end(rank, ExitedRank(0, 0, 0))
        else:
            job.end(rank, LostRank(job.nodes[rank], "gone"))
        pending = [node for node, state in zip(job.nodes, job.states, strict=True) if state == PENDING]
        assert job.pending_mask == NodeSet.of(pending).mask
        assert job.lacks_starts == bool(pending)
