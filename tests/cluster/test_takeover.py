"""Heads that are killed, stopped and switched while jobs run: who takes over, and who obeys whom."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.harness import Cluster, await_that, cluster, is_alive, kill_hard

TIMES = {"HEOROT_TIMES": "heartbeat_ms=300,link_timeout_ms=1500"}


@pytest.fixture
def three() -> Iterator[Cluster]:
    """Three nodes under one of three heads."""
    with cluster(3, "--heads", "3", environment=TIMES) as made:
        yield made


def roles(made: Cluster) -> dict[str, str]:
    """Return the role of each head, empty while nobody answers."""
    result = made.run("heorot", "status", "--json")
    return {head["name"]: head["role"] for head in json.loads(result.stdout)["heads"]} if not result.returncode else {}


def head(made: Cluster, role: str = "active") -> dict[str, Any]:
    """Return the first head that has this role."""
    found: dict[str, Any] = next(head for head in made.status()["heads"] if head["role"] == role)
    return found


def await_epoch(made: Cluster, epoch: int) -> dict[str, Any]:
    """Wait until a head serves in this epoch and all nodes are up; return its status."""

    def asked() -> dict[str, Any] | None:
        result = made.run("heorot", "status", "--json")
        if result.returncode:
            return None
        status: dict[str, Any] = json.loads(result.stdout)
        up = all(node["state"] == "up" for node in status["nodes"])
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
    assert three.job(marked)["running"] == 3
    # Without a name, anybody.
    three.check("heorot", "head", "switch")
    await_epoch(three, 4)
    assert roles(three)["h0"] == "standby"


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
