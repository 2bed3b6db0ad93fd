"""Tables of states: what follows, what is remembered of it, and what is said of what cannot happen."""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum, auto
from typing import Any

import pytest

from heorot.core.states import STEPS_TOLD, ImpossibleStep, StateTable
from scripts.tables import ALL_STATES


class Door(StrEnum):
    OPEN = auto()
    SHUT = auto()
    BRICKED_UP = auto()


class Hand(IntEnum):
    PULLS = auto()
    PUSHES = auto()
    HAS_BRICKS = auto()


DOOR = StateTable(
    "a door",
    Door.OPEN,
    {
        (Door.OPEN, Hand.PUSHES): Door.SHUT,
        (Door.SHUT, Hand.PUSHES): Door.SHUT,
        (Door.SHUT, Hand.PULLS): Door.OPEN,
        (Door.SHUT, Hand.HAS_BRICKS): Door.BRICKED_UP,
    },
)


class Hinged:
    """A thing with states."""

    def __init__(self) -> None:
        self.state, self.story, self.name = DOOR.start, 0, "the front door"


def test_a_thing_goes_from_state_to_state_as_the_table_says() -> None:
    door = Hinged()
    assert DOOR.step(door, Hand.PUSHES) is Door.SHUT
    assert door.state is Door.SHUT
    assert DOOR.step(door, Hand.PUSHES) is Door.SHUT
    assert DOOR.step(door, Hand.PULLS) is Door.OPEN
    assert DOOR.story_of(door) == "open ─pushes▶ shut ─pushes▶ shut ─pulls▶ open"


def test_what_cannot_happen_raises_with_the_story_and_changes_nothing() -> None:
    door = Hinged()
    with pytest.raises(ImpossibleStep) as caught:
        DOOR.step(door, Hand.PULLS)
    assert str(caught.value) == ("a door: the front door is open, where pulls cannot happen; its last steps: open")
    for hand in (Hand.PUSHES, Hand.HAS_BRICKS):
        DOOR.step(door, hand)
    with pytest.raises(ImpossibleStep, match=r"is bricked up, .* open ─pushes▶ shut ─has bricks▶ bricked up$"):
        DOOR.step(door, Hand.PULLS)
    assert door.state is Door.BRICKED_UP


class Egg(StrEnum):
    WHOLE = auto()
    OPEN = auto()
    EATEN = auto()


class Spoon(StrEnum):
    TAPS = auto()
    FALLS_ON_IT = auto()
    SCOOPS = auto()


EGG = StateTable(
    "an egg",
    Egg.WHOLE,
    {(Egg.WHOLE, Spoon.TAPS): Egg.OPEN, (Egg.WHOLE, Spoon.FALLS_ON_IT): Egg.OPEN, (Egg.OPEN, Spoon.SCOOPS): Egg.EATEN},
)


def test_things_of_which_there_are_many_look_up_what_follows_and_their_state_says_what_was_before() -> None:
    taps, scoops = EGG.on(Spoon.TAPS), EGG.on(Spoon.SCOOPS)
    assert scoops[taps[EGG.start]] is Egg.EATEN
    with pytest.raises(ImpossibleStep) as caught:
        taps[Egg.OPEN]
    assert str(caught.value) == (
        "an egg is open, where taps cannot happen; its way: whole ─taps▶ open or whole ─falls on it▶ open"
    )
    with pytest.raises(ImpossibleStep, match=r"whole, where scoops .* its way: whole$"):
        scoops[Egg.WHOLE]


def test_only_the_last_steps_are_remembered_however_many_there_were() -> None:
    door = Hinged()
    for _ in range(1000):
        DOOR.step(door, Hand.PUSHES)
        DOOR.step(door, Hand.PULLS)
    assert DOOR.story_of(door).count("▶") == STEPS_TOLD
    assert door.story.bit_length() <= 8 * STEPS_TOLD


@pytest.mark.parametrize("name", ALL_STATES)
def test_every_state_is_reached_and_every_change_happens_somewhere(name: str) -> None:
    table: StateTable[Any, Any] = ALL_STATES[name]
    steps = list(table)
    reached, grown = {table.start}, True
    while grown:
        new = {then for state, _, then in steps if state in reached} - reached
        reached |= new
        grown = bool(new)
    kinds: tuple[type[Enum], type[Enum]] = type(steps[0][0]), type(steps[0][1])
    assert reached == set(kinds[0])
    assert {change for _, change, _ in steps} == set(kinds[1])
    # Both are found by their hash at every step: that of a plain Enum is slow.
    assert all(issubclass(kind, str | int) for kind in kinds)
