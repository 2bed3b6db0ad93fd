"""The language of node lists: a table of examples, ClusterShell's operators against sets, and hostile texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import NodeListError
from heorot.core.tree.nodelist import MAX_ENTRIES, MAX_TEXT, NodeView, fold, parse, parse_noting
from heorot.core.tree.nodeset import NodeSet

STATES = {0: "up", 1: "up", 2: "down", 3: "error", 4: "up", 6: "draining"}
VIEW = NodeView(
    known=NodeSet.of([0, 1, 2, 3, 4, 6]),
    states=STATES,
    groups={
        "left": "0-2",
        "right": "@left^all",
        "both": "@left,@right",
        "self": "@self",
        "bad": "n9",
        "empty": "",
        "broken": "3-1",
        "site:a": "0-1",
        "site:b": "1-2",
    },
)
ALL = [0, 1, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        # BProc's words
        ("0", [0]),
        ("n3", [3]),
        (".4", [4]),
        ("0-2", [0, 1, 2]),
        ("n0-n2", [0, 1, 2]),
        (".0-.2", [0, 1, 2]),
        ("n0-2", [0, 1, 2]),
        ("3-", [3, 4, 6]),
        ("master", [-1]),
        ("-1", [-1]),
        ("n-1", [-1]),
        ("all", ALL),
        ("up", [0, 1, 4]),
        ("allup", [0, 1, 4]),
        ("notup", [2, 3, 6]),
        ("!up", [2, 3, 6]),
        ("allnotup", [2, 3, 6]),
        ("all!up", [2, 3, 6]),
        ("draining", [6]),
        ("boot", []),
        # order and repeats
        ("n0,n0", [0, 0]),
        ("3,0-1,3", [3, 0, 1, 3]),
        ("up,0", [0, 1, 4, 0]),
        ("master,all", [-1, *ALL]),
        # brackets
        ("n[0-2,6]", [0, 1, 2, 6]),
        ("[6,0]", [6, 0]),
        ("n[0-4/2]", [0, 2, 4]),
        ("n[0-6/3]", [0, 3, 6]),
        ("n[00-02]", [0, 1, 2]),
        ("n[3-]", [3, 4, 6]),
        # operators, from left to right
        ("n[0-4]!n[1-2]", [0, 3, 4]),
        ("n[0-4]&up", [0, 1, 4]),
        ("n[0-2]^n[2-3]", [0, 1, 3]),
        ("0,1,0!1", [0, 0]),
        ("0-4!up,0", [2, 3, 0]),
        ("n[0-4]!!up", [0, 1, 4]),
        ("!!up", [0, 1, 4]),
        ("0,!up", [0, 2, 3, 6]),
        ("!n3", [0, 1, 2, 4, 6]),
        # groups
        ("@left", [0, 1, 2]),
        ("@right", [3, 4, 6]),
        ("@both", ALL),
        ("@*", ALL),
        ("all!@left", [3, 4, 6]),
        ("!@left", [3, 4, 6]),
        ("@empty", []),
        ("@site:a,@site:b", [0, 1, 1, 2]),
        ("@site:*", [0, 1, 2]),
        ("@state:up", [0, 1, 4]),
        ("@state:notup&@left", [2]),
        # what a group names and is not there
        ("0,@bad", [0]),
        ("@bad,@left", [0, 1, 2]),
        # nothing, and air
        ("", []),
        (" n0 , n1,,", [0, 1]),
    ],
)
def test_reads(text: str, nodes: list[int]) -> None:
    assert parse(text, VIEW) == nodes


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5", r"'5': there is no node n5; the cluster has n\[0-4,6\]"),
        ("0-6", r"'0-6': there is no node n5; the cluster has"),
        ("7-", r"no node n7"),
        ("n[0,8-9]", r"there are no nodes n\[8-9\]"),
        ("3-1", r"'3-1': the range 3-1 runs backwards"),
        ("n[0-3", r"bracket is not closed"),
        ("n[0]x", r"nothing may follow the bracket"),
        ("n[]", r"'' is not a node number"),
        ("n[0-4/0]", r"step must be at least 1"),
        ("n[0/2]", r"follow a range"),
        ("0x10", r"'0x10' is not a node number"),
        ("٣", r"is not a node number"),
        ("1048576", r"a node number is at most 1048575"),
        ("9" * 100_000, r"a node number is at most"),
        (
            "hup",
            r"'hup' is neither a node nor a state; the cluster has n.*the states are down, .*pwroff, unknown, draining",
        ),
        ("notabit", r"neither a node nor a state"),
        ("n0&", r"missing after '&'"),
        ("n0,!", r"missing after '!'"),
        ("!!", r"missing after '!!'"),
        (
            "@nobody",
            r"there is no group @nobody; there are @bad, @both, @broken, @empty, @left, @right, @self, @site:a",
        ),
        ("@self", r"in the group @self: the group @self is defined by itself: self -> self"),
        ("0,@broken", r"in the group @broken: '3-1': the range 3-1 runs backwards"),
        ("@state:hup", r"@state:hup: there is no state 'hup'; the states are down"),
        ("@site:none", r"there is no group @site:none; there are @bad"),
        ("@none:*", r"there is no group @none:\*"),
    ],
)
def test_says_what_is_wrong_and_what_exists(text: str, complaint: str) -> None:
    with pytest.raises(NodeListError, match=complaint) as caught:
        parse(text, VIEW)
    assert len(str(caught.value)) < 500


def test_a_cluster_without_nodes() -> None:
    empty = NodeView(known=NodeSet())
    assert parse("all,up,!up", empty) == []
    with pytest.raises(NodeListError, match="the cluster has no nodes yet"):
        parse("n0", empty)
    with pytest.raises(NodeListError, match="none is defined"):
        parse("@rack", empty)


BIG = NodeView(known=NodeSet.from_ranges([0, 4095]))
DEEP = NodeView(known=NodeSet.of([0]), groups={f"g{i}": f"@g{i + 1},@g{i + 1}" for i in range(100)})
WIDE = NodeView(
    known=NodeSet.of([0]), groups={f"g{i}": ",".join([f"@g{i + 1}"] * 1000) for i in range(7)} | {"g7": "n0"}
)


@pytest.mark.parametrize(
    ("text", "view", "complaint"),
    [
        (",".join(["all"] * (MAX_ENTRIES // 4096 + 1)), BIG, "more than"),
        ("n[" + ",".join(["0-4095"] * (MAX_ENTRIES // 4096 + 1)) + "]", BIG, "more than"),
        ("n[" + ",".join(f"0-/{step}" for step in range(1, 4096)) + "]", BIG, "too complicated"),
        ("^".join(["all"] * 32_000), BIG, "too complicated"),
        ("!" * 131_000 + "up", VIEW, None),
        ("0," * MAX_TEXT, VIEW, "characters"),
        ("0-1048575", VIEW, "there are no nodes n"),
        ("@g0", DEEP, "nested more than 8 deep"),
        ("@g0", WIDE, "yields more than"),
        (",".join(f"{'0' * (i % 60)}{i // 60}" for i in range(3000)), BIG, None),
    ],
)
def test_hostile_lists_are_bounded(text: str, view: NodeView, complaint: str | None) -> None:
    if complaint is None:
        assert parse(text, view) == ([0, 1, 4] if view is VIEW else [i // 60 for i in range(3000)])
    else:
        with pytest.raises(NodeListError, match=complaint):
            parse(text, view)


operands = st.sets(st.integers(0, 63), min_size=1, max_size=20)
CLUSTER = NodeView(known=NodeSet.from_ranges([0, 63]))


@given(operands, st.lists(st.tuples(st.sampled_from(",!&^"), operands), max_size=6))
def test_operators_on_folded_sets_are_those_of_sets(first: set[int], rest: list[tuple[str, set[int]]]) -> None:
    text, expected = str(NodeSet.of(first)), set(first)
    for operator, operand in rest:
        text += operator + str(NodeSet.of(operand))
        if operator == ",":
            expected |= operand
        elif operator == "!":
            expected -= operand
        elif operator == "&":
            expected &= operand
        else:
            expected ^= operand
    assert set(parse(text, CLUSTER)) == expected


@given(st.lists(st.integers(0, 63), max_size=50))
def test_a_plain_list_is_kept_as_it_is(nodes: list[int]) -> None:
    assert parse(",".join(map(str, nodes)), CLUSTER) == nodes
    assert parse(",".join(f"n{node}" for node in nodes), CLUSTER) == nodes


@given(operands)
def test_folding_and_reading_are_inverse(nodes: set[int]) -> None:
    assert parse(fold(NodeSet.of(nodes)), CLUSTER) == sorted(nodes)


@given(st.text(alphabet="n.0159-[]!,&^@/* upalotwdrmsefh", max_size=40) | st.text(max_size=40))
def test_any_text_gives_nodes_or_the_one_error(text: str) -> None:
    try:
        nodes = parse(text, VIEW)
    except NodeListError:
        return
    assert all(node in STATES or node == -1 for node in nodes)


GROWING = NodeView(
    known=NodeSet.of([0, 1, 6]),
    groups={"rack": "n[0-7],c[1-2],c9,n20-30", "all": "@rack,n8", "odd": "n[1-7/2]", "typo": "n0,upp"},
    hosts={"c1": 1},
)


@pytest.mark.parametrize(
    ("text", "nodes", "left_out"),
    [
        ("@rack", [0, 1, 6, 1], "@rack names n[2-5,7], c2, c9, n[20-30]: not there, and left out"),
        ("@all", [0, 1, 6, 1], "@all names n[2-5,7], c2, c9, n[20-30], n8: not there, and left out"),
        ("@odd,n6", [1, 6], "@odd names n[3,5,7]: not there, and left out"),
        ("@odd,@rack&n0", [0], "@odd names n[3,5,7]; @rack names n[2-5,7], c2, c9, n[20-30]: not there, and left out"),
        ("@typo", [0], "@typo names upp: not there, and left out"),
        ("n0", [0], ""),
    ],
)
def test_what_a_group_names_and_is_not_there_is_told(text: str, nodes: list[int], left_out: str) -> None:
    named = parse_noting(text, GROWING)
    assert (named.nodes, named.left_out) == (nodes, left_out)


def test_what_is_named_itself_must_be_there_whatever_groups_have_named_before() -> None:
    for text in ("@rack,n2", "@odd,c2", "@rack,n[20-30]", "n2,@rack"):
        with pytest.raises(NodeListError):
            parse(text, GROWING)


def test_a_note_on_groups_is_short() -> None:
    many = {f"g{number}": ",".join(f"x{number}-{other}y" for other in range(50)) for number in range(100)}
    view = NodeView(known=NodeSet.of([0]), groups=many)
    left_out = parse_noting(",".join(f"@{name}" for name in many), view).left_out
    assert len(left_out) < 10_000
