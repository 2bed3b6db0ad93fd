"""What the heads of all hosts know of nodes and tokens comes together, in whatever order they hear of each other."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.config.files import Address
from heorot.core.errors import SecurityError
from heorot.core.wire.events import ClusterEvent
from heorot.core.wire.heads import MAX_HEADS
from heorot.core.wire.wishes import NodeWish
from heorot.security import registry as registry_module
from heorot.security import shared
from heorot.security.head_registry import MAX_REMOVED, HeadRecord, HeadRegistry, merged
from heorot.security.records import Fields, RecordFile, RecordKind
from heorot.security.registry import NodeRecord, Registry, RegistryContent
from heorot.security.shared import SharedRecords, kinds_in
from heorot.security.signing import Signer
from heorot.security.tokens import KEPT_AFTER_EXPIRY_MS, TokenRecord, TokenRefused, TokenStore

NOW_MS = 1_800_000_000_000
SIGNER = Signer(bytes(32))


def node(number: int, at_ms: int, key: str = "00") -> NodeRecord:
    """Return a node that has joined at this time."""
    return NodeRecord(number, f"host{number}", key, "t", at_ms)


class Host:
    """A head's host."""

    def __init__(self, directory: Path, signer: Signer = SIGNER) -> None:
        directory.mkdir()
        self.now_ms = NOW_MS
        self.registry = Registry(directory)
        self.tokens = TokenStore(directory)
        self.heads = HeadRegistry(directory)
        self.shared = SharedRecords(directory, signer, lambda: self.now_ms / 1000)

    def join(self, number: int) -> None:
        with self.tokens.lock():
            self.registry.put(node(number, self.now_ms))

    def remove(self, number: int) -> None:
        with self.tokens.lock():
            assert self.registry.remove(number, self.now_ms)


@pytest.fixture
def hosts(tmp_path: Path) -> tuple[Host, Host]:
    return Host(tmp_path / "a"), Host(tmp_path / "b")


def exchange(first: Host, second: Host) -> bytes:
    """Let both hear of each other; return what both then have."""
    data = second.shared.merge(first.shared.merge(b""))
    assert first.shared.merge(data) == data
    assert second.shared.merge(data) == data
    return data


def test_nodes_that_joined_anywhere_are_known_everywhere_and_removed_ones_stay_away(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.join(0)
    second.join(1)
    exchange(first, second)
    assert list(first.registry.nodes()) == list(second.registry.nodes()) == [0, 1]
    second.remove(0)
    exchange(first, second)
    assert list(first.registry.nodes()) == list(second.registry.nodes()) == [1]
    # The clock of the head that gives the number anew is late.
    second.now_ms -= 60_000
    second.join(0)
    exchange(first, second)
    assert list(first.registry.nodes()) == [0, 1]
    first.now_ms -= 60_000
    first.remove(0)
    exchange(first, second)
    assert list(second.registry.nodes()) == [1]


A, B = Address("10.0.0.1", 1), Address("10.0.0.2", 2)


def test_who_had_a_number_stays_known_everywhere_when_it_is_given_anew(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.join(0)
    exchange(first, second)
    second.now_ms += 1_000
    second.remove(0)
    exchange(first, second)
    assert first.registry.content().given_before() == []
    first.now_ms += 2_000
    with first.tokens.lock():
        first.registry.put(node(0, first.now_ms, "01"))
    exchange(first, second)
    for host in hosts:
        assert host.registry.content().given_before() == [(0, "00")]
    # A number is given from one host to the next without a removal, too.
    with second.tokens.lock():
        second.registry.put(node(0, first.now_ms + 1_000, "02"))
    exchange(first, second)
    assert first.registry.content().given_before() == [(0, "00"), (0, "01")]


def test_an_earlier_release_that_notes_a_certificate_takes_no_node_from_the_host_of_its_head() -> None:
    joined = RegistryContent({0: replace(node(0, NOW_MS), head="h0")}, {})
    noted = RegistryContent({0: replace(node(0, NOW_MS), certificate_ends_at_ms=NOW_MS + 1)}, {})
    both = {0: replace(node(0, NOW_MS), head="h0", certificate_ends_at_ms=NOW_MS + 1)}
    assert joined.merged(noted).nodes == noted.merged(joined).nodes == both
    # Another host that was given the number is no head's.
    anew = RegistryContent({0: node(0, NOW_MS + 1, "01")}, {})
    assert joined.merged(anew).nodes == anew.merged(joined).nodes == anew.nodes


def test_no_more_former_holders_are_remembered_than_there_is_room_for(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "MAX_FORMER", 2)
    first, _ = hosts
    for serial in range(4):
        with first.tokens.lock():
            first.registry.put(node(0, NOW_MS + serial, f"0{serial}"))
    assert first.registry.content().given_before() == [(0, "01"), (0, "02")]


def test_heads_that_were_added_or_removed_anywhere_are_so_everywhere(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.heads.seed((A,), A, "h0")
    first.heads.add("h1", B, NOW_MS)
    # The other one has both in its configuration, and does not know who is at the first address.
    second.heads.seed((A, B), B, "h1")
    exchange(first, second)
    for host in hosts:
        assert [(head.name, head.host) for head in host.heads.listed()] == [("h0", A.host), ("h1", B.host)]
        assert host.heads.removed() == frozenset()
    assert second.heads.remove("h0", NOW_MS - 60_000).address == str(A)
    exchange(first, second)
    for host in hosts:
        assert host.heads.addresses() == ((B.host, B.port),)
        assert host.heads.removed() == {"h0"}
        # A configuration that names it still does not bring it back.
        host.heads.seed((A, B), A, "h0")
        assert host.heads.addresses() == ((B.host, B.port),)
    first.heads.add("h0", Address("10.0.0.9", 9), NOW_MS - 60_000)
    exchange(first, second)
    assert [head.host for head in second.heads.listed()] == ["10.0.0.9", B.host]
    assert second.heads.removed() == frozenset()


def test_a_cluster_keeps_one_head_and_has_no_more_than_nodes_can_be_told(tmp_path: Path) -> None:
    heads = HeadRegistry(tmp_path)
    heads.seed((A,), A, "h0")
    with pytest.raises(SecurityError, match="h0 is the only head"):
        heads.remove("h0", NOW_MS)
    for number in range(MAX_HEADS - 1):
        heads.add(f"a{number}", Address("10.1.0.1", number + 1), NOW_MS)
    with pytest.raises(SecurityError, match=f"a cluster has {MAX_HEADS} heads at most"):
        heads.add("more", B, NOW_MS)
    for number in range(MAX_REMOVED + 5):
        heads.remove("a0", NOW_MS)
        heads.add("a0", Address("10.2.0.1", number + 1), NOW_MS)
    assert len(heads.content()) == MAX_HEADS + MAX_REMOVED
    heads.path.write_text('{"version": 1, "heads": [{"address": "x"}]}')
    with pytest.raises(SecurityError, match="is damaged; restore it from another head's host"):
        heads.listed()


def test_a_token_is_good_at_every_head_as_often_as_it_says_and_no_more(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    token, record = first.tokens.create(bytes(32), NOW_MS, uses=2)
    other, _ = first.tokens.create(bytes(32), NOW_MS)
    exchange(first, second)
    second.tokens.use(second.tokens.check(token.id, token.secret, NOW_MS))
    assert second.tokens.revoke(other.id.hex())
    exchange(first, second)
    assert first.tokens.check(token.id, token.secret, NOW_MS).uses_left == 1
    assert [one.id for one in first.tokens.list()] == [record.id]
    with pytest.raises(TokenRefused):
        first.tokens.check(other.id, other.secret, NOW_MS)


def test_tokens_that_are_long_over_are_forgotten_and_do_not_come_back(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.tokens.create(bytes(32), NOW_MS, ttl_ms=1000)
    exchange(first, second)
    second.now_ms += 1000 + KEPT_AFTER_EXPIRY_MS
    second.tokens.create(bytes(32), second.now_ms)
    second.shared.merge(first.shared.merge(b""))
    assert len(second.tokens.all()) == 1


def test_nothing_is_read_again_that_has_not_changed(hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = hosts
    first.join(0)
    data = exchange(first, second)
    monkeypatch.setattr(SharedRecords, "decode", None)
    assert first.shared.merge(data) is data


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "other-key", "no-json", "bomb"])
def test_what_no_head_has_signed_or_nobody_can_read_changes_nothing(
    hosts: tuple[Host, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    first, second = hosts
    first.join(0)
    second.join(1)
    good = first.shared.merge(b"")
    bad = {
        "empty": b"",
        "cut": good[:-1],
        "changed": good[:70] + bytes([good[70] ^ 1]) + good[71:],
        "other-key": Host(tmp_path / "c", Signer(b"1" * 32)).shared.merge(b""),
        "no-json": SIGNER.sign(shared.CONTEXT + b"x") + b"x",
        "bomb": good,
    }[damage]
    if damage == "bomb":
        monkeypatch.setattr(shared, "MAX_PLAIN_BYTES", 10)
    theirs = second.shared.merge(bad)
    assert list(second.registry.nodes()) == [1]
    monkeypatch.undo()
    assert first.shared.decode(theirs) is not None


def test_records_that_are_too_long_are_refused_with_what_to_do(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts[0].join(0)
    monkeypatch.setattr(shared, "MAX_BYTES", 10)
    with pytest.raises(SecurityError, match="remove nodes that are gone"):
        hosts[0].shared.merge(b"")


def test_a_signed_record_cannot_name_a_file_of_another_directory(hosts: tuple[Host, Host]) -> None:
    evil = TokenRecord("../../evil", "00", NOW_MS, NOW_MS + 1000, 1)
    data = hosts[0].shared.encode((RegistryContent({}, {}), {evil.id: evil}, {}, {}, {}))
    with pytest.raises(SecurityError, match="is no token's id"):
        hosts[0].shared.merge(data)


nodes = st.dictionaries(
    st.integers(0, 3), st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.sampled_from(["", "h0"])), max_size=4
)
contents = st.builds(
    lambda found, removed, former: RegistryContent(
        {number: replace(node(number, at_ms, key), head=head) for number, (at_ms, key, head) in found.items()},
        removed,
        former,
    ).tidy(),
    nodes,
    st.dictionaries(st.integers(0, 3), st.integers(0, 5), max_size=4),
    st.dictionaries(st.tuples(st.integers(0, 3), st.sampled_from("ab")), st.integers(0, 5), max_size=3),
)
tokens = st.dictionaries(st.sampled_from("xy"), st.tuples(st.integers(0, 3), st.booleans()), max_size=2).map(
    lambda found: {name: TokenRecord(name, "00", 0, 9, uses, -1, revoked) for name, (uses, revoked) in found.items()}
)
heads = st.dictionaries(
    st.sampled_from(["a:1", "b:2"]),
    st.tuples(st.sampled_from(["", "h0", "h1"]), st.integers(0, 3), st.booleans(), st.integers(0, 3)),
    max_size=2,
).map(lambda found: {address: HeadRecord(address, *rest) for address, rest in found.items()})
KINDS = kinds_in(Path("/nonexistent"))
wishes = st.lists(
    st.builds(NodeWish, node=st.integers(0, 2), epoch=st.integers(1, 2), state=st.sampled_from(["", "drain"])),
    max_size=3,
).map(lambda found: {wish.node: wish for wish in sorted(found, key=lambda one: one.node)})
events = st.sets(st.tuples(st.integers(1, 2), st.integers(1, 3)), max_size=4).map(
    lambda found: {order: ClusterEvent(*order, 5, "up", "n0") for order in sorted(found)}
)
CONTENTS = contents, tokens, heads.map(lambda found: merged(found, {})), wishes, events
EACH_KIND = pytest.mark.parametrize(
    ("kind", "content"), list(zip(KINDS, CONTENTS, strict=True)), ids=[type(kind).__name__ for kind in KINDS]
)


@EACH_KIND
@given(data=st.data())
def test_of_no_kind_does_the_order_matter(kind: RecordKind[Any], content: Any, data: st.DataObject) -> None:
    a, b, c = three = data.draw(st.tuples(content, content, content))
    results = [kind.merge(kind.merge(x, y), z) for x, y, z in itertools.permutations(three)]
    first = results[0]
    assert all(result == first for result in results)
    assert kind.merge(a, kind.merge(b, c)) == first
    assert kind.merge(first, first) == first


@EACH_KIND
@given(data=st.data())
def test_of_each_kind_is_read_what_was_written_and_no_other_field(
    kind: RecordKind[Any], content: Any, data: st.DataObject
) -> None:
    held = data.draw(content)
    written = json.loads(json.dumps(kind.fields(held)))
    assert kind.parse(written | {"later": [1]}) == held
    others = [name for other in KINDS if other is not kind for name in other.fields(other.content())]
    assert not written.keys() & set(others)


class Notices(RecordFile[dict[str, int]]):
    """What a further kind has to say: words to all administrators, the latest of each."""

    name = "notices.json"
    what = "the notices"
    remedy = "remove it"

    def empty(self) -> dict[str, int]:
        return {}

    def merge(self, ours: dict[str, int], theirs: dict[str, int]) -> dict[str, int]:
        return {text: max(ours.get(text, 0), theirs.get(text, 0)) for text in sorted(ours.keys() | theirs.keys())}

    def fields(self, content: dict[str, int]) -> dict[str, Any]:
        return {"notices": content}

    def parse(self, fields: Fields) -> dict[str, int]:
        return {str(text): int(at_ms) for text, at_ms in fields.get("notices", {}).items()}


def test_a_further_kind_is_shared_beside_heads_that_do_not_know_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = Host(tmp_path / "older")
    monkeypatch.setattr(shared, "kinds_in", lambda directory: (*kinds_in(directory), Notices(directory)))
    first, second = Host(tmp_path / "first"), Host(tmp_path / "second")
    notices = [Notices(host.tokens.directory.parent) for host in (first, second)]
    with first.tokens.lock():
        notices[0].take({"reboot": 1})
    older.join(0)
    data = first.shared.merge(older.shared.merge(first.shared.merge(b"")))
    # What is known to all but the older one's own kinds is not written again.
    assert older.shared.merge(data) == data
    assert second.shared.merge(data) == data
    assert notices[1].content() == {"reboot": 1}
    assert list(second.registry.nodes()) == [0]
