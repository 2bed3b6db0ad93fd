"""What the agent's commands ask of bpinit, each when its user has a turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from functools import partial

from heorot.bpinit.census import Census
from heorot.bpinit.rank_pipes import Pipes
from heorot.bpinit.turns import UserTurns
from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.wire import tree as m

_ANSWERED_BYTES = 1024 * 1024
"""While more waits to be written to the agent, only those who are favoured are told of processes."""


class Wanted:
    """Signals, questions, sizes of terminals and input that wait, and what carries them out.

    Parameters
    ----------
    favoured:
        User ids that come first.
    emit:
        Takes the events.
    backlog_bytes:
        Says how much waits to be written to the agent.
    """

    def __init__(
        self,
        favoured: frozenset[int],
        space: Space,
        census: Census,
        pipes: Pipes,
        emit: Callable[[e.SpaceEvent], None],
        backlog_bytes: Callable[[], int],
    ) -> None:
        self._space = space
        self._census = census
        self._pipes = pipes
        self._emit = emit
        self._backlog_bytes = backlog_bytes
        self._turns = UserTurns(favoured)
        self.waiting = self._turns.users
        """Empty: nothing does, and no turn is needed."""
        self._asked_ns = 0
        """When the question came that is being answered."""

    def obey(self, command: m.SpaceCommand) -> None:
        """Obey the agent, in this round of the loop unless there is much to do. Raises ProtocolError."""
        uid = self._space.payer(command)
        if uid is None:
            self._emit(e.FromAgent(command))
            return
        act = partial(self._hand_over, command, time.monotonic_ns())
        if isinstance(command, m.Resize):
            self._turns.put(uid, act, ("size", command.job))
        elif isinstance(command, m.Query) and not command.signal:
            self._turns.question(uid, act)
        else:
            self._turns.signal(uid, act)

    def _hand_over(self, command: m.SpaceCommand, asked_ns: int) -> None:
        self._asked_ns = asked_ns
        self._emit(e.FromAgent(command))

    def put(self, uid: int, act: Callable[[], None], key: Hashable) -> None:
        """Call something when this user has a turn, and nothing that was put before with the same key."""
        self._turns.put(uid, act, key)

    def wait_s(self) -> float | None:
        """Return how long to wait for the next turn; None: there is nothing to do."""
        return self._turns.wait_s(takes_answers=self._takes_answers())

    def turn(self) -> None:
        """Let each user have a turn."""
        self._turns.serve(self._takes_answers)
        if not self.waiting:
            self._census.forget_look()

    def answered(self, size_bytes: int) -> None:
        """A question was answered with so much."""
        self._turns.answered(size_bytes)

    def agent_lost(self) -> None:
        """Nobody hears answers any more; another agent asks again."""
        self._turns.forget_questions()

    def _takes_answers(self) -> bool:
        return self._backlog_bytes() <= _ANSWERED_BYTES

    # ------------------------------------------------------------------ the instructions

    def feed(self, instruction: e.Feed) -> None:
        """Carry out `Feed`, which is answered later."""
        child = self._census.by_slot.get(instruction.slot)
        if child is None:
            self._pipes.feed(instruction)
        else:
            self._turns.put(child.uid, partial(self._pipes.feed, instruction), ("input", instruction.slot))

    def select(self, instruction: e.Select) -> None:
        """Carry out `Select`."""
        ask = instruction
        look = self._census.look(self._asked_ns, to_signal=bool(ask.signal))
        matched, rows = self._census.select(look, ask.job, ask.slots, ask.pids, ask.signal, ask.detail, ask.uid)
        self._emit(e.Selected(ask.query, matched, rows))
