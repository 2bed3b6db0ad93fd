"""One small cluster for each module of tests, which leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import harness
from tests.support.local_cluster import LocalCluster, local_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three nodes."""
    with local_cluster(3) as running:
        yield running


@pytest.fixture(scope="module")
def trio() -> Iterator[harness.Cluster]:
    """Three nodes."""
    with harness.cluster(3) as made:
        yield made


@pytest.fixture
def sleepers(trio: harness.Cluster) -> Iterator[str]:
    """A detached job of three ranks that sleep until they are ended."""
    job = trio.detach("-a", "sleep", "1000")
    trio.await_job(job, lambda shown: bool(shown["running"] == 3), "three sleepers")
    yield job
    trio.run("bpjob", "kill", "-9", job)
    trio.run("bpjob", "wait", job)
