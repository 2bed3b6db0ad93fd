"""A coordination store that answers garbage, that others share, or that somebody has cleared: no job is harmed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heorot.linux.slot_file import SlotFile
from tests.cluster.harness import Cluster, await_that, cluster, kill_hard
from tests.cluster.test_takeover import await_epoch, head, roles
from tests.cluster.witness import Witness
from tests.support.etcd import Etcd, etcd
from tests.support.liar import Liar, Lie, http

pytestmark = pytest.mark.slow

LEASE_S = 4
TIMES = {"HEOROT_TIMES": f"heartbeat_ms=300,link_timeout_ms=5000,lease_ms={LEASE_S * 1000}"}


def log_of(made: Cluster, name: str) -> str:
    """Return what a head's keeper and process have said."""
    path = made.directory / "log" / f"{name}.log"
    return path.read_text() if path.exists() else ""


def store_of(made: Cluster) -> dict[str, Any]:
    """Return what the head says of the store; nothing while nobody leads."""
    return dict(made.known().get("store", {}))


def await_trouble(made: Cluster, says: str) -> str:
    """Wait until the head says this of the store, and return all that it says."""
    await_that(lambda: says in str(store_of(made).get("problem", "")), f"the status says: {says}")
    store = store_of(made)
    assert not store["reachable"]
    return str(store["problem"])


def await_mended(made: Cluster) -> None:
    """Wait until the store is of use again, somebody leads, and a command runs everywhere."""

    def is_well() -> bool:
        status = made.known()
        # Nobody says which head that is: a term that was begun meanwhile is as good.
        return (
            bool(status)
            and status["store"]["reachable"] is True
            and {head["role"] for head in status["heads"]} == {"active", "standby"}
            and all(node["state"] == "up" for node in status["nodes"])
        )

    await_that(is_well, "all is well")
    assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3


def switch(made: Cluster) -> int:
    """Hand over to the other head, as soon as it has announced itself; return the epoch."""
    epoch = int(made.status()["epoch"])
    await_that(lambda: made.run("heorot", "head", "switch").returncode == 0, "a head to hand over to")
    await_mended(made)
    after = int(made.status()["epoch"])
    assert after > epoch
    return after


# ------------------------------------------------------------------ garbage


@pytest.fixture(scope="module")
def lied_to(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Liar]]:
    """Two heads that reach etcd through a liar only, and three nodes."""
    directory = tmp_path_factory.mktemp("liar")
    with (
        etcd(directory, 1) as store,
        Liar(store.urls[0]) as liar,
        cluster(3, "--heads", "2", "--etcd", liar.url, environment=TIMES) as made,
    ):
        await_mended(made)
        yield made, liar


LIES: dict[str, tuple[Lie, str]] = {
    "no HTTP": ((b"\x15\x03\x01\x00\x02\x02\x46\r\n", b"", True), "etcd refuses"),
    "a web page of an error": ((http(b"<html>No</html>", "502 Bad Gateway", "text/html"), b"", False), "is not what"),
    "half of an answer": ((http(b"{" + b" " * 500)[:-400], b"", True), "etcd"),
    "deep JSON": ((http(b"[" * 100_000), b"", False), "is not what etcd says"),
    "nothing in it": ((http(b"{}"), b"", False), "etcd does not say whether a lease goes on"),
    "wrong types": (
        (http(b'{"header": 7, "kvs": {"a": 1}, "TTL": [], "ID": {}, "succeeded": "no"}'), b"", False),
        "etcd",
    ),
    "a lease of somebody else's": ((http(b'{"header": {}, "ID": "7", "kvs": [7]}'), b"", False), "whether a lease"),
    "a number that is none": ((http(b'{"header": {}, "ID": "9' + b"9" * 5000 + b'"}'), b"", False), "no number"),
    "a refusal": (
        (http(b'{"error": "permission denied", "code": 7}', "403 Forbidden"), b"", False),
        "permission denied",
    ),
    "a body without end": ((http(b"")[:-5] + b"9" * 12 + b"\r\n\r\n", b"\0" * 65536, True), "more than 1048576 bytes"),
    "one byte at a time": ((http(b"")[:-5] + b"5000\r\n\r\n", b"x", True), "timed out"),
    "to go on, for ever": ((b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, True), "etcd"),
    "silence": ((b"", b"", False), "timed out"),
    "an end": ((b"", b"", True), "etcd does not answer"),
}
"""What the store says, and a part of what the user is told then."""


@pytest.mark.parametrize("lie", LIES)
def test_garbage_from_the_store_is_said_and_the_head_goes_on(
    lied_to: tuple[Cluster, Liar], tmp_path: Path, lie: str
) -> None:
    made, liar = lied_to
    before = head(made)
    words, says = LIES[lie]
    logged = {name: len(log_of(made, name)) for name in ("h0", "h1")}
    with Witness(made, tmp_path) as witness:
        liar.tell(words)
        try:
            await_trouble(made, says)
            if lie in ("nothing in it", "silence"):
                await_that(lambda: store_of(made)["since_s"] > 1.5 * LEASE_S, "longer than the lease")
            witness.check()
            assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
            assert head(made)["pid"] == before["pid"], "the active head was ended because of what the store said"
            assert says in made.check("heorot", "status").decode()
            for name, said in logged.items():
                await_that(lambda name=name, said=said: " etcd " in log_of(made, name)[said:], f"{name} logs it")  # type: ignore[misc]
        finally:
            liar.tell(None)
        await_mended(made)
        # Both keepers live, and elections work.
        assert before["keeper_pid"] in [head["keeper_pid"] for head in made.status()["heads"]]
        switch(made)


# ------------------------------------------------------------------ keys that somebody has changed


@pytest.fixture(scope="module")
def over_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Etcd]]:
    with (
        etcd(tmp_path_factory.mktemp("store"), 1) as store,
        cluster(3, "--heads", "2", "--etcd", store.urls[0], environment=TIMES) as made,
    ):
        yield made, store


@pytest.fixture
def shared(over_etcd: tuple[Cluster, Etcd]) -> tuple[Cluster, Etcd]:
    """Two heads and three nodes over etcd, all well, as each test of it has to leave them."""
    made, _ = over_etcd
    await_that(lambda: set(roles(made).values()) == {"active", "standby"}, "both heads")
    return over_etcd


def standby(made: Cluster) -> str:
    """Return the name of the head that does not lead."""
    return str(head(made, "standby")["name"])


def text64(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def prefix(made: Cluster) -> str:
    """Return what the cluster's keys begin with."""
    return "/heorot/" + (made.directory / "cluster.toml").read_text().split('"')[1] + "/"


def put(made: Cluster, store: Etcd, key: str, value: str | bytes) -> None:
    store.ask("/v3/kv/put", {"key": text64(prefix(made) + key), "value": text64(value)})


def delete(made: Cluster, store: Etcd, key: str) -> None:
    """Delete a key; an empty one: all of the cluster's."""
    begin = prefix(made) + key
    end = {} if key else {"range_end": text64(begin[:-1] + "0")}
    assert store.ask("/v3/kv/deleterange", {"key": text64(begin), **end})["deleted"] != "0"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("epoch", "seven", "epoch in etcd is no number: b'seven'; put the cluster's highest epoch there"),
        ("epoch", b"\xff" * 300_000, "epoch in etcd is no number"),
        ("leader", "[[[", "leader in etcd holds what no head wrote"),
        ("leader", "{}", "leader in etcd names nobody"),
        ("leader", '{"name": "h9"}', "leader in etcd has no lease, so no head wrote it: delete this key"),
        ("identity", b"\0\xff", "identity in etcd holds what no head wrote"),
        ("identity", '{"authority": "0000"}', "in etcd belongs to another cluster"),
    ],
)
def test_a_damaged_key_is_named_and_the_head_goes_on(
    shared: tuple[Cluster, Etcd], tmp_path: Path, key: str, value: str | bytes, says: str
) -> None:
    made, store = shared
    before = head(made)
    logged = {name: len(log_of(made, name)) for name in ("h0", "h1")}
    with Witness(made, tmp_path) as witness:
        put(made, store, key, value)
        problem = await_trouble(made, says)
        assert prefix(made) in problem
        if key == "leader":
            await_that(lambda: store_of(made)["since_s"] > 1.5 * LEASE_S, "longer than the lease")
        assert head(made)["pid"] == before["pid"]
        assert says in made.check("heorot", "status").decode()
        for name, said in logged.items():
            await_that(lambda name=name, said=said: says in log_of(made, name)[said:], f"{name} logs it")  # type: ignore[misc]
        witness.check()
        # Who repairs it as the message says has a cluster again in which heads are elected.
        epoch = made.status()["epoch"]
        if key == "epoch":
            put(made, store, key, str(epoch))
        else:
            delete(made, store, key)
        await_that(lambda: store_of(made).get("reachable") is True, "mended")
        await_mended(made)
        assert made.status()["epoch"] >= epoch
        switch(made)


@pytest.mark.parametrize("key", ["nodes/h0", "nodes/h9", "preferred", "candidates/\n;rm -rf", "unheard of"])
def test_other_keys_with_garbage_are_no_trouble(shared: tuple[Cluster, Etcd], tmp_path: Path, key: str) -> None:
    made, store = shared
    with Witness(made, tmp_path):
        put(made, store, key, b"[1,\xff" * 1000)
        epoch = made.status()["epoch"]
        made.check("heorot", "head", "switch", standby(made))
        await_epoch(made, epoch + 1)
        assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
    # For the next test; what says which head is to be the next one is gone already.
    store.ask("/v3/kv/deleterange", {"key": text64(prefix(made) + key)})


@pytest.mark.parametrize("deleted", ["epoch", "leader", "candidates/", ""], ids=["epoch", "leader", "candidate", "all"])
def test_what_is_deleted_by_hand_harms_no_job_and_epochs_go_on(
    shared: tuple[Cluster, Etcd], tmp_path: Path, deleted: str
) -> None:
    made, store = shared
    # An epoch that is not the first one, so that one that begins anew is seen.
    switch(made)
    before = switch(made)
    assert before >= 3
    with Witness(made, tmp_path) as witness:
        delete(made, store, deleted + standby(made) if deleted == "candidates/" else deleted)
        if deleted in ("leader", ""):
            await_that(lambda: store_of(made) and made.status()["epoch"] > before, "another term")
        await_mended(made)
        witness.check()
        epoch = made.status()["epoch"]
        assert epoch >= before
        # The next takeovers work, in both directions.
        for _ in range(2):
            epoch = switch(made)
        assert epoch_in(made, store) == str(epoch)


def test_a_head_that_has_never_led_goes_on_above_an_epoch_that_was_deleted(tmp_path: Path) -> None:
    with (
        etcd(tmp_path, 1) as store,
        cluster(3, "--heads", "3", "--etcd", store.urls[0], environment=TIMES) as made,
        Witness(made, tmp_path),
    ):
        for epoch, name in ((2, "h1"), (3, "h0")):
            made.check("heorot", "head", "switch", name)
            await_epoch(made, epoch)
        # It has read the epoch in the store, and that outlives it.
        await_that(lambda: SlotFile(made.directory / "heads/h2/epoch").read() == b"3", "h2 has seen epoch 3")
        kill_hard(next(head["keeper_pid"] for head in made.status()["heads"] if head["name"] == "h2"))
        delete(made, store, "epoch")
        await_that(lambda: made.run("heorot", "head", "switch", "h2").returncode == 0, "h2 is back")
        await_epoch(made, 4)
        assert roles(made)["h2"] == "active"
        assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3


def epoch_in(made: Cluster, store: Etcd) -> str:
    answer: Any = store.ask("/v3/kv/range", {"key": text64(prefix(made) + "epoch")})
    return base64.b64decode(answer["kvs"][0]["value"]).decode()


def test_two_clusters_share_one_etcd_and_do_not_notice(shared: tuple[Cluster, Etcd], tmp_path: Path) -> None:
    made, store = shared
    with (
        cluster(3, "--heads", "2", "--etcd", store.urls[0], environment=TIMES) as other,
        Witness(made, tmp_path, "n1"),
        Witness(other, tmp_path, "n2"),
    ):
        before = head(other)
        for _ in range(2):
            epoch = made.status()["epoch"]
            made.check("heorot", "head", "switch", standby(made))
            await_epoch(made, epoch + 1)
        assert (head(other)["pid"], other.status()["epoch"]) == (before["pid"], 1)
        # All that is of one is deleted: the other one does not mind.
        delete(made, store, "")
        await_mended(made)
        assert (head(other)["pid"], other.status()["epoch"]) == (before["pid"], 1)
        assert other.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
