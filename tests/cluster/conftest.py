"""Clusters for the tests of this directory. A test that kills daemons takes one of its own: that costs a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.harness import Cluster, cluster


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """Eight nodes in a tree of fan-out two, three levels deep, for tests that leave it as they found it."""
    with cluster(8, "--fanout", "2") as made:
        yield made


@pytest.fixture(scope="module")
def large() -> Iterator[Cluster]:
    """Sixty-four nodes in a tree of fan-out eight, two levels deep, for tests that leave it as they found it."""
    with cluster(64, "--fanout", "8") as made:
        yield made


@pytest.fixture
def own() -> Iterator[Cluster]:
    """Seven nodes in a tree of fan-out two, for one test.

    n0 has the children n2 and n3, n1 has n4 and n5, n2 has n6.
    """
    with cluster(7, "--fanout", "2") as made:
        yield made
