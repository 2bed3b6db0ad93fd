"""What a list means where some nodes are on hosts of heads."""

from __future__ import annotations

import pytest

from heorot.core.tree.node_view import NodeView
from heorot.core.tree.nodelist import parse, parse_noting
from heorot.core.tree.nodeset import NodeSet

MASTERS = NodeView(
    known=NodeSet.of(range(7)),
    states={0: "up", 1: "up", 2: "down", 3: "up", 4: "up", 5: "down", 6: "up"},
    groups={"rack": "2-4", "wide": "all", "open": "0-"},
    masters=NodeSet.of([3, 5]),
    master=3,
)


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("master", [3]),
        ("-1,n0", [3, 0]),
        ("self", [3]),
        # words that name nobody append none of them
        ("all", [0, 1, 2, 4, 6]),
        ("up", [0, 1, 4, 6]),
        ("notup", [2]),
        ("!n0", [1, 2, 4, 6]),
        ("!!all", [0, 1, 2, 4, 6]),
        ("2-", [2, 4, 6]),
        ("n[3-],n[1,3-]", [4, 6, 1, 4, 6]),
        ("4-/2", [4, 6]),
        ("n0^all", [1, 2, 4, 6]),
        ("@wide", [0, 1, 2, 4, 6]),
        ("@open,all", [0, 1, 2, 4, 6] * 2),
        ("all,master", [0, 1, 2, 4, 6, 3]),
        # where they are named they stay, and go like others
        ("n5,2-4", [5, 2, 3, 4]),
        ("n[0-6]&up", [0, 1, 3, 4, 6]),
        ("n[0-6]!up", [2, 5]),
        ("n[3,5]!down", [3]),
        ("master!up", []),
        ("0-6!master", [0, 1, 2, 4, 5, 6]),
        ("!master", [0, 1, 2, 4, 6]),
        ("@rack", [2, 3, 4]),
        ("@*", [0, 1, 2, 3, 4, 5, 6]),
        ("@state:down", [2, 5]),
        ("@*!down", [0, 1, 3, 4, 6]),
    ],
)
def test_nodes_on_hosts_of_heads_are_meant_where_they_are_named(text: str, nodes: list[int]) -> None:
    assert parse(text, MASTERS) == nodes


def test_a_list_says_whether_it_depends_on_who_leads() -> None:
    assert [parse_noting(text, MASTERS).by_leader for text in ("n3", "master", "all!-1", "@rack")] == [
        False, True, True, False,
    ]  # fmt: skip
