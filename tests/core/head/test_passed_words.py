"""A node further down that says what cannot be: its relay is not cut off for it, nor is anybody else below."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.passed_words import ASK_AGAIN_MS
from heorot.core.machine import Log, Received, Send
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig

GARBAGE = b"\x93\x51\xc0\xc0"
"""What has the tag of an `Output`, and is none."""


@pytest.fixture
def head() -> HeadRig:
    """A head with the relay n0, and below it n1 and n2."""
    head = HeadRig(3)
    head.attach(0)
    for node in (1, 2):
        head.attach(node, below=[0])
    head.client()
    return head


def say(head: HeadRig, message: m.LinkMessage) -> None:
    """Let the relay say something."""
    head.give(Received(head.links[0], message))


def reached(head: HeadRig) -> int:
    """Return the mask of the nodes that are reached through the relay."""
    return head.machine.context.below.by_link[head.links[0]].mask


def asked_to_attach(head: HeadRig) -> int:
    """Return how often the relay was asked to attach again, with all below it."""
    return sum(isinstance(item, Send) and isinstance(item.message, m.Reattached) for item in head.sent)


def warnings(head: HeadRig) -> list[str]:
    """Return what the log was told."""
    return [item.text for item in head.sent if isinstance(item, Log) and item.level == "warning"]


def test_what_nobody_can_read_detaches_the_node_that_says_it(head: HeadRig) -> None:
    say(head, m.Up(1, GARBAGE))
    assert reached(head) == 0b101
    assert warnings(head)[0].startswith("n1 says something wrong: not a valid node payload")
    assert asked_to_attach(head) == 1
    head.looked()
    say(head, m.Up(1, GARBAGE))
    assert (head.sent, reached(head)) == ([], 0b101)


def test_it_is_asked_to_attach_again_once_in_a_while(head: HeadRig) -> None:
    asked = []
    for _ in range(3):
        head.looked()
        say(head, m.Up(1, GARBAGE))
        asked.append(asked_to_attach(head))
        head.attach(1, below=[0])
    head.awake(head.now + ASK_AGAIN_MS)
    head.looked()
    say(head, m.Up(1, GARBAGE))
    assert (asked, asked_to_attach(head)) == ([1, 0, 0], 1)


def test_what_cannot_be_detaches_the_node_that_says_it(head: HeadRig) -> None:
    job = head.spawn("n[0-2]")
    say(head, m.Up(1, m.encode(m.Output(job, 2, 1, 0, b"I am rank 2"))))
    assert reached(head) == 0b101
    assert "output of rank 2" in warnings(head)[0]
    assert not [message for message in head.told() if isinstance(message, c.ClientOutput)]


def test_what_the_relay_says_itself_ends_its_link(head: HeadRig) -> None:
    with pytest.raises(ProtocolError):
        say(head, m.Up(0, GARBAGE))


def test_a_report_in_which_one_node_lies_is_true_of_the_others(head: HeadRig) -> None:
    job = head.spawn("n[0-2]")
    head.looked()
    # n1 has said that rank 0 runs there; its relay knows no better, and puts it together with the others.
    say(head, m.Report(job, [0, 0, 10, 1, 0, 11, 2, 2, 12], [], []))
    assert [message for message in head.told() if isinstance(message, c.Started)] == [c.Started(job, [0, 10, 2, 12])]
    assert reached(head) == 0b101
    assert head.machine.jobs.jobs[job].running == 2


def test_in_a_run_of_ranks_only_who_lies_is_left_out(head: HeadRig) -> None:
    job = head.spawn("n[0-1],n1,n2")
    head.looked()
    # Ranks 0 to 2 on n0 to n2: the last one is on n1.
    say(head, m.Report(job, [], [], [], started_runs=[0, 0, 3], pids=[10, 11, 12]))
    assert [message for message in head.told() if isinstance(message, c.Started)] == [c.Started(job, [0, 10, 1, 11])]
    assert reached(head) == 0b011


def test_a_report_of_the_relay_that_cannot_be_ends_its_link(head: HeadRig) -> None:
    job = head.spawn("n[0-2]")
    with pytest.raises(ProtocolError, match="where it does not belong"):
        say(head, m.Report(job, [0, 1, 10], [], []))


def test_of_nodes_that_are_elsewhere_nothing_is_believed_and_nobody_is_blamed(head: HeadRig) -> None:
    job = head.spawn("n[0-2]")
    head.looked()
    say(head, m.Report(job, [1, 1, 11, 77, 0, 10], [], [], killed=[1 << 40, 1, 5]))
    assert [message for message in head.told() if isinstance(message, c.Started)] == [c.Started(job, [1, 11])]
    assert reached(head) == 0b111
    assert head.machine.jobs.jobs[job].killed == {}
