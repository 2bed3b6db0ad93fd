"""What a daemon says in memory that it shares with who has forked it."""

from __future__ import annotations

import os
import signal

import pytest

from heorot.runtime.shared_page import MAX_PROBLEM_CHARACTERS, PAGE_BYTES, SharedPage


def test_what_a_child_says_is_read_by_its_parent_also_after_its_end() -> None:
    first, second = SharedPage.several(2)
    assert first.read() == {}
    pid = os.fork()
    if not pid:
        second.write({"role": "active", "problem": "none"})
        first.say("the disk is full")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert second.read() == {"role": "active", "problem": "none"}
    assert first.problem == "the disk is full"
    first.say("")
    assert first.problem == ""


def test_a_reader_sees_only_what_was_written_as_a_whole() -> None:
    page = SharedPage()
    page.write({"value": ""})
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        number = 0
        while True:
            number += 1
            page.write({"value": chr(97 + number % 26) * (number % 3000)})
    try:
        seen: set[str] = set()
        while len(seen) < 30:
            value = page.read().get("value", "")
            assert value == value[:1] * len(value)
            seen.add(value)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("character", ["x", "\U0001f43b", "\udcff", "\n", '"'])
def test_any_problem_fits(character: str) -> None:
    page = SharedPage()
    page.say(character * PAGE_BYTES)
    assert page.problem == character * MAX_PROBLEM_CHARACTERS
