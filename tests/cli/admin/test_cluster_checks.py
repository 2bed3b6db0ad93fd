"""What is found in the answers of a cluster's nodes."""

from __future__ import annotations

import pytest

from heorot.cli.admin.cluster_checks import Answer, clocks, disks, parse_answer, user_numbers

PRINTED = b"""1800000000.250000000
/dev/vda          41152736 9872520  29157036      26% /
tmpfs                 1000     900       100      90% /tmp with a blank
users
root:x:0:0:root:/root:/bin/bash
zaphod:x:1000:1000:,,,:/home/zaphod:/bin/sh
"""
GOOD = Answer(1000.5, {"/": 1 << 30}, {"root": 0, "zaphod": 1000})


def test_what_a_node_prints_is_read() -> None:
    answer = parse_answer(PRINTED)
    assert answer is not None
    assert answer.clock_s == 1_800_000_000.25
    assert answer.free_kib == {"/": 29157036, "/tmp with a blank": 100}
    assert answer.users == {"root": 0, "zaphod": 1000}


@pytest.mark.parametrize(
    "output", [b"", b"users\n", b"noon\nusers\n", b"1.0\n/dev/x 1 2\nusers\n", PRINTED + b"no colon\n"]
)
def test_what_is_something_else_is_no_answer(output: bytes) -> None:
    assert parse_answer(output) is None


def test_clocks_are_compared_with_the_time_that_the_question_took() -> None:
    near = {0: GOOD, 1: GOOD._replace(clock_s=999.1), 2: GOOD._replace(clock_s=1002.9)}
    assert clocks(near, 1000.0, 1002.0).ok
    found = clocks({**near, 3: GOOD._replace(clock_s=990.0), 4: GOOD._replace(clock_s=1010.0)}, 1000.0, 1002.0)
    assert (found.ok, found.text) == (False, "n3 is 10.0 s behind, n4 is 8.0 s ahead: synchronise them")


def test_people_who_have_other_numbers_there_are_named() -> None:
    here = {"root": 0, "zaphod": 1000, "ford": 1001, "arthur": 1002}
    assert user_numbers({0: GOOD}, here).ok
    odd = GOOD._replace(users={"root": 1, "zaphod": 1001, "trillian": 1000})
    found = user_numbers({0: GOOD, 1: odd, 2: odd}, here)
    assert (found.ok, found.text) == (False, "zaphod is 1000 here and 1001 on n[1-2]")


def test_many_are_named_in_part() -> None:
    wrong = {node: GOOD._replace(clock_s=0.0) for node in range(8)}
    assert clocks(wrong, 10.0, 10.0).text.endswith("n4 is 10.0 s behind and 3 more: synchronise them")


def test_full_disks_are_found() -> None:
    assert disks({0: GOOD}).ok
    found = disks({0: GOOD, 3: GOOD._replace(free_kib={"/": 1 << 30, "/tmp": 5})})
    assert (found.ok, found.required, found.text) == (False, False, "less than 256 MiB free: /tmp on n3")
