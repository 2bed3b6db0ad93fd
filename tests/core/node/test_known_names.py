"""The list of names on a node: the newest that a head has signed, and nothing else."""

from __future__ import annotations

import zlib

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.machine import Log
from heorot.core.node.known_names import NAMES_NAME
from heorot.core.tickets import seal_names
from heorot.core.wire import tree as m
from heorot.core.wire.names import MAX_LIST_BYTES
from tests.core.rigs import CLUSTER, LEFT, NodeRig, relay, sign

ONE = m.NamedHost(0, "10.0.0.1", ["c0", "n0"])


def telling(*hosts: m.NamedHost, epoch: int = 1, revision: int = 1, cluster: str = CLUSTER) -> m.TellNames:
    """Return a list as a head of this epoch signs it."""
    return seal_names(sign, m.NameList(cluster, epoch, revision, list(hosts)))


def shown(node: NodeRig) -> list[m.NamedHost] | None:
    """Return the list that is to be shown since this was looked at last; None: none."""
    value = node.remembered(NAMES_NAME)
    node.looked()
    return None if value is None else m.decode_name_list(value).hosts


def complaints(node: NodeRig) -> list[str]:
    return [item.text for item in node.sent if isinstance(item, Log) and item.level == "error"]


def test_a_list_is_shown_and_an_older_or_the_same_one_is_not() -> None:
    node = NodeRig(0)
    node.attach()
    node.down([0], telling(ONE, revision=2))
    assert shown(node) == [ONE]
    for revision in (2, 1):
        node.down([0], telling(revision=revision))
        assert shown(node) is None
    node.down([0], telling(revision=3))
    assert shown(node) == []


def test_a_head_of_a_higher_epoch_begins_again_and_one_of_a_lower_epoch_is_nobody() -> None:
    node = NodeRig(0)
    node.attach(epoch=2)
    node.down([0], telling(ONE, epoch=2, revision=9), epoch=2)
    assert shown(node) == [ONE]
    node.down([0], telling(epoch=1, revision=10), epoch=2)
    assert complaints(node) == ["the list of names is of epoch 1; this node has seen 2"]
    assert shown(node) is None
    node.down([0], telling(epoch=3, revision=1), epoch=3)
    assert shown(node) == []


def test_what_no_head_of_the_cluster_has_signed_is_not_shown() -> None:
    node = NodeRig(0)
    node.attach()
    forged = m.TellNames(telling(ONE).listing, sign(b"heorot heads\0" + telling(ONE).listing))
    node.down([0], forged)
    node.down([0], telling(ONE, cluster="another"))
    assert complaints(node) == [
        "the list of names is not signed by this cluster's head",
        "the list of names is of the cluster 'another', not of 'test'",
    ]
    assert shown(node) is None


@pytest.mark.parametrize(
    "listing", [b"", b"no list", zlib.compress(b"no list"), zlib.compress(bytes(2 * MAX_LIST_BYTES))]
)
def test_what_is_signed_and_is_no_list_breaks_the_protocol(listing: bytes) -> None:
    node = NodeRig(0)
    node.attach()
    with pytest.raises(ProtocolError, match="not a valid list of names"):
        node.down([0], m.TellNames(listing, sign(b"heorot names\0" + listing)))


def test_a_relay_passes_the_list_on_as_it_has_come() -> None:
    node = relay()
    node.looked()
    node.down([0, 2, 6], telling(ONE))
    (passed,) = [message for message in node.to(LEFT) if isinstance(message, m.Down)]
    assert m.decode_head_command(passed.payload) == telling(ONE)
    assert shown(node) == [ONE]
