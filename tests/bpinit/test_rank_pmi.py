"""Ranks that ask for what others have told: at once, and without keeping anything from its time."""

from __future__ import annotations

import signal

from heorot.core.wire import tree as m
from tests.bpinit.space_rig import Agent, SpaceRig

ASKS = b"while echo cmd=get_universe_size >&3 && read -r line <&3; do :; done"
ASKS_TWICE = b"printf 'cmd=get_appnum\\ncmd=get_appnum\\n' >&3; read -r one <&3; read -r other <&3; echo $one, $other"
ANSWER = b"cmd=appnum rc=0 appnum=0"


def test_ranks_that_ask_without_end_keep_nothing_from_its_time(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", ASKS, ranks=2, pmi=True))
    # A start is reported when its time has come, and nothing else happens until then.
    agent.wait_started("1.1", 2)
    agent.send(rig.launch("1.2", b"echo", b"free"))
    assert agent.wait_over("1.2") == {0: 0}
    agent.ask(m.Query(7, "1.1", None, None, signal.SIGKILL, False))
    agent.until(lambda: agent.over("1.1"), "the end")
    assert agent.exited("1.1") == {0: signal.SIGKILL, 1: signal.SIGKILL}


def test_what_is_asked_at_once_is_answered_in_its_order(rig: SpaceRig, agent: Agent) -> None:
    said = agent.run("1.1", b"sh", b"-c", ASKS_TWICE, uid=rig.uid, gid=rig.uid, pmi=True)
    assert said == ANSWER + b", " + ANSWER + b"\n"
