"""Launches that wait for their program: how long their image is held in the cache."""

from __future__ import annotations

from msgspec.structs import replace

from heorot.core import messages as m
from heorot.core.image_fetcher import Source
from heorot.core.machine import Examined, Forget, Instruction, MakeView, ViewMade
from heorot.core.programs import Programs
from heorot.core.transfers import Transfers
from tests.core.test_space import launch
from tests.images.samples import Sample

SAMPLE = Sample({b"/bin/program": (b"x", 0o755)}, b"/bin/program")


class Rig:
    """A node's launches, and a cache that has everything."""

    def __init__(self) -> None:
        self.out: list[Instruction] = []
        self.started: list[str] = []
        self.transfers = Transfers(
            self.out.append,
            lambda link, message: None,
            lambda image: [Source(1)],
            lambda image: self.programs.complete(image),
            lambda image, why: self.programs.failed(image, why),
        )
        self.programs = Programs(self.out.append, self.transfers, self.hand_over, lambda made, why: None)

    def hand_over(self, made: m.Launch) -> None:
        if made.view:
            self.started.append(m.decode_ticket(made.ticket).job)

    def hold(self, job: str) -> None:
        """A launch comes, and its program is complete."""
        made = launch(job, image=SAMPLE.image, program=b"/bin/program")
        self.programs.hold(replace(made, job=job), m.decode_ticket(made.ticket))
        self.transfers.examined(Examined(SAMPLE.image, SAMPLE.encoded, [0, 1]))

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
