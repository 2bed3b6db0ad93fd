"""Lists of names have limits, whoever has signed them."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.wire import tree as m

HOST = m.NamedHost(0, "10.0.0.1", ["c0", "n0"])


def test_a_list_comes_as_it_was_sent() -> None:
    listing = m.NameList("x", 1, 2, [m.NamedHost(-1, "fd00::1", ["master"]), HOST])
    assert m.decode_name_list(m.encode(listing)) == listing


@pytest.mark.parametrize(
    "host",
    [
        m.NamedHost(-2, "10.0.0.1", ["n0"]),
        m.NamedHost(0, "", ["n0"]),
        m.NamedHost(0, "1" * 46, ["n0"]),
        m.NamedHost(0, "10.0.0.1", []),
        m.NamedHost(0, "10.0.0.1", [""]),
        m.NamedHost(0, "10.0.0.1", ["x" * 65]),
        m.NamedHost(0, "10.0.0.1", ["x"] * 5),
    ],
)
def test_what_is_in_no_hosts_file_is_in_no_list(host: m.NamedHost) -> None:
    with pytest.raises(ProtocolError):
        m.decode_name_list(m.encode(m.NameList("x", 1, 2, [host])))


def test_a_list_has_no_more_hosts_than_a_cluster_has_nodes() -> None:
    most = m.NameList("x", 1, 2, [HOST] * m.MAX_NAMED)
    assert m.decode_name_list(m.encode(most)) == most
    assert len(m.encode(most)) < m.MAX_LIST_BYTES
    with pytest.raises(ProtocolError):
        m.decode_name_list(m.encode(m.NameList("x", 1, 2, [HOST] * (m.MAX_NAMED + 1))))
