"""What differs between two readings of a head's configuration, and what of that a running head can take over."""

from __future__ import annotations

import dataclasses

from heorot.config.files import HeadFile

FIXED_SECTIONS = ("cluster", "head", "store")
"""Who the head is, where it is found, and how it is elected: its keeper has this from its start."""
FIXED_KEYS = (("timers", "hang_ms"),)
"""That is the keeper's own, too."""


def changed_keys(former: HeadFile, present: HeadFile) -> tuple[str, ...]:
    """Return which keys differ, as ``[section] key``, in the order of the file."""
    return tuple(f"[{section}] {key}" for section, key in _changes(former, present))


def fixed_keys(former: HeadFile, present: HeadFile) -> tuple[str, ...]:
    """Return which of those that differ hold as long as the head's keeper runs."""
    return tuple(
        f"[{section}] {key}"
        for section, key in _changes(former, present)
        if section in FIXED_SECTIONS or (section, key) in FIXED_KEYS
    )


def _changes(former: HeadFile, present: HeadFile) -> list[tuple[str, str]]:
    before, after = dataclasses.asdict(former), dataclasses.asdict(present)
    return [
        (section, key)
        for section in after
        for key in dict.fromkeys([*before[section], *after[section]])
        if before[section].get(key) != after[section].get(key)
    ]
