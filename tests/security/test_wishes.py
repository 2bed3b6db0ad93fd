"""What is wanted of nodes, on the disks of heads' hosts: the newest wins, whoever hears of it first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import SecurityError
from heorot.core.wire.wishes import NodeWish
from heorot.security import wishes as wishes_module
from heorot.security.shared import SharedRecords
from heorot.security.signing import Signer
from heorot.security.wishes import WishFile, WishRecords

SIGNER = Signer(bytes(32))
WISHES = st.builds(
    NodeWish,
    node=st.integers(0, 3),
    epoch=st.integers(1, 3),
    sequence=st.integers(1, 3),
    state=st.sampled_from(["", "drain", "error"]),
    uid=st.integers(0, 1),
)
RECORDS = st.lists(WISHES, max_size=6).map(lambda found: {wish.node: wish for wish in found})


@given(RECORDS, RECORDS, RECORDS)
def test_in_whatever_order_versions_come_together(first: WishRecords, second: WishRecords, third: WishRecords) -> None:
    merge = WishFile(Path("/nowhere")).merge
    assert merge(first, second) == merge(second, first)
    assert merge(first, merge(second, third)) == merge(merge(first, second), third)
    assert merge(first, first) == dict(sorted(first.items()))


def test_hosts_have_what_was_set_last(tmp_path: Path) -> None:
    hosts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        hosts.append((WishFile(tmp_path / name), SharedRecords(tmp_path / name, SIGNER)))
    (first, shared), (second, also_shared) = hosts
    first.put([NodeWish(0, 2, 1, "drain", "fan \u00e9", "root", 5, 0o110, 7, 8, "aa"), NodeWish(1, 2, 1, "drain")])
    second.put([NodeWish(1, 1, 9, "error")])
    data = also_shared.merge(shared.merge(b""))
    assert shared.merge(data) == data
    assert first.content() == second.content() == {**first.content(), 1: NodeWish(1, 2, 1, "drain")}
    assert first.content()[0].reason == "fan \u00e9"
    assert second.path.stat().st_mode & 0o077 == 0


def test_a_head_of_an_earlier_release_shares_nothing_of_it_and_one_of_a_later_release_more(tmp_path: Path) -> None:
    file = WishFile(tmp_path)
    assert file.parse({}) == {}
    later = {"wishes": [{"node": 1, "epoch": 2, "state": "drain", "something": "new"}]}
    assert file.parse(later) == {1: NodeWish(1, 2, 0, "drain")}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 1, "wishes": [{"node": "n1"}]}', '{"version": 1, "wishes": 3}']
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    file = WishFile(tmp_path)
    file.path.write_text(text)
    with pytest.raises(SecurityError, match=r"the states that nodes are set to .*node-states.json is damaged"):
        file.content()


def test_what_heads_could_not_share_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes_module, "MAX_SHARED_BYTES", 2_000)
    file = WishFile(tmp_path)
    file.put([NodeWish(0, 1, 1, "drain")])
    with pytest.raises(SecurityError, match="set fewer nodes"):
        file.put(NodeWish(node, 1, 2, "drain", json.dumps([node] * 40)) for node in range(500))
    assert list(file.content()) == [0]
