"""What tickets may claim, on a node whose daemon may raise limits; `test_other_user.py` has real processes."""

from __future__ import annotations

import resource

import msgspec
import pytest

from heorot.bpinit.limits import LimitRules
from heorot.core.wire import tree as m
from tests.bpinit.space_rig import launch

NOFILE, MEMLOCK, NICE, PRIORITY = resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK, 13, 14
GIVEN = {NOFILE: (1024, 3000), MEMLOCK: (100, 200), NICE: (0, 0), PRIORITY: (0, 0), resource.RLIMIT_CORE: (0, -1)}
CURRENT = GIVEN | {NOFILE: (100_000, 100_000)}
CLAIM = [NICE, 40, 40, PRIORITY, 3, 99, MEMLOCK, -1, -1, NOFILE, 4000, 5000, resource.RLIMIT_CORE, -1, -1]


def limits(uid: int, claim: list[int], may_raise: bool = True) -> dict[int, tuple[int, int]]:
    """What a process has that begins with `CURRENT`."""
    ticket = msgspec.msgpack.decode(launch("1.1", b"true", uid=uid, gid=0, limits=claim).ticket, type=m.Ticket)
    changes = LimitRules(GIVEN, CURRENT, may_raise, 1_000_000).changes(ticket)
    return CURRENT | {number: (soft, hard) for number, soft, hard in changes}


@pytest.mark.parametrize("may_raise", [False, True])
def test_a_user_gets_at_most_what_the_daemon_was_given(may_raise: bool) -> None:
    core = {resource.RLIMIT_CORE: (-1, -1)}
    cut = {NOFILE: (3000, 3000), MEMLOCK: (200, 200), NICE: (0, 0), PRIORITY: (0, 0)}
    assert limits(1000, CLAIM, may_raise) == cut | core
    assert limits(1000, [], may_raise) == GIVEN


def test_a_user_keeps_what_is_below() -> None:
    assert limits(1000, [NOFILE, 77, 99, MEMLOCK, 0, 200])[NOFILE] == (77, 99)


def test_root_gets_what_root_claims() -> None:
    claimed = {NOFILE: (4000, 5000), MEMLOCK: (-1, -1), NICE: (40, 40), PRIORITY: (3, 99)}
    assert limits(0, CLAIM) == claimed | {resource.RLIMIT_CORE: (-1, -1)}
    kept = {NOFILE: (4000, 5000), MEMLOCK: (200, 200), NICE: (0, 0), PRIORITY: (0, 0)}
    assert limits(0, CLAIM, may_raise=False) == kept | {resource.RLIMIT_CORE: (-1, -1)}
