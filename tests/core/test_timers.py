"""Timers are told apart by what is due, and one that nobody has set is a mistake of ours."""

from __future__ import annotations

import pytest

from heorot.core.head import timers as head_timers
from heorot.core.machine import TimerFired
from heorot.core.node import timers as node_timers
from heorot.core.timers import Due
from tests.core.rigs import HeadRig, relay


def own(module: object) -> set[type[Due]]:
    """Return what is due according to a module, without what it shares with others."""
    kinds = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Due)]
    return set(kinds) - {Due}


def test_every_timer_is_in_the_table_of_its_machine() -> None:
    assert own(head_timers) == set(head_timers.WHEN_DUE.kinds())
    assert own(node_timers) == set(node_timers.WHEN_DUE.kinds())


def test_the_same_is_due_once_and_for_another_subject_separately() -> None:
    due = [head_timers.GraceDue(1), head_timers.GraceDue(1), head_timers.GraceDue(2), head_timers.MissingDue(1)]
    assert len(set(due)) == 3
    assert len({node_timers.RetryDue(), node_timers.PulseDue(), node_timers.RetryDue()}) == 2


def test_a_timer_of_another_machine_is_a_mistake_that_is_not_passed_over() -> None:
    with pytest.raises(AssertionError, match=r"a head has no timer for MergeDue\(job='1.1'\)"):
        HeadRig(1).give(TimerFired(node_timers.MergeDue("1.1")))
    with pytest.raises(AssertionError, match="a node has no timer for RebalanceDue"):
        relay().give(TimerFired(head_timers.RebalanceDue()))


@pytest.mark.parametrize("kind", head_timers.WHEN_DUE.kinds(), ids=lambda kind: kind.__name__)
def test_a_timer_of_a_head_that_is_late_is_no_trouble(kind: type[Due]) -> None:
    rig = HeadRig(3)
    rig.attach(0)
    values = {"node": 0, "job": "1.9", "query": 9}
    rig.give(TimerFired(kind(**{name: values[name] for name in kind.__struct_fields__})))


@pytest.mark.parametrize("kind", node_timers.WHEN_DUE.kinds(), ids=lambda kind: kind.__name__)
def test_a_timer_of_a_node_that_is_late_is_no_trouble(kind: type[Due]) -> None:
    relay().give(TimerFired(kind(**dict.fromkeys(kind.__struct_fields__, "1.9"))))
