"""A head that hangs, though its host does not, is replaced; one that was stopped together with its keeper is not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.cluster.harness import await_that, cluster, is_alive
from tests.cluster.test_takeover import await_epoch, head, roles
from tests.cluster.witness import Witness

HANG_S = 2
TIMES = {"HEOROT_TIMES": f"heartbeat_ms=300,link_timeout_ms=30000,hang_ms={HANG_S * 1000}"}


def test_a_head_that_hangs_is_ended_and_replaced_and_no_job_notices(tmp_path: Path) -> None:
    with cluster(2, "--heads", "2", environment=TIMES) as made, Witness(made, tmp_path) as witness:
        hung = head(made)
        os.kill(hung["pid"], signal.SIGSTOP)
        await_that(lambda: not is_alive(hung["pid"]), "the keeper has ended the head that hangs")
        await_epoch(made, 2)
        assert roles(made)[hung["name"]] == "standby"
        assert is_alive(hung["keeper_pid"])
        witness.check()
        log = (made.directory / "log" / f"{hung['name']}.log").read_text()
        assert "the head hangs: it has given no sign of life for" in log


def test_a_head_that_was_stopped_with_its_keeper_goes_on_afterwards(tmp_path: Path) -> None:
    with cluster(1, "--heads", "2", environment=TIMES) as made, Witness(made, tmp_path) as witness:
        stopped = head(made)
        for pid in (stopped["keeper_pid"], stopped["pid"]):
            os.kill(pid, signal.SIGSTOP)
        # The silence itself is what is tested.
        time.sleep(2 * HANG_S)
        for pid in (stopped["keeper_pid"], stopped["pid"]):
            os.kill(pid, signal.SIGCONT)
        witness.check()
        status = await_epoch(made, 1)
        assert {one["pid"] for one in status["heads"] if one["role"] == "active"} == {stopped["pid"]}
