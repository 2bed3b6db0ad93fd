"""What states a thing has and what leads from one to another, as data: a table of states, changes and what follows.

A room has its tables in `states.py`; docs/states.md draws them (``python -m scripts.tables``). A thing keeps its state
and its story itself, and takes each change by ``TABLE.step(thing, change)``. What is done then stays with whoever has
noticed the change: it has what that needs. A change that the table does not have in this state is a mistake of ours,
never of a peer: what others may say at any time is in the table at any time, or is refused before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Generic, Protocol, TypeVar

STEPS_TOLD = 8
"""So many of the last steps of a thing are remembered, one byte each."""
STORY = (1 << 8 * STEPS_TOLD) - 1

State = TypeVar("State", bound=Enum)
Change = TypeVar("Change", bound=Enum)


class ImpossibleStep(AssertionError):
    """Something has met what its table does not have in its state. Says which, what, and the last steps before it."""


class Stateful(Protocol[State]):
    """A thing with states, which a table alone changes."""

    state: State
    story: int
    """Its last steps, for `StateTable.story_of`; 0 at first."""

    @property
    def name(self) -> str:
        """Which one it is, for people: ``n7``."""


class Following(dict[State, State]):
    """What follows one change, by the state before it; `ImpossibleStep` for a state in which it cannot happen."""

    def __init__(self, then: Mapping[State, State], complaint: Callable[[State], str]) -> None:
        super().__init__(then)
        self._complaint = complaint

    def __missing__(self, state: State) -> State:
        raise ImpossibleStep(self._complaint(state))


class StateTable(Generic[State, Change]):
    """All states of one kind of thing, and all steps between them.

    Parameters
    ----------
    subject
        Whose they are, for people: ``a node, as the head sees it``.
    start
        The state of a new one.
    steps
        By state and change: the state that follows, which may be the same. Enums that are a `str` or an `int` are
        found fast. At most 255.
    """

    def __init__(self, subject: str, start: State, steps: Mapping[tuple[State, Change], State]) -> None:
        assert len(steps) < 256, "a step is remembered in a byte"
        self.subject = subject
        self.start = start
        self._steps = {where: (then, number) for number, (where, then) in enumerate(steps.items(), 1)}
        self._by_number = dict(enumerate(self, 1))

    def __iter__(self) -> Iterator[tuple[State, Change, State]]:
        """Yield state, change and the state that follows, in the order of the table."""
        for (state, change), (then, _) in self._steps.items():
            yield state, change, then

    def step(self, thing: Stateful[State], change: Change) -> State:
        """Take a change; return the state that follows.

        Raises
        ------
        ImpossibleStep
            If it cannot happen in this state, which is then as it was.
        """
        try:
            state, number = self._steps[thing.state, change]
        except KeyError:
            raise ImpossibleStep(self._complaint(thing, change)) from None
        thing.state = state
        thing.story = (thing.story << 8 | number) & STORY
        return state

    def on(self, change: Change) -> Following[State]:
        """Return what follows a change, by the state before it: for things of which there are too many for a story.

        A state of theirs says what was before, but for the loops in it.
        """
        then = {state: then for (state, its_change), (then, _) in self._steps.items() if its_change == change}
        return Following(
            then,
            lambda state: (
                f"{self.subject} is {word(state)}, where {word(change)} cannot happen;"
                f" its way: {' or '.join(self.ways_to(state))}"
            ),
        )

    def ways_to(self, state: State, without: frozenset[State] = frozenset()) -> list[str]:
        """Return all ways on which a state is reached that come by no state twice, and by none of `without`."""
        if state is self.start:
            return [word(state)]
        without |= {state}
        last = [(before, change) for before, change, then in self if then is state and before not in without]
        return [
            f"{way} ─{word(change)}▶ {word(state)}" for before, change in last for way in self.ways_to(before, without)
        ]

    def story_of(self, thing: Stateful[State]) -> str:
        """Return the last steps of a thing, the oldest first: ``down ─attached▶ boot ─listed▶ up``."""
        numbers = thing.story.to_bytes(STEPS_TOLD, "big").lstrip(b"\0")
        if not numbers:
            return word(thing.state)
        steps = [self._by_number[number] for number in numbers]
        return word(steps[0][0]) + "".join(f" ─{word(change)}▶ {word(then)}" for _, change, then in steps)

    def _complaint(self, thing: Stateful[State], change: Change) -> str:
        return (
            f"{self.subject}: {thing.name} is {word(thing.state)}, where {word(change)} cannot happen;"
            f" its last steps: {self.story_of(thing)}"
        )


def word(value: Enum) -> str:
    """Return a state or a change for people: ``link lost``."""
    return value.name.lower().replace("_", " ")
