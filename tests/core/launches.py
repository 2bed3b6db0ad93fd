"""Launches for tests: what is asked for, and what is changed in it, by the name of a field wherever that stands."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec.structs import replace

from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import LaunchSpec

Asked = TypeVar("Asked", c.Spawn, m.Ticket)

SPEC = LaunchSpec([b"prog"], [], b"/", 18, [], b"", b"", b"", [])
"""Of a command that takes input and is read."""


def spawn_of(request: int, nodes: str, select: str = "list", detached: bool = False, **fields: Any) -> c.Spawn:
    """Return a launch as a client asks for it."""
    return changed(c.Spawn(request, nodes, select, SPEC, detached), **fields)


def changed(launch: Asked, **fields: Any) -> Asked:
    """Return a copy of a launch with other values in these fields of it, or of its spec."""
    inner = {name: fields.pop(name) for name in LaunchSpec.__struct_fields__ if name in fields}
    return replace(launch, spec=replace(launch.spec, **inner), **fields)
