"""The coordination store of real clusters, against real etcd: elections, epochs, members that die, a majority lost."""

from __future__ import annotations

import base64
import json
import select
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heorot.coord.etcd import EtcdStore
from heorot.coord.etcd_client import EtcdSettings
from heorot.coord.port import Shared
from heorot.core.errors import SecurityError
from heorot.core.keeper.election import LeaseLost, StoreRefused, StoreUnavailable, Term
from tests.cluster.harness import await_that
from tests.support.etcd import Etcd, etcd


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Three members for tests that leave them as they are."""
    with etcd(tmp_path_factory.mktemp("etcd")) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Etcd]:
    """Three members for one test."""
    with etcd(tmp_path) as made:
        yield made


class Candidates:
    """Makes candidates of one cluster, and closes them."""

    def __init__(self, where: Etcd, cluster: str = "", authority: str = "a1") -> None:
        self.cluster = cluster or uuid.uuid4().hex
        self._where = where
        self._authority = authority
        self._made: list[EtcdStore] = []

    def __enter__(self) -> Candidates:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._made:
            store.close()

    def new(self, name: str, lease_s: float = 2.0, shared: Shared | None = None) -> EtcdStore:
        """Return a candidate."""
        settings = EtcdSettings(tuple(self._where.urls))
        self._made.append(EtcdStore(settings, self.cluster, self._authority, name, lease_s, shared))
        return self._made[-1]

    def key(self, name: str) -> str:
        """Return a key of this cluster as the gateway wants it."""
        return text64(f"/heorot/{self.cluster}/{name}")

    def put(self, name: str, value: str) -> None:
        """Change a key behind the heads' back."""
        self._where.ask("/v3/kv/put", {"key": self.key(name), "value": text64(value)})

    def delete(self, name: str) -> None:
        """Delete a key behind the heads' back."""
        self._where.ask("/v3/kv/deleterange", {"key": self.key(name)})


def text64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def elect(store: EtcdStore, floor: int = 0) -> Term:
    """Campaign without an opponent."""
    term = store.campaign(floor)
    assert term is not None
    return term


def test_of_two_candidates_one_leads_and_the_other_is_told_when_it_resigns(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        first, second = candidates.new("h0"), candidates.new("h1")
        first.look()
        assert elect(first).epoch == 1
        view = second.look()
        assert (view.leader, view.epoch, view.candidates) == ("h0", 1, ("h0", "h1"))
        assert second.campaign(0) is None
        first.resign()
        # The watch says so; nothing else would.
        assert select.select(second.hints(), [], [], 30)[0]
        assert second.look().leader == ""
        assert elect(second).epoch == 2
        assert first.look().leader == "h1"


def test_epochs_grow_whoever_is_elected(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        stores = [candidates.new("h0"), candidates.new("h1")]
        for epoch in range(1, 9):
            store = stores[epoch % 2]
            assert elect(store).epoch == epoch
            assert stores[(epoch + 1) % 2].campaign(0) is None
            store.resign()


def test_a_leader_that_is_not_heard_of_is_replaced_and_must_stop_when_it_comes_back(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        first, second = candidates.new("h0", 1.0), candidates.new("h1", 1.0)
        elect(first)
        assert first.renew().leader == "h0"
        term = await_that(lambda: second.campaign(0), "the lease has run out")
        assert term is not None
        assert term.epoch == 2
        with pytest.raises(LeaseLost):
            first.renew()
        assert second.renew().leader == "h1"


def test_a_leader_whose_key_was_deleted_or_taken_must_stop(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        first, second = candidates.new("h0"), candidates.new("h1")
        elect(first)
        candidates.delete("leader")
        with pytest.raises(LeaseLost, match="nobody leads"):
            first.renew()
        elect(second)
        with pytest.raises(LeaseLost, match="h1 leads"):
            first.renew()


def test_a_lost_answer_to_the_election_is_found_to_have_been_yes(shared: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    with Candidates(shared) as candidates:
        store = candidates.new("h0")
        client = store._client
        exchange = client._exchange
        lost: list[str] = []

        def lossy(member: Any, path: str, body: dict[str, Any], deadline_s: float) -> dict[str, Any]:
            answer = exchange(member, path, body, deadline_s)
            if path == "/v3/kv/txn" and not lost:
                lost.append(path)
                raise ConnectionResetError("lost on the way back")
            return answer

        monkeypatch.setattr(client, "_exchange", lossy)
        assert elect(store).epoch == 1
        assert lost
        assert store.renew().leader == "h0"


def test_an_epoch_deleted_by_hand_is_not_repeated(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        store = candidates.new("h0")
        elect(store)
        store.resign()
        candidates.delete("epoch")
        term = elect(store, floor=41)
        assert term.epoch == 42
        assert "41" in term.warning
        assert store.look().epoch == 42


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("epoch", "seven", "is no number"),
        ("epoch", "", "is no number"),
        ("leader", "[[[", "holds what no head wrote"),
        ("leader", "{}", "names nobody"),
        ("identity", "7", "holds what no head wrote"),
    ],
)
def test_keys_that_no_head_wrote_are_named(shared: Etcd, key: str, value: str, says: str) -> None:
    with Candidates(shared) as candidates:
        store = candidates.new("h0")
        candidates.put(key, value)
        for attempt in (store.look, lambda: store.campaign(0)):
            with pytest.raises(StoreRefused, match=says) as caught:
                attempt()
            assert f"{candidates.cluster}/{key}" in str(caught.value)
        # Who repairs it goes on.
        candidates.delete(key)
        elect(store)


def test_two_clusters_share_one_etcd(shared: Etcd) -> None:
    with Candidates(shared, authority="a1") as ours, Candidates(shared, authority="a2") as theirs:
        one, other = ours.new("h0"), theirs.new("h0")
        assert (elect(one).epoch, elect(other).epoch) == (1, 1)
        assert (one.look().candidates, other.look().candidates) == (("h0",), ("h0",))
        one.resign()
        assert elect(one).epoch == 2
        assert other.renew().epoch == 1


def test_another_cluster_of_the_same_name_is_refused(shared: Etcd) -> None:
    with Candidates(shared, authority="a1") as ours:
        elect(ours.new("h0"))
        with Candidates(shared, ours.cluster, authority="a2") as theirs:
            store = theirs.new("h0")
            for attempt in (store.look, lambda: store.campaign(0)):
                with pytest.raises(StoreRefused, match="belongs to another cluster"):
                    attempt()


def test_the_preferred_one_is_known_until_somebody_is_elected(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        first, second = candidates.new("h0"), candidates.new("h1")
        first.look()
        first.prefer("h1")
        assert second.look().preferred == "h1"
        elect(second)
        assert first.look().preferred == ""
        first.prefer("h0")
        await_that(lambda: first.look().preferred == "", "the wish has run out")


class Numbers:
    """Shared records: a set of numbers, of which each head knows some."""

    def __init__(self, *numbers: int) -> None:
        self.known = set(numbers)

    def merge(self, theirs: bytes) -> bytes:
        try:
            found = set(json.loads(theirs or b"[]"))
        except ValueError:
            found = set()
        self.known |= found
        return theirs if self.known == found and theirs else json.dumps(sorted(self.known)).encode()


def test_every_head_has_what_any_of_them_has(shared: Etcd) -> None:
    with Candidates(shared) as made:
        records = [Numbers(0, 1), Numbers(1, 2), Numbers()]
        leader, second, third = (made.new(f"h{number}", shared=one) for number, one in enumerate(records))
        elect(leader)
        for store in (second, third):
            store.look()
        leader.renew()
        for store in (second, third):
            store.look()
        assert [one.known for one in records] == [{0, 1, 2}] * 3
        # A standby changes something, and all have it.
        records[2].known.add(7)
        third.look()
        assert leader.renew().warning == ""
        second.look()
        assert [one.known for one in records] == [{0, 1, 2, 7}] * 3


@pytest.mark.parametrize("key", ["stamp", "~records"])
@pytest.mark.parametrize("value", ["", "nonsense", None])
def test_records_that_somebody_has_damaged_come_right_again(shared: Etcd, key: str, value: str | None) -> None:
    with Candidates(shared) as made:
        made.new("h0", shared=Numbers(4)).look()
        if value is None:
            made.delete(key)
        else:
            made.put(key, value)
        late = Numbers(5)
        made.new("h1", shared=late).look()
        again = Numbers()
        made.new("h2", shared=again).look()
        assert 5 in again.known
        assert again.known == late.known


def test_records_that_cannot_be_shared_are_a_warning_and_no_reason_not_to_lead(shared: Etcd) -> None:
    class Broken(Numbers):
        def merge(self, theirs: bytes) -> bytes:
            raise SecurityError("the file is damaged")

    with Candidates(shared) as made:
        store = made.new("h0", shared=Broken())
        elect(store)
        assert store.renew().warning == "nodes and tokens are not shared with the other heads: the file is damaged"


def test_candidates_that_are_gone_are_not_listed(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        first, second = candidates.new("h0"), candidates.new("h1", 1.0)
        second.look()
        assert first.look().candidates == ("h0", "h1")
        # It says no more, as one that was killed.
        await_that(lambda: first.look().candidates == ("h0",), "its lease has run out")
        second._candidate_due_s = 0.0
        assert second.look().candidates == ("h0", "h1")
        second.close()
        assert first.look().candidates == ("h0",)


def test_members_that_die_and_come_back_are_not_noticed(own: Etcd) -> None:
    with Candidates(own) as candidates:
        store = candidates.new("h0", 5.0)
        elect(store)
        for member in (0, 1, 2, 0):
            own.kill(member)
            # While etcd elects a leader of its own nobody answers; then our lease goes on.
            await_that(lambda: _renewed(store), "a renewal with two members")
            own.start(member)
            own.await_majority(member)
        assert store.renew().epoch == 1


def _renewed(store: EtcdStore) -> bool:
    try:
        return store.renew().leader == "h0"
    except StoreUnavailable:
        return False


def test_without_a_majority_nobody_is_elected_and_everybody_told(own: Etcd) -> None:
    with Candidates(own) as candidates:
        store, other = candidates.new("h0", 5.0), candidates.new("h1")
        elect(store)
        own.kill(1, 2)
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            store.renew()
        for attempt in (other.look, lambda: other.campaign(0)):
            with pytest.raises(StoreUnavailable):
                attempt()
        own.start(1, 2)
        own.await_majority()
        # etcd counts leases anew after an election of its own.
        await_that(lambda: _renewed(store), "the lease goes on")


def test_while_nobody_answers_nothing_hints_that_it_is_time_to_ask_again(own: Etcd) -> None:
    with Candidates(own) as candidates:
        leader, other = candidates.new("h0", 5.0), candidates.new("h1")
        elect(leader)
        leader.renew()
        other.look()
        assert len(leader.hints()) == len(other.hints()) == 1
        own.kill()
        # The watches have broken; a keeper that waited for them would never wait again.
        for store, ask in ((leader, leader.renew), (other, other.look)):
            with pytest.raises(StoreUnavailable):
                ask()
            assert store.hints() == []


def test_a_candidate_whose_key_was_deleted_is_listed_again(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        first, second = candidates.new("h0"), candidates.new("h1")
        second.look()
        elect(first)
        for store, ask in ((first, first.renew), (second, second.look)):
            candidates.delete(f"candidates/{store._name}")
            await_that(lambda ask=ask: ask().candidates == ("h0", "h1"), "both are listed")  # type: ignore[misc]


def test_two_heads_of_one_name_are_said_and_never_lead_both(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        first, second = candidates.new("h0"), candidates.new("h0")
        assert first.look().warning == ""
        assert second.look().warning == ""
        assert "is called h0, too" in first.look().warning
        elect(first)
        assert second.campaign(0) is None
        assert "is called h0, too" in first.renew().warning
        second.close()
        first.look()
        assert first.look().warning == ""


def test_a_leader_that_would_never_vanish_is_named(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        store = candidates.new("h0")
        candidates.put("leader", '{"name": "h9"}')
        with pytest.raises(StoreRefused, match="leader in etcd has no lease"):
            store.look()
        candidates.delete("leader")
        elect(store)


def test_all_that_is_in_etcd_lies_below_the_cluster_s_own_prefix(shared: Etcd) -> None:
    with Candidates(shared) as candidates:
        elect(candidates.new("h0"))
        everything = shared.ask("/v3/kv/range", {"key": "AA==", "range_end": "AA==", "keys_only": True})
        rows: Any = everything["kvs"]
        keys = [base64.b64decode(row["key"]).decode() for row in rows]
        assert f"/heorot/{candidates.cluster}/leader" in keys
        assert all(key.startswith("/heorot/") or key == "ready" for key in keys)
        assert json.loads(json.dumps(keys)) == keys
