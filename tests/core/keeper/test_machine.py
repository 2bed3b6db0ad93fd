"""A keeper, step by step: what it has done, in which order, whatever the store and the head's process do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from heorot.core.errors import HeorotError
from heorot.core.keeper import steps as s
from heorot.core.keeper.election import Leadership, LeaseLost, StoreForeign, StoreRefused, StoreUnavailable, Term
from heorot.core.keeper.machine import HOLD_BACK_AFTER_END_S, QUICK_END_S, KeeperMachine, Listing
from heorot.core.keeper.settings import KeeperConfig
from heorot.core.machine import Log
from heorot.core.wire.heads import HeadAddress

LEASE_S, RENEW_S = 3.0, 1.0
ALONE = Leadership("", 4, ("h0",), "")
OTHERS = Leadership("", 4, ("h0", "h1"), "")
S = TypeVar("S", bound=s.Step)
Reply = Any
"""An answer, or a HeorotError that the step fails with, or what makes either from the step."""


class KeeperRig:
    """A keeper called h0, and answers to its steps by their kinds; those that are not here are answered with None."""

    def __init__(self, view: Leadership | HeorotError = ALONE) -> None:
        self.machine = KeeperMachine(KeeperConfig("h0", "etcd", LEASE_S, RENEW_S, RENEW_S, hang_s=2.0), lambda: 0.0)
        self.replies: dict[type[s.Step], Reply] = {
            s.LookAtStore: view,
            s.Campaign: Term(5),
            s.StartHead: 77,
            s.Renew: Leadership("h0", 5, ("h0", "h1"), ""),
            s.EndHead: "ended with status 0",
            s.LastWords: "",
        }
        self.steps: list[s.Step] = []
        self._flow = self.machine.run()
        self._answer: tuple[Any, HeorotError | None] = None, None
        self._passes_s = 0.0
        """Until the last step is answered."""

    def until(self, kind: type[S], within: int = 60) -> S:
        """Carry steps out up to one of this kind, which is not answered yet."""
        for _ in range(within):
            answer, error = self._answer
            self.machine.now_s += self._passes_s
            step = self._flow.send(answer) if error is None else self._flow.throw(error)
            self.steps.append(step)
            self._answer = self._reply(step)
            if isinstance(step, kind):
                return step
        raise AssertionError(f"no {kind.__name__} in {self.steps}")

    def woken(self, after_s: float = 0.0, **what: Any) -> None:
        """Wait, and answer that with this."""
        self.until(s.WaitForNews)
        self.answer(s.Woken(**what), after_s)

    def answer(self, value: Any, after_s: float = 0.0) -> None:
        """Answer the last step with this, so much later."""
        self._passes_s = after_s
        self._answer = (None, value) if isinstance(value, HeorotError) else (value, None)

    def lead(self) -> None:
        """Have it be elected, and renew for the first time; it waits."""
        self.until(s.StartHead)
        self.until(s.WaitForNews)
        self.steps.clear()

    def kinds(self) -> list[type[s.Step]]:
        """What it has done since, but for what it says."""
        return [
            type(step) for step in self.steps if not isinstance(step, (Log, s.Publish, s.PassClientsOn, s.TellHead))
        ]

    def logged(self) -> list[str]:
        return [step.text for step in self.steps if isinstance(step, Log)]

    def problem(self) -> str:
        return next(step.known.problem for step in reversed(self.steps) if isinstance(step, s.Publish))

    def _reply(self, step: s.Step) -> tuple[Any, HeorotError | None]:
        self._passes_s = step.timeout_s if isinstance(step, s.WaitForNews) else 0.0
        if isinstance(step, s.WaitForNews):
            return s.Woken(heard=True), None
        reply = self.replies.get(type(step))
        return (None, reply) if isinstance(reply, HeorotError) else (reply, None)


def test_an_epoch_is_kept_before_its_head_is_started() -> None:
    rig = KeeperRig()
    rig.until(s.HandOver)
    assert rig.kinds() == [
        s.WaitForNews,
        s.LookAtStore,
        s.KeepEpoch,
        s.Campaign,
        s.StopPassing,
        s.KeepEpoch,
        s.StartHead,
        s.HandOver,
    ]
    assert [step.epoch for step in rig.steps if isinstance(step, s.KeepEpoch)] == [4, 5]


def test_it_stands_above_the_highest_epoch_that_it_has_seen_though_the_store_has_forgotten_it() -> None:
    rig = KeeperRig(Leadership("h1", 9, ("h0", "h1"), ""))
    rig.until(s.LookAtStore)
    rig.replies[s.LookAtStore] = Leadership("", 0, ("h0",), "")
    assert rig.until(s.Campaign).floor == 9


def test_whoever_is_dead_gives_the_lease_up_at_once_and_lets_others_go_first() -> None:
    rig = KeeperRig(OTHERS)
    rig.lead()
    rig.answer(s.Woken(ended="was killed by signal 9"), after_s=QUICK_END_S)
    rig.until(s.Resign)
    assert rig.kinds() == [s.LastWords, s.Resign]
    ended_s = rig.machine.now_s
    rig.until(s.Campaign)
    assert rig.machine.now_s - ended_s >= HOLD_BACK_AFTER_END_S


def test_alone_it_stands_again_at_once() -> None:
    rig = KeeperRig()
    rig.lead()
    rig.answer(s.Woken(ended="was killed by signal 9"), after_s=QUICK_END_S)
    rig.until(s.LastWords)
    ended_s = rig.machine.now_s
    rig.until(s.Campaign)
    assert rig.machine.now_s == ended_s


def test_a_head_that_ends_right_after_its_start_again_and_again_is_started_ever_later() -> None:
    rig = KeeperRig()
    pauses = []
    for _ in range(9):
        rig.lead()
        rig.answer(s.Woken(ended="ended with status 1"))
        rig.until(s.LastWords)
        ended_s = rig.machine.now_s
        rig.until(s.Campaign)
        pauses.append(round(rig.machine.now_s - ended_s, 3))
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert rig.problem() == "the head ended with status 1"


def test_a_head_whose_lease_is_gone_is_killed_before_the_store_hears_of_it() -> None:
    rig = KeeperRig()
    rig.lead()
    rig.replies[s.Renew] = LeaseLost("its lease has run out")
    rig.until(s.Resign)
    assert rig.kinds()[-3:] == [s.EndHead, s.LastWords, s.Resign]
    assert [step for step in rig.steps if isinstance(step, s.EndHead)] == [s.EndHead(force=True)]


def test_a_head_goes_on_while_the_store_is_silent_and_knows_until_when_it_is_the_only_one() -> None:
    rig = KeeperRig()
    rig.until(s.TellHead)
    asked_s = rig.machine.now_s
    first = rig.steps[-1]
    assert isinstance(first, s.TellHead)
    assert first.news.lease_until_ms == int((asked_s + LEASE_S) * 1000)
    rig.replies[s.Renew] = StoreUnavailable("etcd does not answer")
    for _ in range(40):
        rig.woken(after_s=0.5, heard=True)
    assert not {s.EndHead, s.Resign} & set(rig.kinds())
    told = [step.news for step in rig.steps if isinstance(step, s.TellHead)][-1]
    assert (told.reachable, told.problem) == (False, "etcd does not answer")
    assert told.lease_until_ms == first.news.lease_until_ms
    assert rig.logged().count("etcd does not answer; the active head goes on, but nobody can be elected") == 1


def test_a_lease_counts_from_before_it_was_renewed() -> None:
    rig = KeeperRig()
    rig.until(s.Renew)
    asked_s = rig.machine.now_s
    rig.answer(rig.replies[s.Renew], after_s=0.7)
    assert rig.until(s.TellHead).news.lease_until_ms == int((asked_s + LEASE_S) * 1000)
    assert rig.until(s.WaitForNews).timeout_s == pytest.approx(RENEW_S - 0.7)


def test_a_head_that_says_nothing_is_killed() -> None:
    rig = KeeperRig()
    rig.lead()
    rig.answer(s.Woken(), after_s=0.5)
    for _ in range(2):
        rig.woken(after_s=0.5)
    assert s.EndHead not in rig.kinds()
    rig.woken(after_s=0.5)
    assert rig.until(s.EndHead) == s.EndHead(force=True)
    assert any("it has given no sign of life for 2.0 s" in text for text in rig.logged())


def test_a_head_that_cannot_be_started_gives_the_lease_up_and_says_why() -> None:
    rig = KeeperRig()
    rig.replies[s.StartHead] = HeorotError("no certificate")
    rig.until(s.Resign)
    rig.until(s.WaitForNews)
    assert rig.problem() == "cannot start the head: no certificate"


def test_it_hands_over_to_whom_it_is_told_and_ends_its_head_in_good_order() -> None:
    rig = KeeperRig(Leadership("h0", 5, ("h0", "h1", "h2"), ""))
    rig.replies[s.LookAtStore] = ALONE
    rig.lead()
    rig.replies[s.LookAtStore] = Leadership("h0", 5, ("h0", "h1", "h2"), "")
    rig.answer(s.Woken(request={"do": "switch", "name": "h2"}))
    assert rig.until(s.ControlAnswer).value == {"to": "h2", "epoch": 5}
    rig.until(s.Resign)
    assert [s.Prefer("h2"), s.EndHead(force=False)] == [
        step for step in rig.steps if isinstance(step, (s.Prefer, s.EndHead))
    ]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"do": "switch", "name": "h0"}, "h0 is the active head already"),
        ({"do": "switch", "name": "h9"}, "there is no standby head 'h9'; there is h1"),
        ({"do": "dance"}, "unknown command 'dance'"),
    ],
)
def test_what_it_cannot_do_it_refuses_and_leads_on(request_: dict[str, str], why: str) -> None:
    rig = KeeperRig()
    rig.lead()
    rig.replies[s.LookAtStore] = Leadership("h0", 5, ("h0", "h1"), "")
    rig.answer(s.Woken(request=request_))
    assert rig.until(s.ControlAnswer).value == {"error": why}
    rig.woken(heard=True)
    assert s.EndHead not in rig.kinds()


def test_whoever_is_removed_does_not_stand_and_hands_over_if_it_leads() -> None:
    rig = KeeperRig(OTHERS)
    rig.lead()
    rig.machine.listing = Listing(removed=frozenset({"h0"}))
    rig.answer(s.Woken(heard=True))
    rig.replies[s.LookAtStore] = OTHERS
    rig.until(s.Resign)
    assert s.Prefer("h1") in rig.steps
    rig.steps.clear()
    for _ in range(5):
        rig.woken(after_s=5.0)
    assert s.Campaign not in rig.kinds()
    assert "was removed from the cluster" in rig.problem()


def test_a_preferred_head_is_waited_for_while_it_is_there() -> None:
    rig = KeeperRig(Leadership("", 4, ("h0", "h1"), "h1"))
    for _ in range(5):
        rig.woken(after_s=0.1)
    assert s.Campaign not in rig.kinds()
    rig.replies[s.LookAtStore] = Leadership("", 4, ("h0",), "h1")
    rig.until(s.Campaign)


def _refused(rig: KeeperRig) -> None:
    rig.replies[s.KeepEpoch] = StoreRefused("the file epoch holds no epoch")


def _unwritable(rig: KeeperRig) -> None:
    rig.replies[s.KeepEpoch] = HeorotError("epoch: No space left on device")


@pytest.mark.parametrize(("spoil", "stands"), [(_refused, False), (_unwritable, True)])
def test_whoever_cannot_read_its_epoch_does_not_stand(spoil: Callable[[KeeperRig], None], stands: bool) -> None:
    rig = KeeperRig()
    spoil(rig)
    for _ in range(4):
        rig.woken(after_s=5.0)
    assert (s.Campaign in rig.kinds()) is stands


def test_a_store_of_another_cluster_is_a_mistake_at_the_start_and_a_trouble_later() -> None:
    rig = KeeperRig(StoreForeign("another cluster's"))
    with pytest.raises(StoreForeign):
        rig.until(s.Campaign)
    rig = KeeperRig(OTHERS)
    rig.replies[s.Campaign] = None
    rig.until(s.Campaign)
    rig.replies[s.LookAtStore] = StoreForeign("another cluster's")
    for _ in range(3):
        rig.woken(after_s=5.0)
    assert rig.problem() == "another cluster's"
    assert rig.logged().count("another cluster's") == 1


def test_a_list_of_heads_that_changes_is_told_at_once_and_once() -> None:
    rig = KeeperRig()
    rig.lead()
    rig.machine.listing = Listing((HeadAddress("h1", "fresh", 7733),))
    # Somebody asks, as `heorot head add` does: long before the lease is to be renewed.
    rig.answer(s.Woken(heard=True, request={"do": "status"}), after_s=0.01)
    assert rig.until(s.TellHead).news.listed == rig.machine.listing.heads
    rig.woken(after_s=0.01, heard=True)
    rig.until(s.WaitForNews)
    assert rig.kinds() == [s.ControlAnswer, s.WaitForNews, s.WaitForNews]
    assert len([step for step in rig.steps if isinstance(step, s.TellHead)]) == 1


def test_told_to_end_it_ends_its_head_gives_the_lease_up_and_is_over() -> None:
    rig = KeeperRig()
    rig.lead()
    rig.answer(s.Woken(told_to_end=True))
    with pytest.raises(StopIteration):
        rig.until(s.Campaign)
    assert rig.kinds() == [s.EndHead, s.Resign]
