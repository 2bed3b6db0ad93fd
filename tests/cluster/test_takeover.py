"""Heads that are killed, stopped and switched while jobs run: who takes over, and who obeys whom."""

from __future__ import annotations

import os
import select
import signal
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heorot.cli.request import Head
from heorot.core.wire.clients import Spawn
from heorot.core.wire.framing import encode_frame
from heorot.core.wire.launch import LaunchSpec
from heorot.core.wire.tree import encode
from tests.cluster.harness import Cluster, await_that, cluster, host_pids, is_alive, kill_hard
from tests.support.etcd import Etcd, etcd

pytestmark = pytest.mark.slow

TIMES = {"HEOROT_TIMES": "heartbeat_ms=300,link_timeout_ms=5000"}
LEASE_S = 6
"""Longer than a busy machine keeps a keeper or the store waiting: heads are counted by their epochs here."""


@pytest.fixture
def three() -> Iterator[Cluster]:
    """Three nodes under one of three heads."""
    with cluster(3, "--heads", "3", environment=TIMES) as made:
        yield made


def roles(made: Cluster) -> dict[str, str]:
    """Return the role of each head, empty while nobody answers."""
    return {head["name"]: head["role"] for head in made.known().get("heads", ())}


def head(made: Cluster, role: str = "active") -> dict[str, Any]:
    """Return the first head that has this role."""
    found: dict[str, Any] = next(head for head in made.status()["heads"] if head["role"] == role)
    return found


def await_epoch(made: Cluster, epoch: int) -> dict[str, Any]:
    """Wait until a head serves in this epoch and all nodes are up; return its status."""

    def asked() -> dict[str, Any] | None:
        status = made.known()
        up = status and all(node["state"] == "up" for node in status["nodes"])
        return status if up and status["epoch"] >= epoch else None

    status = await_that(asked, f"epoch {epoch}")
    assert status is not None
    assert status["epoch"] == epoch
    return status


def test_switching_goes_to_the_named_head_and_back(three: Cluster) -> None:
    marked = three.detach("-a", "/bin/sh", "-c", "echo before; sleep 600")
    three.check("heorot", "head", "switch", "h2")
    await_epoch(three, 2)
    assert roles(three) == {"h0": "standby", "h1": "standby", "h2": "active"}
    assert three.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
    three.check("heorot", "head", "switch", "h0")
    await_epoch(three, 3)
    assert roles(three) == {"h0": "active", "h1": "standby", "h2": "standby"}
    three.await_job(marked, lambda shown: shown["running"] == 3, "all of the job is known")
    # Without a name, anybody.
    three.check("heorot", "head", "switch")
    await_epoch(three, 4)
    assert roles(three)["h0"] == "standby"


def test_who_stops_or_starts_a_head_sees_that_at_once(three: Cluster) -> None:
    await_that(lambda: len(roles(three)) == 3, "all heads")
    for name in ("h1", "h2"):
        stopped = three.run("heorot", "head", "stop", name)
        assert (stopped.returncode, stopped.stderr, name in roles(three)) == (0, b"", False)
        started = three.run("heorot", "head", "start", name)
        assert (started.returncode, started.stderr, roles(three)[name]) == (0, b"", "standby")


def test_a_signal_to_the_keeper_switches_too(three: Cluster) -> None:
    os.kill(head(three)["keeper_pid"], signal.SIGUSR1)
    await_epoch(three, 2)
    assert roles(three)["h0"] == "standby"


@pytest.mark.parametrize(
    ("name", "says"), [("h9", b"no standby head 'h9'; there is h1, h2"), ("h0", b"active head already")]
)
def test_switching_to_nobody_changes_nothing(three: Cluster, name: str, says: bytes) -> None:
    before = three.status()["epoch"]
    result = three.run("heorot", "head", "switch", name)
    assert result.returncode == 1
    assert says in result.stderr
    assert three.status()["epoch"] == before


def test_a_head_without_standby_is_not_switched() -> None:
    with cluster(1) as made:
        result = made.run("heorot", "head", "switch")
        assert result.returncode == 1
        assert b"there is no standby head" in result.stderr
        assert roles(made) == {"h0": "active"}


def test_killed_heads_are_replaced_by_others_and_come_back_as_standbys(three: Cluster) -> None:
    for epoch in range(2, 6):
        before = head(three)
        kill_hard(before["pid"])
        await_epoch(three, epoch)
        assert roles(three)[before["name"]] == "standby"
    assert sorted(roles(three).values()) == ["active", "standby", "standby"]


def test_a_killed_keeper_takes_its_head_with_it_and_another_takes_over(three: Cluster) -> None:
    before = head(three)
    kill_hard(before["keeper_pid"])
    await_that(lambda: not is_alive(before["pid"]), "the head gone with its keeper")
    await_epoch(three, 2)
    # The warden starts the keeper again.
    await_that(lambda: roles(three).get(before["name"]) == "standby", "the keeper back")


def test_while_the_head_is_stopped_nobody_takes_its_lock_and_then_it_goes_on(three: Cluster) -> None:
    before = head(three)
    for pid in (before["keeper_pid"], before["pid"]):
        os.kill(pid, signal.SIGSTOP)
    for pid in (before["keeper_pid"], before["pid"]):
        os.kill(pid, signal.SIGCONT)
    await_epoch(three, 1)
    assert head(three)["pid"] == before["pid"]


def test_a_keeper_does_not_wait_for_a_command_that_comes_in_drops(three: Cluster) -> None:
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(three.directory / "heads" / "h0" / "keeper.sock"))
        slow.sendall((2000).to_bytes(4, "big"))
        for _ in range(100):
            if select.select([slow], [], [], 0.1)[0]:
                break
            slow.send(b" ")
        else:
            pytest.fail("the keeper has waited for a hundred drops")
    assert roles(three) == {"h0": "active", "h1": "standby", "h2": "standby"}


# ------------------------------------------------------------------ with etcd


@pytest.fixture
def over_etcd(tmp_path: Path) -> Iterator[tuple[Cluster, Etcd]]:
    """Three nodes under one of two heads, which agree through etcd with a lease of `LEASE_S`."""
    with etcd(tmp_path) as store:
        times = {"HEOROT_TIMES": f"{TIMES['HEOROT_TIMES']},lease_ms={LEASE_S * 1000}"}
        with cluster(3, "--heads", "2", "--etcd", ",".join(store.urls), environment=times) as made:
            yield made, store


def test_a_dead_head_process_is_replaced_long_before_its_lease_ends(tmp_path: Path) -> None:
    times = {"HEOROT_TIMES": f"{TIMES['HEOROT_TIMES']},lease_ms=60000"}
    with (
        etcd(tmp_path) as store,
        cluster(3, "--heads", "2", "--etcd", ",".join(store.urls), environment=times) as made,
    ):
        for epoch in range(2, 5):
            before = head(made)
            kill_hard(before["pid"])
            # The lease of the first is as long as the patience of this test.
            await_epoch(made, epoch)
            # Which of them leads is a matter of half a second: tests/core/keeper says that the other one goes first.
            assert sorted(roles(made).values()) == ["active", "standby"]


def test_a_dead_keeper_is_replaced_when_its_lease_has_run_out(over_etcd: tuple[Cluster, Etcd]) -> None:
    made, _ = over_etcd
    before = head(made)
    kill_hard(before["keeper_pid"])
    await_that(lambda: not is_alive(before["pid"]), "the head gone with its keeper")
    await_epoch(made, 2)


def test_a_head_that_sleeps_beyond_its_lease_steps_down_and_nobody_obeys_it(over_etcd: tuple[Cluster, Etcd]) -> None:
    made, _ = over_etcd
    before = head(made)
    marker = uuid.uuid4().hex
    client = Head(str(made.directory))
    assert client.ask("status")["epoch"] == 1
    socket_of_the_first = (made.directory / "head.sock").stat().st_ino
    sleepers = [before["keeper_pid"], before["pid"]]
    for pid in sleepers:
        os.kill(pid, signal.SIGSTOP)
    try:
        # A launch lies in its socket when it wakes up.
        client._conversation.outgoing += spawn(marker)
        client._connection.flush()
        # Until the other one has made its own socket there, a question would reach the sleeper, and wait.
        path = made.directory / "head.sock"
        await_that(lambda: path.exists() and path.stat().st_ino != socket_of_the_first, "the other one elected")
        await_epoch(made, 2)
    finally:
        # The head first: it has a moment in which its keeper does not know either.
        for pid in reversed(sleepers):
            os.kill(pid, signal.SIGCONT)
    await_that(lambda: not is_alive(before["pid"]), "the old head ended by its keeper")
    client.close()
    await_that(lambda: roles(made).get(before["name"]) == "standby", "the old head on standby")
    assert is_alive(before["keeper_pid"])
    assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
    assert host_pids(marker) == []
    assert made.status()["epoch"] == 2
    assert not [job for job in made.jobs() if job["job"].startswith("1.")]


def spawn(marker: str) -> bytes:
    """Return a launch on all nodes, as a client sends it."""
    message = Spawn(
        request=99,
        nodes="",
        select="up",
        spec=LaunchSpec(
            argv=[b"/bin/sh", b"-c", b"sleep 600", marker.encode()],
            environment=[],
            directory=b"/",
            umask=0o022,
            limits=[],
            stdin=None,
            stdout=None,
            stderr=None,
            terminal=[],
        ),
        detached=True,
    )
    return encode_frame(encode(message))


def test_without_a_majority_the_head_goes_on_and_says_so(over_etcd: tuple[Cluster, Etcd]) -> None:
    made, store = over_etcd
    before = head(made)
    store.kill(1, 2)
    await_that(lambda: not made.status()["store"]["reachable"], "the status says so")
    await_that(lambda: made.status()["store"]["since_s"] > 1.5 * LEASE_S, "longer than the lease")
    assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
    assert b"store does not answer" in made.check("heorot", "status")
    result = made.run("heorot", "head", "switch")
    assert (result.returncode, b"etcd does not answer" in result.stderr) == (1, True)
    assert head(made)["pid"] == before["pid"]
    store.start(1, 2)
    await_that(lambda: made.known().get("store", {}).get("reachable"), "back")
    status = await_epoch(made, made.status()["epoch"])
    assert status["epoch"] <= 2
    assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
    # And elections work again.
    made.check("heorot", "head", "switch")
    await_epoch(made, status["epoch"] + 1)


def test_members_of_the_store_that_die_one_after_another_are_not_noticed(over_etcd: tuple[Cluster, Etcd]) -> None:
    made, store = over_etcd
    before = head(made)
    for member in range(3):
        store.kill(member)
        assert made.check("bpsh", "-a", "echo", "here") == b"here\n" * 3
        store.start(member)
        store.await_majority(member)
    await_that(lambda: made.status()["store"]["reachable"], "the store answers")
    made.check("heorot", "head", "switch")
    assert await_epoch(made, made.status()["epoch"])["epoch"] >= 2
    assert head(made)["name"] != before["name"]


def test_switching_over_etcd_goes_back_and_forth(over_etcd: tuple[Cluster, Etcd]) -> None:
    made, _ = over_etcd
    marked = made.detach("-a", "/bin/sh", "-c", "sleep 600")
    for epoch, name in ((2, "h1"), (3, "h0"), (4, "h1")):
        made.check("heorot", "head", "switch", name)
        await_epoch(made, epoch)
        assert head(made)["name"] == name
    made.await_job(marked, lambda shown: shown["running"] == 3, "all of the job is known")
