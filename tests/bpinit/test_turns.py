"""Nobody's cheap commands keep a node from the others: users have turns, and what is one piece of work is done once."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from heorot.bpinit import rank_pipes
from heorot.bpinit.turns import MAX_WAITING, QUESTION_BYTES, QUESTION_BYTES_PER_S, TURN_NS, USER_NS, UserTurns
from heorot.core.wire import tree as m
from heorot.linux import proctable
from tests.bpinit.space_rig import Agent, SpaceRig, launch

ROOT, ALICE, BOB, CAROL = 0, 1000, 1001, 1002
USER = 54_322
OTHER = 54_323
MS = 1_000_000


class Served:
    """What was served, with what each wish takes, on a clock of the test."""

    def __init__(self) -> None:
        self.now_ns = 1
        self.turns = UserTurns(frozenset((ROOT,)), lambda: self.now_ns)
        self.done: list[Any] = []
        self.takes_answers = True

    def act(self, what: Any, takes_ns: int) -> Callable[[], None]:
        """A wish that takes its time."""

        def act() -> None:
            self.done.append(what)
            self.now_ns += takes_ns

        return act

    def turn(self) -> list[Any]:
        """Let the users have a turn; return what was done."""
        del self.done[:]
        self.turns.serve(lambda: self.takes_answers)
        return list(self.done)


@pytest.fixture
def served() -> Served:
    """Nobody wants anything yet."""
    return Served()


def test_users_have_turns_and_root_comes_first(served: Served) -> None:
    for uid in (ALICE, BOB, ROOT):
        for _ in range(3):
            served.turns.signal(uid, served.act(uid, USER_NS))
    assert [served.turn() for _ in range(4)] == [[ROOT, ALICE, BOB]] * 3 + [[]]
    assert served.turns.wait_s(takes_answers=True) is None


def test_a_wish_that_takes_long_keeps_no_other_user_out(served: Served) -> None:
    for uid in (ALICE, BOB, ROOT):
        for _ in range(2):
            served.turns.signal(uid, served.act(uid, 2 * TURN_NS))
    assert [served.turn() for _ in range(4)] == [[ROOT, ALICE], [ROOT, BOB], [ALICE], [BOB]]


def test_only_the_newest_size_of_a_job_is_carried_out_at_the_place_of_the_first(served: Served) -> None:
    for size in range(100):
        for job in ("1.1", "1.2"):
            served.turns.put(ALICE, served.act((job, size), 0), job)
    assert served.turn() == [("1.1", 99), ("1.2", 99)]


def test_what_a_user_wants_to_have_done_comes_before_questions(served: Served) -> None:
    served.turns.question(ALICE, served.act("question", 0))
    served.turns.signal(ALICE, served.act("signal", 0))
    assert served.turn() == ["signal", "question"]


def test_questions_wait_while_their_answers_would(served: Served) -> None:
    for uid in (ALICE, ROOT):
        served.turns.question(uid, served.act(uid, 0))
    served.takes_answers = False
    assert served.turn() == [ROOT]
    assert served.turns.wait_s(takes_answers=False) is None
    assert served.turns.wait_s(takes_answers=True) == 0
    served.takes_answers = True
    served.turns.answered(QUESTION_BYTES + QUESTION_BYTES_PER_S)
    assert served.turn() == []
    assert served.turns.wait_s(takes_answers=True) == 1
    served.now_ns += 1000 * MS
    assert served.turn() == [ALICE]
    served.turns.question(ALICE, served.act(ALICE, 0))
    served.turns.forget_questions()
    assert served.turns.wait_s(takes_answers=True) is None


def test_who_has_most_loses_the_oldest(served: Served) -> None:
    for number in range(MAX_WAITING):
        served.turns.question(ALICE, served.act((ALICE, number), 0))
        served.turns.signal(ALICE, served.act((ALICE, -1), 0))
    for put in (served.turns.question, served.turns.signal):
        for number in range(10):
            put(BOB, served.act((BOB, number), 0))
    done = served.turn()
    assert len(done) == 2 * MAX_WAITING
    assert [number for uid, number in done if uid == BOB] == [*range(10), *range(10)]
    assert next(number for uid, number in done if number >= 0) == 10


# ------------------------------------------------------------------ a real bpinit


class Counter:
    """Counts in this process what happens in another one that it has forked."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)

    def add(self) -> None:
        """One more."""
        self._shared[:] = (self.value + 1).to_bytes(8, "big")

    @property
    def value(self) -> int:
        """How many there were."""
        return int.from_bytes(self._shared[:], "big")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Iterator[Counter]:
    """Count the calls of a function, in whoever is forked from now on, too."""
    counter, real = Counter(), getattr(module, name)

    def function(*arguments: Any) -> Any:
        counter.add()
        return real(*arguments)

    monkeypatch.setattr(module, name, function)
    yield counter
    monkeypatch.undo()


@pytest.fixture(params=["namespace", "rootless"] if os.getuid() == 0 else ["rootless"])
def mode(request: pytest.FixtureRequest) -> str:
    """How the space is run."""
    assert isinstance(request.param, str)
    return request.param


def reply_to(agent: Agent, number: int) -> m.Reply:
    """Wait for an answer."""

    def found() -> list[m.Reply]:
        return [answer for answer in agent.answers if isinstance(answer, m.Reply) and answer.id == number]

    agent.until(found, f"the reply to {number}")
    return found()[0]


def test_one_look_answers_all_questions_that_wait(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "snapshot" if mode == "namespace" else "descendants"
    with counted(monkeypatch, proctable, name) as looks, counted(monkeypatch, proctable, "row") as rows:
        rig = SpaceRig(mode)
        agent = rig.agent()
        agent.send(rig.launch("1.1", b"sleep", b"1000", ranks=20))
        agent.wait_started("1.1", 20)
        looks_before = looks.value
        agent.send(*(m.Query(1 + n, None, None, None, 0, True, -1, OTHER) for n in range(200)))
        assert {len(reply_to(agent, 1 + n).processes) for n in range(200)} == {20}
        assert looks.value - looks_before < 20
        assert rows.value < 20 * 20
        # What comes after a signal sees what became of it.
        agent.send(m.Query(500, "1.1", None, None, signal.SIGKILL, False, -1, rig.uid))
        assert reply_to(agent, 500).matched == 20
        agent.wait_over("1.1")
        assert agent.ask(m.Query(501, None, None, None, 0, True, -1, OTHER)).matched == 0
        rig.end()


def test_only_the_newest_size_reaches_the_terminals(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch, rank_pipes, "set_size") as sizes:
        rig = SpaceRig(mode)
        agent = rig.agent()
        script = b"trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done"
        streams: dict[str, Any] = {"terminal": [24, 80], "stdin": b"", "stdout": b"", "stderr": b""}
        agent.send(rig.launch("1.1", b"sh", b"-c", script, ranks=20, **streams))
        agent.until(lambda: all(b"up" in agent.output.get(("1.1", rank, 1), b"") for rank in range(20)), "all ranks up")
        agent.send(*(m.Resize("1.1", 30 + n % 40, 80) for n in range(4_000)), m.Resize("1.1", 99, 77))
        agent.until(
            lambda: all(b"99 77" in agent.output.get(("1.1", rank, 1), b"") for rank in range(20)), "the newest size"
        )
        assert sizes.value < 4_000 * 20 // 10
        rig.end()


@pytest.mark.skipif(os.getuid() != 0, reason="a second user needs root")
def test_nobodys_flood_of_questions_and_signals_comes_before_others() -> None:
    rig = SpaceRig("namespace")
    agent = rig.agent()
    agent.send(launch("1.1", b"sleep", b"1000", ranks=100, uid=USER, gid=USER))
    agent.wait_started("1.1", 100)
    flood = [m.Query(1 + n, "1.1", None, None, signal.SIGCONT, False, USER, USER) for n in range(500)]
    agent.send(
        *flood,
        launch("1.2", b"true", uid=OTHER, gid=OTHER),
        m.Query(9_000, "1.1", None, None, signal.SIGCONT, False, -1, 0),
        m.Query(9_001, "1.1", None, None, 0, False, -1, OTHER),
    )
    # Its end comes when the machine lets it run.
    agent.wait_started("1.2")
    for number in (9_000, 9_001):
        assert reply_to(agent, number).matched == 100
    of_flood = [answer for answer in agent.answers if isinstance(answer, m.Reply) and answer.id <= len(flood)]
    assert len(of_flood) < len(flood) // 2
    agent.until(lambda: len({a.id for a in agent.answers if isinstance(a, m.Reply)}) == len(flood) + 2, "the flood")
    assert {answer.matched for answer in agent.answers if isinstance(answer, m.Reply)} == {100}
    agent.wait_over("1.2")
    rig.end()


def test_input_in_small_pieces_is_written_once_when_its_user_has_a_turn(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(monkeypatch, rank_pipes.Pipes, "_write") as writes:
        rig = SpaceRig(mode)
        agent = rig.agent()
        agent.send(rig.launch("1.1", b"cat", ranks=50, stdin=b""))
        agent.wait_started("1.1", 50)
        data = bytes(range(256)) * 8
        agent.send(*(m.Stdin("1.1", None, at, data[at : at + 1], at + 1 == len(data)) for at in range(len(data))))
        assert agent.wait_over("1.1") == dict.fromkeys(range(50), 0)
        assert {bytes(agent.output["1.1", rank, 1]) for rank in range(50)} == {data}
        assert writes.value < len(data) * 50 // 10
        rig.end()
