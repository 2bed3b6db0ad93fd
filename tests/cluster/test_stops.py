"""Ranks that stop, on a whole cluster: every head and every agent that comes later knows it."""

from __future__ import annotations

from collections.abc import Iterator
from signal import SIGSTOP

import pytest

from tests.cluster.harness import Cluster, cluster, kill_hard


@pytest.fixture
def pair() -> Iterator[Cluster]:
    """Three nodes in a chain, under one of two heads."""
    with cluster(3, "--heads", "2", "--fanout", "1") as made:
        yield made


def test_who_is_stopped_is_known_after_the_loss_of_agents_and_heads(pair: Cluster) -> None:
    job = pair.detach("-a", "sh", "-c", "[ $HEOROT_RANK = 1 ] || kill -STOP $$; echo on; exec sleep 1000")
    stopped = {"0": int(SIGSTOP), "2": int(SIGSTOP)}
    shown = pair.await_job(job, lambda shown: bool(shown["stopped"] == stopped), "two ranks are stopped")
    assert shown["running"] == 3
    text = pair.check("bpjob", "show", job).decode()
    assert text.count("stopped by SIGSTOP") == 2
    assert "1 running, 2 stopped" in text
    kill_hard(pair.node(1)["agent_pid"])
    pair.await_up()
    kill_hard(pair.head_pid())
    pair.await_up()
    pair.await_job(job, lambda shown: bool(shown["stopped"] == stopped), "the next head knows it")
    pair.check("bpkill", "-CONT", f"{job}:2")
    pair.await_job(job, lambda shown: bool(shown["stopped"] == {"0": int(SIGSTOP)}), "one goes on")
    pair.check("bpjob", "kill", "-9", job)
    pair.await_job(job, lambda shown: shown["state"] == "done" and not shown["stopped"], "the end")
