"""To which CPUs ranks are bound, on machines of any topology."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heorot.bpinit.cpu_binding import CpuBinding
from heorot.bpinit.start_words import StartError


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Two cores with two hardware threads each, numbered as Linux does on most machines, and one CPU far behind."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 70})
    for cpu in range(4):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    return str(tmp_path)


def test_a_core_is_all_of_its_threads_and_who_comes_last_shares(four: str) -> None:
    binding = CpuBinding("core", 4, four)
    assert [binding.mask_of(rank) for rank in range(4)] == [[0b0101, 0], [0b1010, 0], [0, 1 << 6], [0b0101, 0]]
    assert binding.note == "4 ranks of a node share 3 cores"


def test_a_cpu_is_one_thread(four: str) -> None:
    binding = CpuBinding("cpu", 5, four)
    assert [binding.mask_of(rank) for rank in range(5)] == [[1, 0], [2, 0], [4, 0], [8, 0], [0, 64]]
    assert binding.note == ""
    assert CpuBinding("cpu", 6, four).note == "6 ranks of a node share 5 CPUs"


def test_named_cpus_must_be_there(four: str) -> None:
    assert CpuBinding("0-1:3", 1, four).mask_of(1) == [8]
    assert CpuBinding("2", 3, four).note == "3 ranks of a node share one list of CPUs"
    with pytest.raises(StartError, match=r"cannot bind to CPU 4,6-7: usable are 0-3,70$"):
        CpuBinding("0:4,6-7", 1, four)
