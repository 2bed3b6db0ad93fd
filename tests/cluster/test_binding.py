"""Ranks that are bound to CPUs on a real cluster."""

from __future__ import annotations

import os

import heorot
from tests.cluster.harness import Cluster

CPUS = sorted(os.sched_getaffinity(0))
SAY = ("/bin/sh", "-c", "sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status")


def test_each_rank_of_a_node_has_a_cpu_of_its_own(shared: Cluster) -> None:
    output = shared.check("bpsh", "-s", f"--ranks-per-node={len(CPUS)}", "--bind=cpu", "n[0-1]", *SAY)
    assert output.decode().split() == [str(cpu) for cpu in CPUS] * 2


def test_more_ranks_than_cpus_share_them_and_that_is_said(shared: Cluster) -> None:
    count = len(CPUS) + 1
    result = shared.run("bpsh", "-s", f"--ranks-per-node={count}", "--bind", "cpu", "n[2-3]", *SAY)
    assert result.returncode == 0
    assert result.stdout.decode().split() == [str(CPUS[rank % len(CPUS)]) for rank in range(count)] * 2
    share = "share one CPU" if len(CPUS) == 1 else f"share {len(CPUS)} CPUs"
    (line,) = result.stderr.decode().splitlines()
    assert line.endswith(f": {count} ranks of a node {share}")


def test_named_cpus_are_for_each_rank_and_refused_if_they_are_not_there(shared: Cluster) -> None:
    last = str(CPUS[-1])
    assert shared.check("bpsh", f"--bind={last}", "n4", *SAY).decode().split() == [last]
    refused = shared.run("bpsh", "--bind=0:8000", "--ranks=2", "n4", *SAY)
    assert refused.returncode == 126
    assert b"bpsh: n4: cannot bind to CPU 8000: usable are " in refused.stderr


def test_without_it_ranks_may_run_anywhere(shared: Cluster) -> None:
    everywhere = shared.check("bpsh", "n5", *SAY)
    assert shared.check("bpsh", "--bind=none", "n5", *SAY) == everywhere
    with heorot.connect(shared.directory) as cluster:
        assert cluster.run(SAY, "n5", bind="core").stdout[0].strip() != b""
        assert cluster.run(SAY, "n5").stdout[0] == everywhere
