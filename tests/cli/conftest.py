"""One small cluster for each module of tests, which leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.local_cluster import LocalCluster, local_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three nodes."""
    with local_cluster(3) as running:
        yield running
