"""One small cluster for each module of tests, which leave it as they found it, and `heorot.bproc` that speaks to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import heorot
from heorot import bproc
from tests.support.local_cluster import LocalCluster, local_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three nodes."""
    with local_cluster(3) as running:
        bproc.use(running.directory)
        yield running
        bproc.use(None)


@pytest.fixture(autouse=True)
def no_connection_stays() -> Iterator[None]:
    """Each test opens its own."""
    yield
    bproc.close()


@pytest.fixture
def library(cluster: LocalCluster) -> Iterator[heorot.Cluster]:
    """A connection to it."""
    with heorot.connect(cluster.directory) as library:
        yield library
    cluster.await_idle()
