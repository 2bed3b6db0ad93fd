"""An embedded cluster whose heads or whose warden are gone: commands say what is true, and what helps."""

from __future__ import annotations

import json
import subprocess

from tests.cluster.harness import DEADLINE_S, await_that, cluster, is_alive, kill_hard


def test_heads_that_do_not_run_are_started_without_naming_them() -> None:
    with cluster(2, "--heads", "2") as made:
        made.check("heorot", "head", "stop", "h0", "h1")
        refused = made.run("heorot", "head", "stop")
        assert (refused.returncode, refused.stderr[:31]) == (2, b"heorot head stop: which head? F")
        made.check("heorot", "head", "start")
        # Which heads there are the one that leads hears from the store, a moment after they have started.
        await_that(lambda: {head["name"] for head in made.status()["heads"]} == {"h0", "h1"}, "both heads")
        again = made.run("heorot", "head", "start")
        assert (again.returncode, again.stderr.decode()) == (
            0,
            f"heorot head start: every head of {made.directory} runs already\n",
        )


def test_a_cluster_that_has_lost_its_warden_is_called_dead() -> None:
    with cluster(2) as made:
        status = json.loads(made.check("heorot", "status", "--json"))
        daemons = [status["warden_pid"], *(node["init_pid"] for node in status["nodes"])]
        with made.start("bpsh", "-a", "/bin/sh", "-c", "echo ready; sleep 1000", stderr=subprocess.PIPE) as follower:
            assert follower.stdout is not None
            assert follower.stderr is not None
            assert follower.stdout.readline() == b"ready\n"
            kill_hard(status["warden_pid"])
            await_that(lambda: not any(map(is_alive, daemons)), "the end of all daemons")
            _, said = follower.communicate(timeout=DEADLINE_S)
        dead = (
            f"the cluster at {made.directory} is dead: its warden was ended, and with it all daemons and jobs;"
            f" 'heorot down --dir {made.directory}' removes what is left, then 'heorot up' makes a new one\n"
        )
        assert follower.returncode == 255
        assert said.decode().endswith(f"bpsh: {dead}")
        for line in (
            "bpsh n0 true", "bpps", "bpstat", "bpjob list", "bpkill 1", "bpcp /etc/hostname n0:/tmp/x",
            "heorot status", "heorot head start", "heorot node start n0", "bpjob wait 1.1",
        ):  # fmt: skip
            done = made.run(*line.split())
            assert (done.returncode, done.stdout) == (125, b""), line
            assert done.stderr.decode().endswith(f": {dead}"), line
            assert done.stderr.count(b"\n") == 1, line
        made.check("heorot", "down")
        made.up(2)
        assert made.check("bpsh", "n0", "echo", "again") == b"again\n"
