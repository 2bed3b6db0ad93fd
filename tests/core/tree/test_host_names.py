"""Host names of nodes: what may be one, and lists of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import NodeListError
from heorot.core.tree.host_names import MAX_NAME, expand_names, fold_names, host_name_problem, short_name
from heorot.core.tree.nodelist import NODE_STATES, NodeView, parse
from heorot.core.tree.nodeset import NodeSet

MOST = 1000


@pytest.mark.parametrize(
    "name",
    ["c0", "c0-3", "rack1-c05.example.org", "3com", "n5a", "node7", "ups", "x", "a_b", "n" * MAX_NAME, "notable"],
)
def test_is_a_host_name(name: str) -> None:
    assert host_name_problem(name, NODE_STATES) == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "letters"),
        ("n" * (MAX_NAME + 1), "at most 64"),
        ("C0", "letters"),
        ("c 0", "letters"),
        ("c0\n10.0.0.1 c1", "letters"),
        ("c0,c1", "letters"),
        ("c[0-3]", "letters"),
        ("-c0", "letters"),
        ("c0-", "letters"),
        ("c0..x", "letters"),
        ("c\u0660", "letters"),
        ("@c0", "letters"),
        ("7", "number of a node"),
        ("n7", "number of a node"),
        ("n007", "number of a node"),
        ("n-1", "number of a node"),
        ("0-3", "number of a node"),
        ("n0-n3", "number of a node"),
        ("n0-3", "number of a node"),
        ("all", "another meaning"),
        ("master", "another meaning"),
        ("self", "another meaning"),
        ("localhost", "another meaning"),
        ("localhost.localdomain", "another meaning"),
        ("up", "a state"),
        ("notup", "a state"),
        ("alldown", "a state"),
        ("allnoterror", "a state"),
    ],
)
def test_is_no_host_name(name: str, why: str) -> None:
    assert why in host_name_problem(name, NODE_STATES)


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], ""),
        (["c1"], "c1"),
        (["c2", "c0", "c1", "c1"], "c[0-2]"),
        (["c8", "c9", "c10"], "c[8-10]"),
        (["c08", "c09", "c10", "c12"], "c[08-10,12]"),
        (["c08", "c8", "c10"], "c8,c[08,10]"),
        (["c08", "c008", "c10", "c100"], "c[08,10],c[008,100]"),
        (["rack1-c05.site", "rack1-c06.site", "rack2-c05.site"], "rack1-c[05-06].site,rack2-c05.site"),
        (["login", "c0"], "c0,login"),
        # A bracket at the beginning, or behind an n, is one of numbers.
        (["3com", "4com", "n5a", "n6a"], "3com,4com,n5a,n6a"),
    ],
)
def test_folds(names: list[str], folded: str) -> None:
    assert fold_names(names) == folded


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("c7", ["c7"]),
        ("c[0-2]", ["c0", "c1", "c2"]),
        ("c[2,0]", ["c2", "c0"]),
        ("c[08-10]", ["c08", "c09", "c10"]),
        ("c[1-9/4]", ["c1", "c5", "c9"]),
        ("r[1-2]c[0-1].x", ["r1c0.x", "r1c1.x", "r2c0.x", "r2c1.x"]),
        ("c[ 1 , 3 ]", ["c1", "c3"]),
    ],
)
def test_expands(pattern: str, names: list[str]) -> None:
    assert expand_names(pattern, MOST) == names


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("c[0-3", "not closed"),
        ("c[0[1]]", "not closed"),
        ("c[]", "no number"),
        ("c[3-]", "no number"),
        ("c[a-b]", "no number"),
        ("c[\u0660]", "no number"),
        ("c[3-1]", "backwards"),
        ("c[1-9/0]", "at least 1"),
        ("c[0-1000]", "more than 1000"),
        ("c[0-999999999999999999]", "more than 1000"),
        ("c[0-99]d[0-99]", "more than 1000"),
        ("c" + "[0]" * 100, "at most 64"),
        ("c" * 100_000 + "[0-9]", "at most 64"),
        ("c[" + "9" * 19 + "]", "no number"),
    ],
)
def test_does_not_expand(pattern: str, complaint: str) -> None:
    with pytest.raises(NodeListError, match=complaint) as caught:
        expand_names(pattern, MOST)
    assert len(str(caught.value)) < 200


HOST_NAMES = st.from_regex(
    re.compile(r"[a-z0-9][a-z0-9-]{0,5}[0-9]{0,3}[a-z]?(\.[a-z0-9]{1,3})?"), fullmatch=True
).filter(lambda name: not host_name_problem(name, NODE_STATES))


@given(st.lists(HOST_NAMES, unique=True, max_size=40))
def test_what_is_folded_is_read_as_what_it_was(names: list[str]) -> None:
    view = NodeView(known=NodeSet.of(range(len(names))), hosts={name: node for node, name in enumerate(names)})
    assert sorted(parse(fold_names(names), view)) == list(range(len(names)))
    for node, name in enumerate(names):
        assert parse(name, view) == [node]
        assert parse(f"all!{name.upper()}", view) == [other for other in range(len(names)) if other != node]


@given(st.text(max_size=80))
def test_whatever_a_host_calls_itself_what_is_accepted_means_nothing_else(name: str) -> None:
    if host_name_problem(name, NODE_STATES):
        return
    nobody = NodeView(known=NodeSet.of(range(3)))
    with pytest.raises(NodeListError):
        parse(name, nobody)
    assert parse(name, NodeView(known=NodeSet.of(range(3)), hosts={name: 2})) == [2]


def test_a_name_without_its_domain() -> None:
    assert [short_name(name) for name in ("c0.example.org", "c0")] == ["c0", "c0"]
