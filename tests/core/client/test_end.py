"""How a rank came to its end."""

from __future__ import annotations

import os

import pytest

from heorot.core.client.end import Status


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_an_exit_is_read_as_the_system_reads_it(code: int) -> None:
    wait_status = code << 8
    assert os.WIFEXITED(wait_status)
    status = Status.of_wait_status(wait_status)
    assert (status.code, status.signal, status.core_dumped) == (os.WEXITSTATUS(wait_status), None, False)


@pytest.mark.parametrize("wait_status", [1, 9, 15, 64, 6 | 0x80, 11 | 0x80])
def test_a_death_by_a_signal_is_read_as_the_system_reads_it(wait_status: int) -> None:
    assert os.WIFSIGNALED(wait_status)
    status = Status.of_wait_status(wait_status)
    assert (status.code, status.signal) == (None, os.WTERMSIG(wait_status))
    assert status.core_dumped == os.WCOREDUMP(wait_status)


def test_the_number_that_a_shell_gives_tells_codes_signals_and_loss_apart() -> None:
    assert [Status(3).exit_status, Status(signal=9).exit_status, Status.of_lost("gone").exit_status] == [3, 137, 255]
