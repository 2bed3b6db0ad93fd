"""What a ticket says of its job: which ranks are on which nodes, and which job is the later."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tickets
from heorot.core.wire.tree import encode
from tests.support.examples import example

chances = st.integers(0, (1 << 64) - 1).map(random.Random)
runs = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), max_size=8)


def of_one_each(ticket: tickets.Ticket, pairs: list[tuple[int, int]]) -> tickets.Ticket:
    """Return the ticket with one rank on each node of these runs."""
    spec = msgspec.structs.replace(ticket.spec, ranks=0, ranks_per_node=0)
    return msgspec.structs.replace(ticket, spec=spec, runs=[number for pair in pairs for number in pair])


@given(runs, chances)
def test_ranks_are_numbered_in_the_order_of_the_runs(pairs: list[tuple[int, int]], chance: random.Random) -> None:
    ticket = example(chance, tickets.Ticket)
    assert isinstance(ticket, tickets.Ticket)
    ticket = of_one_each(ticket, pairs)
    nodes = [first + index for first, count in pairs for index in range(count)]
    for node in range(52):
        assert tickets.ranks_on(ticket, node) == [rank for rank, at in enumerate(nodes) if at == node]


@given(runs, chances)
def test_the_nodes_of_a_ticket_are_those_of_its_runs(pairs: list[tuple[int, int]], chance: random.Random) -> None:
    ticket = example(chance, tickets.Ticket)
    assert isinstance(ticket, tickets.Ticket)
    ticket = of_one_each(ticket, pairs)
    nodes = {first + index for first, count in pairs for index in range(count)}
    assert NodeSet(tickets.nodes_of(ticket)) == NodeSet.of(nodes)


def test_jobs_are_ordered_by_epoch_and_then_by_number_and_not_as_words() -> None:
    jobs = ["10.1", "9.2", "9.10", "9.9"]
    assert sorted(jobs, key=tickets.job_order) == ["9.2", "9.9", "9.10", "10.1"]


def test_a_ticket_says_in_as_few_words_where_many_ranks_are() -> None:
    ticket = example(random.Random(1), tickets.Ticket)
    assert isinstance(ticket, tickets.Ticket)
    ticket = of_one_each(ticket, [(0, 64)])
    crowded = msgspec.structs.replace(ticket, spec=msgspec.structs.replace(ticket.spec, ranks_per_node=4))
    assert tickets.ranks_of(crowded) == 256
    assert tickets.ranks_on(crowded, 63) == [252, 253, 254, 255]
    assert len(encode(crowded)) == len(encode(ticket))
