"""What ranks find in their environment of their job and of their neighbours, however many these are."""

from __future__ import annotations

from heorot.bpinit.rank_environment import MAX_LIST_BYTES, environment_of
from heorot.core.wire.tree import ranks_of, ranks_on
from tests.core.rigs import ticket


def variables(runs: list[int], node: int, environment: tuple[bytes, ...] = (), **fields: int) -> dict[str, str]:
    made = ticket("1.7", runs, environment=list(environment), **fields)
    entries = environment_of(made, ranks_of(made), len(ranks_on(made, node)), node, "marker")
    found = dict(entry.decode().split("=", 1) for entry in entries)
    assert len(found) == len(entries)
    return found


def test_it_says_where_the_ranks_are() -> None:
    found = variables([0, 4, 9, 1], 9, ranks=7)
    wanted = {"HEOROT_SIZE": "7", "HEOROT_NNODES": "5", "HEOROT_NODELIST": "n[0-3,9]", "NODES": "0,1,2,3,9"}
    assert wanted.items() <= found.items()
    assert (found["HEOROT_LOCAL_SIZE"], found["HEOROT_NODE"], found["HEOROT_JOB"]) == ("1", "9", "1.7")
    assert variables([0, 4, 9, 1], 0, ranks=7)["HEOROT_LOCAL_SIZE"] == "2"


def test_a_plain_list_names_each_node_once_in_the_order_of_the_ranks() -> None:
    found = variables([5, 2, 2, 1, 5, 1], 5)
    assert (found["NODES"], found["HEOROT_NODELIST"], found["HEOROT_NNODES"]) == ("5,6,2", "n[2,5-6]", "3")
    assert found["HEOROT_LOCAL_SIZE"] == "2"
    assert variables([3, 1], 3)["NODES"] == "3"
    assert variables([3, 2], 3)["HEOROT_NODELIST"] == "n[3-4]"


def test_what_the_user_brings_is_replaced_but_for_a_name_that_others_use() -> None:
    brought = (b"HEOROT_SIZE=9", b"HEOROT_NODELIST=x", b"HEOROT_LOCAL_RANK=8", b"NODES=mine", b"A=b", b"nothing", b"=c")
    found = variables([0, 2], 1, brought)
    assert (found["HEOROT_SIZE"], found["HEOROT_NODELIST"], found["NODES"], found["A"]) == ("2", "n[0-1]", "mine", "b")
    assert "HEOROT_LOCAL_RANK" not in found
    assert "nothing" not in found


def test_a_list_that_is_too_long_for_an_environment_is_left_out() -> None:
    many = variables([0, 100_000], 7)
    assert (many["HEOROT_NODELIST"], many["HEOROT_NNODES"]) == ("n[0-99999]", "100000")
    assert "NODES" not in many
    scattered = variables([number for node in range(0, 60_000, 2) for number in (node, 1)], 0)
    assert scattered["HEOROT_NNODES"] == "30000"
    assert {"NODES", "HEOROT_NODELIST"}.isdisjoint(scattered)
    assert max(map(len, variables([0, 9_000], 7).values())) <= MAX_LIST_BYTES
