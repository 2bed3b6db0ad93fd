"""What a head has written down is in the store when its keeper says so, and only then."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from heorot.core.keeper import steps as s
from heorot.core.keeper.election import Leadership, LeaseLost, StoreUnavailable
from heorot.core.keeper.sharing import TRIES
from tests.core.keeper.test_machine import KeeperRig

SHARED = Leadership("h0", 5, ("h0", "h1"), "")


def asked(rig: KeeperRig) -> dict[str, object]:
    """Let the head ask; return what it is answered."""
    rig.woken(request={"do": "share"}, heard=True)
    return rig.until(s.ControlAnswer).value


def test_it_is_brought_there_at_once() -> None:
    rig = KeeperRig()
    rig.lead()
    assert asked(rig) == {"shared": True}
    assert rig.kinds()[-2:] == [s.Renew, s.ControlAnswer]


def test_another_host_that_writes_at_the_same_time_is_met_by_trying_again_a_few_times() -> None:
    rig = KeeperRig()
    rig.lead()
    rig.replies[s.Renew] = replace(SHARED, shared=False)
    answer = asked(rig)
    assert "at the same time" in str(answer["error"])
    assert rig.kinds().count(s.Renew) == TRIES


@pytest.mark.parametrize("error", [StoreUnavailable("no majority"), LeaseLost("its lease has run out")])
def test_it_is_not_said_to_be_there_when_the_store_does_not_say_so(error: Exception) -> None:
    rig = KeeperRig()
    rig.lead()
    rig.replies[s.Renew] = error
    assert "shared" not in asked(rig)


def test_the_files_of_this_host_may_be_what_is_wrong() -> None:
    rig = KeeperRig()
    rig.lead()
    rig.replies[s.Renew] = replace(SHARED, shared=False, warning="the file is damaged")
    assert asked(rig) == {"error": "the file is damaged"}


def test_a_keeper_on_standby_shares_nothing_on_request() -> None:
    rig = KeeperRig(Leadership("h1", 4, ("h0", "h1"), ""))
    rig.woken()
    assert "error" in asked(rig)
