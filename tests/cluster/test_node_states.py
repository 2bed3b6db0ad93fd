"""Nodes that are taken out of use and given back, with real daemons that are killed meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from heorot.daemons.health import HealthSettings, check_nodes
from tests.cluster.harness import Cluster, await_that, cluster, kill_hard


@pytest.fixture(scope="module")
def pair() -> Iterator[Cluster]:
    """Three nodes, and two heads."""
    with cluster(3, "--heads", "2") as made:
        yield made


@pytest.fixture(autouse=True)
def as_before(pair: Cluster) -> Iterator[None]:
    yield
    pair.check("heorot", "node", "resume", "n[0-2]")


def rows(made: Cluster) -> list[dict[str, Any]]:
    """What ``bpstat`` says."""
    found: list[dict[str, Any]] = json.loads(made.check("bpstat", "--json"))
    return found


def states(made: Cluster) -> list[str]:
    return [row["state"] for row in rows(made)]


def kill_head(made: Cluster) -> None:
    """Kill the active head; the next one serves when this returns."""
    epoch = made.status()["epoch"]
    kill_hard(made.head_pid())
    await_that(lambda: made.status()["epoch"] > epoch, "the next head")


def test_a_drained_node_takes_nothing_more_under_any_head_and_what_runs_there_goes_on(pair: Cluster) -> None:
    job = pair.detach("n0", "sleep", "1000")
    pair.await_job(job, lambda shown: bool(shown["running"]), "the rank runs")
    done = pair.check("heorot", "node", "drain", "n0", "--reason", "disk swap")
    assert done == b"n0 is drained: nothing is started there any more; 1 rank goes on there\n"
    kill_head(pair)
    pair.await_up(1, 2)
    kill_head(pair)
    user = rows(pair)[0]["set_by"]
    refused = pair.run("bpsh", "n[0-1]", "true")
    assert (refused.returncode, refused.stderr.decode()) == (
        125,
        f"bpsh: n0 is set to drain (by {user}: disk swap); 'bpstat -l' shows it\n",
    )
    assert sorted(pair.check("bpsh", "-a", "-p", "echo").splitlines()) == [b"  1: ", b"  2: "]
    assert pair.job(job)["running"] == 1
    pair.check("bpjob", "kill", job)
    assert pair.run("bpjob", "wait", job).returncode == 128 + 15
    assert pair.check("heorot", "node", "resume", "n0") == (
        b"n0 is set to nothing any more: processes may be started there\n"
    )
    pair.check("bpsh", "n0", "true")


def test_what_was_acknowledged_a_moment_before_all_heads_were_killed_is_so_when_they_are_back(pair: Cluster) -> None:
    answer = json.loads(pair.check("heorot", "node", "drain", "n1,n2,n1", "--json"))
    assert answer == {"nodes": [1, 2], "late": []}
    for head in pair.status()["heads"]:
        pair.check("heorot", "head", "stop", head["name"])
    pair.check("heorot", "head", "start", "h0", "h1")
    await_that(lambda: states(pair) == ["up", "drain", "drain"], "the states of before")


def test_bpstat_shows_why_who_and_since_when_and_lists_select_it(pair: Cluster) -> None:
    pair.check("heorot", "node", "drain", "n[0-1]", "--reason", "fan of rack 3")
    first, _, last = rows(pair)
    assert (first["state"], first["wanted"], first["reason"]) == ("drain", "drain", "fan of rack 3")
    assert (last["state"], last["wanted"], last["set_at_ms"]) == ("up", "", None)
    text = pair.check("bpstat").decode().splitlines()
    user = first["set_by"]
    assert [line.split() for line in text] == [
        ["Node(s)", "Status", "Mode", "User", "Group", "Reason"],
        ["0-1", "drain", "---x--x--x", "root", "root", "fan", "of", "rack", "3", f"({user})"],
        ["2", "up", "---x--x--x", "root", "root"],
    ]
    long = pair.check("bpstat", "-l", "drain").decode().splitlines()
    assert len(long) == 3
    assert f"fan of rack 3 ({user} " in long[1]
    pair.check("heorot", "node", "stop", "n1")
    await_that(lambda: states(pair)[1] == "down+drain", "n1 down")
    assert pair.check("bpstat", "-n", "drain") == b"0\n1\n"
    assert pair.check("bpstat", "-n", "down") == b"1\n"
    assert pair.check("bpstat", "-n", "up") == b"2\n"
    pair.check("heorot", "node", "start", "n1")
    await_that(lambda: states(pair)[1] == "drain", "n1 back, and drained")


def test_what_cannot_be_set_is_refused_with_a_sentence(pair: Cluster) -> None:
    for words, says in (
        (("n9",), "there is no node n9"),
        (("master",), "'master' is the host of the head that leads, h"),
        (("n0", "--reason", "x" * 256), "the reason has 256 characters; 255 are kept"),
        (("n0", "--reason", "\x1b[2J"), "one line of text"),
    ):
        done = pair.run("heorot", "node", "drain", *words)
        assert done.returncode == 1
        assert says in done.stderr.decode()
    assert states(pair) == ["up"] * 3


def test_nothing_is_written_where_it_can_be_read_by_others(pair: Cluster) -> None:
    pair.check("heorot", "node", "drain", "n0")
    assert os.stat(pair.directory / "node-states.json").st_mode & 0o777 == 0o600


def test_bpctl_carries_actions_out_in_order_and_goes_on_after_one_that_fails(pair: Cluster) -> None:
    done = pair.run(
        "bpctl", "-S", "n[1-2]", "-s", "down", "-m110", "-s", "error", "-s", "being-mended", "--reason", "fan", "--json"
    )  # fmt: skip
    assert done.returncode == 1
    assert "'down' is what a head finds out" in done.stderr.decode()
    failed, *rest = json.loads(done.stdout)
    assert failed.keys() == {"action", "error"}
    assert rest == [{"action": action, "nodes": [1, 2], "late": []} for action in ("mode", "state", "state")]
    assert [(row["state"], row["mode"]) for row in rows(pair)][1:] == [("being-mended", 0o110)] * 2
    pair.check("bpctl", "-S", "n[1-2]", "-m", "0111", "-s", "up")


def test_what_bpctl_cannot_do_is_refused_by_name(pair: Cluster) -> None:
    for words, status, says in (
        (("-M", "-s", "up"), 1, "that host is no node: 'heorot up --master'"),
        (("-M", "-S", "n0", "-s", "up"), 2, "-M and -S exclude each other"),
        (("-s", "up"), 2, "-S NODES is missing"),
        (("-S", "n0"), 2, "no action"),
        (("-S", "n0", "-m", "8"), 2, "needs an octal number"),
        (("-S", "n0", "-m", "755"), 1, "only the x bits"),
        (("-S", "n0", "-r", "/x"), 1, "nodes have no root directory"),
        (("-S", "n0", "--reconnect", "h1"), 1, "heorot head switch"),
        (("-S", "n0", "-R"), 1, "there is no command for 'reboot'"),
        (("-S", "n0", "-u", "nobody-of-this-name"), 125, "there is no user"),
    ):
        done = pair.run("bpctl", *words)
        assert (done.returncode, says in done.stderr.decode()) == (status, True), done.stderr
    assert states(pair) == ["up"] * 3


def test_what_has_happened_is_told_by_whichever_head_leads(pair: Cluster) -> None:
    pair.check("heorot", "node", "drain", "n2", "--reason", "told of")

    def events(*options: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in pair.check("heorot", "events", *options).splitlines()]

    await_that(lambda: any("told of" in event["text"] for event in events("--since", "1h")), "the event of the drain")
    with pair.start("heorot", "events", "--follow") as follower:
        assert follower.stdout is not None
        first = json.loads(follower.stdout.readline())
        assert first.keys() == {"epoch", "sequence", "at_ms", "what", "nodes", "by", "text"}
        kill_head(pair)
        epoch = pair.status()["epoch"]
        while True:
            event = json.loads(follower.stdout.readline())
            if event["epoch"] == epoch:
                break
        follower.terminate()
        follower.communicate(timeout=30)
    assert event["what"] == "led"
    assert [one for one in events() if one["what"] == "led"][-1]["epoch"] == epoch


def test_the_site_s_check_says_what_is_wrong_with_each_node_that_it_reaches(pair: Cluster) -> None:
    pair.check("heorot", "node", "drain", "n2")
    script = "echo first; [ $HEOROT_NODE = 0 ] || { echo no scratch disk >&2; exit 3; }"
    settings = HealthSettings(("/bin/sh", "-c", script), pair.directory, limit_ms=30_000)
    assert sorted(check_nodes(settings)) == [(0, ""), (1, "its check: no scratch disk")]
    slow = HealthSettings(("/bin/sh", "-c", "[ $HEOROT_NODE = 0 ] || sleep 1000"), pair.directory, limit_ms=2_000)
    assert sorted(check_nodes(slow)) == [(0, ""), (1, "its check has not ended within 2 s")]
    await_that(lambda: not pair.processes(), "what has not ended to be ended")
