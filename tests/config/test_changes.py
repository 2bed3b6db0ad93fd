"""What has changed between two readings of a head's configuration."""

from __future__ import annotations

import dataclasses

import pytest

from heorot.config.changes import changed_keys, fixed_keys
from heorot.config.files import (
    Address,
    ClusterSection,
    HeadFile,
    HeadSection,
    LimitsSection,
    StoreSection,
    TimersSection,
)

BEFORE = HeadFile(ClusterSection("den"), HeadSection("h0", Address("0.0.0.0", 7733), (Address("10.0.0.1", 7733),)))


@pytest.mark.parametrize(
    ("after", "changed", "fixed"),
    [
        ({}, (), ()),
        ({"limits": LimitsSection(max_jobs=7)}, ("[limits] max_jobs",), ()),
        ({"groups": {"rack1": "n0-n3"}}, ("[groups] rack1",), ()),
        (
            {"timers": TimersSection(hang_ms=5_000, node_grace_ms=1)},
            ("[timers] node_grace_ms", "[timers] hang_ms"),
            ("[timers] hang_ms",),
        ),
        ({"store": StoreSection(kind="etcd")}, ("[store] kind",), ("[store] kind",)),
        ({"cluster": ClusterSection("den", capacity=8)}, ("[cluster] capacity",), ("[cluster] capacity",)),
    ],
)
def test_what_has_changed_is_named(after: dict[str, object], changed: tuple[str, ...], fixed: tuple[str, ...]) -> None:
    present = dataclasses.replace(BEFORE, **after)  # type: ignore[arg-type]
    assert (changed_keys(BEFORE, present), fixed_keys(BEFORE, present)) == (changed, fixed)


def test_a_group_that_is_gone_has_changed() -> None:
    former = dataclasses.replace(BEFORE, groups={"rack1": "n0", "rack2": "n1"})
    assert changed_keys(former, dataclasses.replace(BEFORE, groups={"rack2": "n1"})) == ("[groups] rack1",)
