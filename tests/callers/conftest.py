"""One cluster for each module of real programs that call `bprsh` as they would call ssh or rsh."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.local_cluster import LocalCluster, local_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three nodes, which have the files of this host."""
    with local_cluster(3) as running:
        yield running
