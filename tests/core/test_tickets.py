"""What the head signs is believed only unchanged, by whom it is for, in its time, and as what it is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.tickets import CLOCK_TOLERANCE_MS, open_launch, open_placement, seal_placement, seal_ticket
from heorot.core.wire import tree as m
from tests.core.rigs import CLUSTER, placement, sign, ticket, verify

NOW_MS = 1_000_000


def sealed(**changes: int) -> m.Launch:
    """Return a launch that is issued now and holds for a minute."""
    return seal_ticket(sign, ticket("1.1", [0, 1], issued_at_ms=NOW_MS, expires_at_ms=NOW_MS + 60_000, **changes))


def test_an_honest_launch_is_opened() -> None:
    assert open_launch(verify, sealed(), cluster=CLUSTER, wall_ms=NOW_MS).job == "1.1"


def test_every_changed_byte_is_noticed() -> None:
    launch = sealed()
    for index in range(len(launch.ticket)):
        changed = bytearray(launch.ticket)
        changed[index] ^= 1
        with pytest.raises(SecurityError):
            open_launch(verify, replace(launch, ticket=bytes(changed)), cluster=CLUSTER, wall_ms=NOW_MS)


def test_a_launch_of_another_cluster_is_refused() -> None:
    with pytest.raises(SecurityError, match="cluster"):
        open_launch(verify, sealed(), cluster="other", wall_ms=NOW_MS)


@pytest.mark.parametrize("wall_ms", [NOW_MS - CLOCK_TOLERANCE_MS - 1, NOW_MS + 60_000 + CLOCK_TOLERANCE_MS + 1])
def test_a_launch_is_refused_outside_of_its_time(wall_ms: int) -> None:
    with pytest.raises(SecurityError, match="clock"):
        open_launch(verify, sealed(), cluster=CLUSTER, wall_ms=wall_ms)


@pytest.mark.parametrize("wall_ms", [NOW_MS - CLOCK_TOLERANCE_MS, NOW_MS + 60_000 + CLOCK_TOLERANCE_MS])
def test_clocks_may_differ_a_little(wall_ms: int) -> None:
    assert open_launch(verify, sealed(), cluster=CLUSTER, wall_ms=wall_ms).job == "1.1"


def test_a_placement_is_for_one_node_of_one_cluster() -> None:
    payload = placement(4, [1])
    assert open_placement(verify, payload, cluster=CLUSTER, node=4).path[0].node == 1
    for cluster, node in ((CLUSTER, 5), ("other", 4)):
        with pytest.raises(SecurityError):
            open_placement(verify, payload, cluster=cluster, node=node)


def test_a_ticket_cannot_be_passed_off_as_a_placement() -> None:
    launch = sealed()
    forged = m.encode(m.SignedPlacement(launch.ticket, launch.signature))
    with pytest.raises(SecurityError):
        open_placement(verify, forged, cluster=CLUSTER, node=0)


def test_a_placement_cannot_be_passed_off_as_a_ticket() -> None:
    sealed_placement = m.decode_signed_placement(seal_placement(sign, m.Placement(CLUSTER, 0, [], 1, 1)))
    with pytest.raises(SecurityError):
        open_launch(
            verify, m.Launch(sealed_placement.placement, sealed_placement.signature), cluster=CLUSTER, wall_ms=NOW_MS
        )


def test_bytes_that_are_no_placement_are_a_breach_of_the_protocol() -> None:
    with pytest.raises(ProtocolError):
        open_placement(verify, b"", cluster=CLUSTER, node=0)
