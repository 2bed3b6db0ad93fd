"""The site's check sets nodes to error, and takes back only what it has set itself; the site's hook hears of both."""

from __future__ import annotations

from heorot.core.head.timers import EventsDue
from heorot.core.wire import clients as c
from heorot.core.wire.events import TellSite
from heorot.core.wire.wishes import HEALTH, HealthFound
from tests.core.head.test_wishes import ask, asked_of_the_store, cluster, drain, keep, shown


def test_a_node_whose_check_fails_is_set_to_error_with_the_reason_until_it_succeeds() -> None:
    head = cluster()
    head.looked()
    head.give(HealthFound(((0, ""), (1, "disk\x07 full"), (2, ""))))
    (wish,) = keep(head)
    assert (wish.node, wish.state, wish.reason, wish.by) == (1, "error", "disk\\x07 full", HEALTH)
    assert [shown(head, node) for node in range(3)] == ["up", "error", "up"]
    head.looked()
    head.give(HealthFound(((0, ""), (1, "disk\x07 full"))))
    assert not asked_of_the_store(head), "it is no news"
    head.give(HealthFound(((1, ""),)))
    keep(head)
    assert shown(head, 1) == "up"


def test_what_somebody_else_has_set_it_does_not_touch() -> None:
    head = cluster()
    drain(head, "n0", "fan")
    ask(head, "n1", "error", reason="mine")
    keep(head)
    head.looked()
    head.give(HealthFound(((0, "bad"), (1, ""), (77, "unknown"))))
    assert not asked_of_the_store(head)
    # Set meanwhile, while its own change is on its way.
    head.give(HealthFound(((2, "bad"),)))
    head.ask(c.SetNodes(8, "n2", "drain"))
    keep(head)
    keep(head)
    assert head.machine.members.records[2].wish.by == "root"


def test_the_hook_is_told_what_nodes_are_shown_as_folded_and_in_order() -> None:
    head = cluster(hook=True)
    head.wait(1_000, EventsDue())
    told = [item for item in head.sent if isinstance(item, TellSite)]
    assert told == [TellSite((("n[0-2]", "unknown", "up"),))]
    drain(head, "n[0-1]")
    head.looked()
    head.wait(1_000, EventsDue())
    assert [item for item in head.sent if isinstance(item, TellSite)] == [TellSite((("n[0-1]", "up", "drain"),))]
