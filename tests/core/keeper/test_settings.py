"""A keeper whose settings change: what a head, one on standby, and who asked for it get of that."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.errors import HeorotError
from heorot.core.keeper import steps as s
from heorot.core.keeper.election import Leadership
from tests.core.keeper.test_machine import OTHERS, KeeperRig, Reply


@pytest.mark.parametrize("how", [{"told_to_reload": True}, {"request": {"do": "reload"}}])
def test_settings_that_have_changed_begin_with_a_new_term_at_once(how: dict[str, Any]) -> None:
    rig = KeeperRig(OTHERS)
    rig.lead()
    rig.replies[s.ReadSettings] = ("[limits] max_jobs",)
    rig.answer(s.Woken(**how))
    rig.until(s.Resign)
    assert [step for step in rig.steps if isinstance(step, s.EndHead)] == [s.EndHead(force=False)]
    assert s.LastWords not in rig.kinds()
    answers = [step.value for step in rig.steps if isinstance(step, s.ControlAnswer)]
    assert answers == ([{"name": "h0", "changed": ["[limits] max_jobs"]}] if "request" in how else [])
    assert rig.logged()[0] == "the settings have changed: [limits] max_jobs"
    ended_s = rig.machine.now_s
    rig.replies[s.ReadSettings] = ()
    rig.until(s.StartHead)
    assert rig.machine.now_s == ended_s
    rig.until(s.TellHead)
    rig.steps.clear()
    # What has changed counts once.
    for _ in range(3):
        rig.woken(after_s=0.5, heard=True)
    assert s.EndHead not in rig.kinds()


@pytest.mark.parametrize("reply", [(), HeorotError("head.toml: [limits] max_jobs: 0 is out of range")])
def test_settings_that_are_as_before_or_cannot_be_used_end_no_head(reply: Reply) -> None:
    rig = KeeperRig(OTHERS)
    rig.lead()
    rig.replies[s.ReadSettings] = reply
    for how in ({"told_to_reload": True}, {"request": {"do": "reload"}}):
        rig.answer(s.Woken(heard=True, **how))
        rig.until(s.WaitForNews)
    assert s.EndHead not in rig.kinds()
    answer = next(step.value for step in rig.steps if isinstance(step, s.ControlAnswer))
    assert answer == ({"name": "h0", "changed": []} if reply == () else {"error": str(reply)})
    words = "read again and are as before" if reply == () else f"stay as they are: {reply}"
    assert [text for text in rig.logged() if words in text]


def test_a_head_on_standby_takes_settings_over_and_what_passes_clients_on_begins_anew() -> None:
    rig = KeeperRig(Leadership("h1", 4, ("h0", "h1"), ""))
    for _ in range(3):
        rig.woken(after_s=1.0)
    rig.steps.clear()
    rig.replies[s.ReadSettings] = ("[limits] max_clients",)
    rig.woken(told_to_reload=True)
    rig.until(s.StopPassing)
    assert rig.kinds()[-2:] == [s.ReadSettings, s.StopPassing]
    rig.until(s.PassClientsOn)
    rig.replies[s.LookAtStore] = OTHERS
    rig.lead()
    assert s.EndHead not in rig.kinds()
