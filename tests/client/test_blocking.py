"""What is of the blocking form of the library alone: threads, interrupts, and that it is loaded when it is used."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import heorot
from tests.support.local_cluster import LocalCluster


@pytest.fixture
def library(cluster: LocalCluster) -> Iterator[heorot.Cluster]:
    with heorot.connect(cluster.directory) as library:
        yield library
    cluster.await_idle()


def test_a_job_says_what_its_ranks_have_used(library: heorot.Cluster) -> None:
    script = "[ $BPROC_RANK -eq 1 ] || exit 0; head -c 209715200 /dev/zero | tail -n 1 | cksum"
    completed = library.run(["sh", "-c", script], "n[0-1]")
    small, large = completed.used
    assert small is not None
    assert small.peak_memory_bytes is None
    assert large is not None
    assert large.peak_memory_bytes is not None
    assert large.peak_memory_bytes >= 200 << 20
    assert large.cpu_time_ms > 0
    detached = library.spawn(["sh", "-c", script], "n[0-1]", detached=True)
    detached.wait()
    assert [detached.used[rank].peak_memory_bytes is None for rank in (0, 1)] == [True, False]
    with library.attach(detached.id) as job:
        job.wait()
        assert job.used == detached.used


def test_several_threads_share_a_connection(library: heorot.Cluster) -> None:
    results: dict[int, list[bytes]] = {}

    def work(number: int) -> None:
        for _ in range(5):
            results[number] = library.run(["cat"], "up", input=b"%d" % number * 100_000).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert results == {number: [b"%d" % number * 100_000] * 3 for number in range(6)}


def test_closing_wakes_who_waits(cluster: LocalCluster) -> None:
    library = heorot.connect(cluster.directory)
    job = library.spawn(["sleep", "1000"], 0)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            job.wait()
        except heorot.ConnectionLost as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    library.close()
    library.close()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 2
    cluster.await_idle()


def test_who_is_told_how_far_a_copy_is_may_use_the_connection(library: heorot.Cluster, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"data")
    asked: list[list[dict[str, object]]] = []
    library.copy_to(tmp_path / "data", 0, tmp_path / "there", progress=lambda *far: asked.append(library.nodes(0)))
    assert [row["id"] for row in asked[-1]] == [0]


def test_importing_is_light() -> None:
    program = "import sys; before = set(sys.modules); import heorot; print(*(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(Path(heorot.__file__).parent.parent)}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert set(result.stdout.split()) <= {"heorot", "__future__"}


def test_every_public_name_is_there() -> None:
    assert all(hasattr(heorot, name) for name in heorot.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = heorot.nonsense
