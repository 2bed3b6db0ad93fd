"""A new head tells the others its epoch; whoever hears of a higher one ends."""

from __future__ import annotations

from heorot.core.head.timers import RivalsDue
from heorot.core.machine import (
    CloseLink,
    Connect,
    ConnectFailed,
    HeadHeard,
    LinkClosed,
    LinkOpened,
    Received,
    Send,
    SetTimer,
    Stop,
    TimerFired,
)
from heorot.core.wire import tree as m
from tests.core.rigs import HEAD, HeadRig, hello

OTHERS = (("head1", 7733), ("head2", 7733))


def announcing(epoch: int = 5) -> HeadRig:
    """Return a head that is to tell two others its epoch, and does so now."""
    head = HeadRig(1, others=OTHERS, epoch=epoch, lease_ms=3_000)
    head.give(TimerFired(RivalsDue()))
    return head


def connects(head: HeadRig) -> list[Connect]:
    """Return the connections that were wanted."""
    return [item for item in head.sent if isinstance(item, Connect)]


def stops(head: HeadRig) -> list[str]:
    """Return why the head is to end."""
    return [item.reason for item in head.sent if isinstance(item, Stop)]


def test_every_other_head_is_told_the_epoch_and_again_after_a_lease() -> None:
    head = announcing()
    first, second = connects(head)
    assert [(item.host, item.port) for item in (first, second)] == list(OTHERS)
    head.give(ConnectFailed(second.key, "refused"))
    head.give(LinkOpened(7, HEAD, first.key))
    (said,) = [item.message for item in head.sent if isinstance(item, Send)]
    assert isinstance(said, m.Hello)
    assert (said.node, said.epoch) == (HEAD, 5)
    assert SetTimer(RivalsDue(), 3_000) in head.sent
    head.give(Received(7, hello(HEAD, 4)))
    assert (stops(head), CloseLink(7, "both know") in head.sent) == ([], True)


def test_a_head_that_is_answered_with_a_higher_epoch_ends() -> None:
    head = announcing()
    head.give(LinkOpened(7, HEAD, connects(head)[0].key))
    head.give(Received(7, hello(HEAD, 6)))
    assert stops(head) == ["another head leads, in epoch 6"]


def test_a_head_that_is_told_a_higher_epoch_ends_and_no_other_does() -> None:
    for epoch, ends in ((4, False), (5, False), (6, True)):
        head = announcing()
        head.give(HeadHeard(epoch))
        assert bool(stops(head)) is ends


def test_an_address_at_which_the_head_finds_itself_is_not_asked_again() -> None:
    head = announcing()
    head.give(LinkOpened(7, HEAD, connects(head)[1].key))
    head.give(Received(7, hello(HEAD, 5)))
    head.looked()
    head.give(TimerFired(RivalsDue()))
    assert [(item.host, item.port) for item in connects(head)] == [OTHERS[0]]


def test_a_link_of_an_earlier_round_is_not_used() -> None:
    head = announcing()
    late = connects(head)[0]
    head.give(TimerFired(RivalsDue()))
    head.give(LinkOpened(7, HEAD, late.key))
    assert CloseLink(7, "no longer needed") in head.sent


def test_who_is_no_head_or_says_nothing_is_left() -> None:
    head = announcing()
    first, second = connects(head)
    head.give(LinkOpened(7, 3, first.key))
    assert CloseLink(7, "it is not a head") in head.sent
    head.give(LinkOpened(8, HEAD, second.key))
    head.looked()
    head.give(TimerFired(RivalsDue()))
    assert CloseLink(8, "no answer in time") in head.sent
    head.looked()
    head.give(Received(8, hello(HEAD, 9)))
    head.give(LinkClosed(8, "gone"))
    assert head.sent == []


def test_the_only_head_tells_nobody() -> None:
    head = HeadRig(1)
    head.give(TimerFired(RivalsDue()))
    assert head.sent == []
