"""Launches that wait for their program: when bpinit hears of them, and how long their image is held in the cache."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from heorot.core.images.fetcher import Source
from heorot.core.images.hop import Transfers
from heorot.core.machine import CacheFailed, Compare, Compared, Examined, Forget, Instruction, MakeView, ViewMade
from heorot.core.node.programs import Programs
from heorot.core.wire import tree as m
from tests.core.space.test_machine import NODE, launch
from tests.images.samples import Sample

SAMPLE = Sample({b"/bin/program": (b"x", 0o755)}, b"/bin/program")


class Rig:
    """A node's launches, and a cache that has everything."""

    def __init__(self) -> None:
        self.out: list[Instruction] = []
        self.handed_over: list[tuple[str, str]] = []
        """Jobs, and how bpinit was given each: ``waits`` for its program, ``starts`` from its image, or ``has it``."""
        self.failed: list[str] = []
        self.transfers = Transfers(
            self.out.append,
            lambda link, message: None,
            lambda image: [Source(1)],
            lambda image: self.programs.complete(image),
            lambda image, why: self.programs.failed(image, why),
        )
        self.programs = Programs(self.out.append, self.transfers, self.hand_over, self.fail)

    def hand_over(self, made: m.Launch) -> None:
        assert not (made.waits and made.view)
        how = "starts" if made.view else "waits" if made.waits else "has it"
        self.handed_over.append((m.decode_ticket(made.ticket).job, how))

    def fail(self, made: m.Launch, why: str) -> None:
        self.failed.append(m.decode_ticket(made.ticket).job)

    def come(self, job: str, program_id: bytes = b"", epoch: int = 1) -> None:
        """A launch comes; with a `program_id` the node's own file may be the program."""
        made = launch(job, image=SAMPLE.image, program=b"/bin/program", program_id=program_id, epoch=epoch)
        self.programs.hold(replace(made, job=job), m.decode_ticket(made.ticket))

    def compared(self, job: str, same: bool | None) -> None:
        """The node's own file was looked at."""
        self.programs.compared(Compared(job, same))

    def examined(self, chunks: list[int]) -> None:
        """These chunks are in the cache."""
        event = Examined(SAMPLE.image, SAMPLE.encoded if chunks else b"", chunks)
        self.transfers.examined(event)
        self.programs.examined(event)

    def hold(self, job: str) -> None:
        """A launch comes, and its program is complete."""
        self.come(job)
        self.examined([0, 1])

    @property
    def started(self) -> list[str]:
        return [job for job, how in self.handed_over if how == "starts"]

    def take(self) -> list[type]:
        """Return what was wanted since the last call."""
        kinds = [type(item) for item in self.out]
        self.out.clear()
        return kinds


def show(rig: Rig) -> None:
    assert MakeView in rig.take()
    rig.programs.view_made(ViewMade(SAMPLE.image, b"/view", ""))


def test_an_image_is_held_until_what_was_started_from_it_is_told_of() -> None:
    rig = Rig()
    rig.hold("1.1")
    show(rig)
    assert rig.started == ["1.1"]
    assert Forget not in rig.take()
    # Another job comes for it meanwhile, and is not left without it.
    rig.hold("1.2")
    rig.programs.let_go("1.1")
    show(rig)
    assert rig.started == ["1.1", "1.2"]
    assert Forget not in rig.take()
    rig.programs.let_go("1.2")
    assert rig.take() == [Forget]
    assert not rig.programs.starting


def test_a_release_lets_go_of_it_too() -> None:
    rig = Rig()
    rig.hold("1.1")
    show(rig)
    # The way up is new, and bpinit has not started it yet.
    rig.programs.drop_all()
    assert Forget not in rig.take()
    rig.programs.drop("1.1")
    assert rig.take() == [Forget]


def test_what_is_in_the_cache_is_started_at_once() -> None:
    rig = Rig()
    rig.hold("1.1")
    show(rig)
    assert rig.handed_over == [("1.1", "starts")]
    assert not rig.programs.unannounced


def test_bpinit_hears_of_what_waits() -> None:
    rig = Rig()
    rig.come("1.1")
    assert rig.handed_over == []
    rig.examined([])
    assert rig.handed_over == [("1.1", "waits")]
    # One that comes while the image is on its way waits, too.
    rig.come("1.2")
    assert rig.handed_over == [("1.1", "waits"), ("1.2", "waits")]
    rig.examined([0, 1])
    assert rig.handed_over[2:] == []
    show(rig)
    assert rig.handed_over[2:] == [("1.1", "starts"), ("1.2", "starts")]


def test_bpinit_hears_of_it_before_it_hears_anything_else_of_it() -> None:
    rig = Rig()
    rig.come("1.1")
    rig.programs.announce("1.1")
    rig.examined([0, 1])
    show(rig)
    assert rig.handed_over == [("1.1", "waits"), ("1.1", "starts")]


def test_a_cache_that_fails_leaves_nothing() -> None:
    rig = Rig()
    rig.come("1.1")
    rig.transfers.cache_failed(CacheFailed(SAMPLE.image, "the file system is read-only"))
    assert rig.failed == ["1.1"]
    rig.hold("1.2")
    rig.programs.view_made(ViewMade(SAMPLE.image, b"", "the file system is full"))
    assert rig.failed == ["1.1", "1.2"]
    assert rig.handed_over == []
    assert not rig.programs.held
    assert not rig.programs.unannounced
    # The next one is not mistaken for one whose files are being laid out.
    rig.take()
    rig.come("1.3")
    rig.examined([])
    assert rig.handed_over == [("1.3", "waits")]


def test_a_node_that_has_the_program_needs_no_image() -> None:
    rig = Rig()
    rig.come("1.1", b"id")
    assert rig.take() == [Compare]
    rig.compared("1.1", True)
    assert rig.handed_over == [("1.1", "has it")]
    assert rig.take() == []
    assert not rig.programs.held
    assert not rig.programs.unannounced


def test_bpinit_hears_of_a_look_that_takes_a_while() -> None:
    rig = Rig()
    rig.come("1.1", b"id")
    rig.compared("1.1", None)
    assert rig.handed_over == [("1.1", "waits")]
    rig.compared("1.1", True)
    assert rig.handed_over[1:] == [("1.1", "has it")]
    assert not rig.programs.held


def test_what_the_node_has_otherwise_is_fetched() -> None:
    rig = Rig()
    rig.come("1.1", b"id")
    rig.compared("1.1", False)
    assert rig.handed_over == []
    assert rig.programs.nodes_of(SAMPLE.image) == 1 << NODE
    rig.examined([0, 1])
    show(rig)
    assert rig.handed_over == [("1.1", "starts")]


@pytest.mark.parametrize("late", [True, None, False])
def test_what_is_fetched_starts_so_whatever_an_earlier_look_says(late: bool | None) -> None:
    rig = Rig()
    rig.come("1.1", b"id")
    # The way up is new while the node's file is read, and the launch comes again: two looks are under way.
    rig.programs.drop_all()
    rig.come("1.1", b"id")
    rig.compared("1.1", False)
    rig.compared("1.1", late)
    assert rig.programs.nodes_of(SAMPLE.image) == 1 << NODE
    rig.examined([0, 1])
    show(rig)
    assert rig.handed_over == [("1.1", "starts")]
    rig.compared("1.1", True)
    assert rig.handed_over[1:] == []


def test_an_answer_for_a_launch_that_was_dropped_is_for_nobody() -> None:
    rig = Rig()
    rig.come("1.1", b"id")
    rig.come("1.2")
    for job in ("1.1", "1.2"):
        rig.programs.drop(job)
    assert not rig.programs.unannounced
    rig.compared("1.1", False)
    rig.examined([])
    assert rig.handed_over == []
    assert Forget in rig.take()


def test_launches_of_former_heads_are_forgotten() -> None:
    rig = Rig()
    rig.come("1.1", b"id", epoch=1)
    rig.come("2.1", epoch=2)
    rig.programs.drop_older(2)
    assert list(rig.programs.held) == list(rig.programs.unannounced) == ["2.1"]
    rig.compared("1.1", True)
    rig.examined([0, 1])
    show(rig)
    assert rig.handed_over == [("2.1", "starts")]


def test_a_launch_that_comes_again_while_its_files_are_laid_out_starts_once() -> None:
    rig = Rig()
    rig.hold("1.1")
    rig.programs.drop_all()
    rig.hold("1.1")
    # For either time that it was complete.
    assert rig.take().count(MakeView) == 2
    for _ in range(2):
        rig.programs.view_made(ViewMade(SAMPLE.image, b"/view", ""))
    assert rig.handed_over == [("1.1", "starts")]
    assert Forget not in rig.take()


def test_a_second_job_that_comes_while_the_files_are_laid_out_starts_with_the_first() -> None:
    rig = Rig()
    rig.hold("1.1")
    rig.come("1.2")
    assert rig.handed_over == []
    show(rig)
    assert rig.handed_over == [("1.1", "starts"), ("1.2", "starts")]
