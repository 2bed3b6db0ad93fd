"""Launches for a node itself: which of them it hands to its process space."""

from __future__ import annotations

from heorot.core.machine import Examine, Examined
from heorot.core.tickets import seal_ticket
from heorot.core.wire import tree as m
from tests.core.rigs import NodeRig, sign, ticket


def test_a_launch_for_a_former_incarnation_is_dropped() -> None:
    node = NodeRig(0, after="1.5")
    node.attach()
    node.launch("1.5", [0])
    assert node.to_space(m.Launch) == []
    node.launch("1.6", [0])
    assert [launch.job for launch in node.to_space(m.Launch)] == ["1.6"]


def test_nothing_is_launched_before_a_head_knows_the_incarnation() -> None:
    node = NodeRig(0, after="")
    node.attach()
    node.launch("1.6", [0])
    assert node.to_space(m.Launch) == []
    node.down([0], m.Admit(8, "1.0"))  # of another incarnation
    node.down([0], m.Admit(7, "1.5"))
    node.down([0], m.Admit(7, "1.9"))  # the first one counts
    assert [admit.after for admit in node.to_space(m.Admit)] == ["1.5"]
    node.launch("1.6", [0])
    assert [launch.job for launch in node.to_space(m.Launch)] == ["1.6"]


WRONG_CLOCK_MS = 5 * 86_400_000


def test_a_launch_at_a_wrong_time_is_left_to_the_space_which_remembers_that_it_was_refused() -> None:
    node = NodeRig(0, after="1.5", wall_offset_ms=WRONG_CLOCK_MS)
    node.attach()
    node.looked()
    # Meant for a former incarnation: that is for the head to sort out, whatever the clock says.
    node.launch("1.5", [0])
    assert node.to_space(m.RefuseLaunch) == []
    node.launch("1.6", [0])
    (refused,) = node.to_space(m.RefuseLaunch)
    assert m.decode_ticket(refused.ticket).job == "1.6"
    assert "n0 refuses the launch" in refused.text
    assert "synchronise the clocks" in refused.text
    assert node.to_space(m.Launch) == []
    # The space answers, nobody else.
    assert [report.job for report in node.to(node.uplink) if isinstance(report, m.Report)] == ["1.5"]


def test_a_launch_without_the_heads_signature_is_reported_as_failed() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    launch = seal_ticket(sign, ticket("1.1", [0, 1]))
    node.down([0], m.Launch(launch.ticket, b"forged", "1.1"))
    assert node.to_space(m.Launch) == []
    (report,) = [message for message in node.to(node.uplink) if isinstance(message, m.Report)]
    assert [(failure.node, failure.rank) for failure in report.failed] == [(0, 0)]


IMAGE = b"i" * 32
PROGRAM = b"/bin/program"


def test_a_launch_with_an_image_is_held_until_its_program_is_here() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    node.launch("1.6", [0], image=IMAGE, program=PROGRAM)
    assert [item.image for item in node.sent if isinstance(item, Examine)] == [IMAGE]
    assert node.to_space(m.Launch) == []
    node.give(Examined(IMAGE, b"", []))
    assert [(launch.job, launch.waits) for launch in node.to_space(m.Launch)] == [("1.6", True)]


def test_no_image_is_fetched_for_a_launch_of_others() -> None:
    node = NodeRig(0)
    node.attach()
    node.looked()
    launch = seal_ticket(sign, ticket("1.6", [1, 2], image=IMAGE, program=PROGRAM))
    node.down([0], launch)
    assert [item for item in node.sent if isinstance(item, Examine)] == []
    assert node.machine.programs.held == {}
    assert node.to_space(m.Launch) == []
