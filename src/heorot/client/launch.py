"""What a program asks for when it starts a job with the library, as it goes over the wire."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

from heorot.client import caller
from heorot.client.here import with_here
from heorot.client.stage import stage_argv
from heorot.core.client import messages
from heorot.core.tree.nodeset import MAX_NODES, NodeSet
from heorot.core.wire.cpu_lists import why_no_binding
from heorot.core.wire.path_patterns import why_no_pattern
from heorot.images.offer import Offer, offer_command

PIPE = -1
"""The bytes come to, or from, this program."""
DEVNULL = -3
"""No bytes: /dev/null on the node."""

Argument: TypeAlias = str | bytes | os.PathLike[str]
Where: TypeAlias = int | str | bytes | os.PathLike[str]
"""`PIPE`, `DEVNULL`, or a path on the node."""
Nodes: TypeAlias = str | int | Iterable[int]
"""A node list, a node's number, or several; a repeated number gets a rank each time."""


class SpawnOptions(TypedDict, total=False):
    """What a launch may be told; `heorot.client.blocking.Cluster.spawn` says what it means."""

    stdin: Where
    stdout: Where
    stderr: Where
    environment: Mapping[str, str] | Mapping[bytes, bytes] | None
    directory: Argument | None
    umask: int | None
    limits: Mapping[int, tuple[int, int]] | None
    terminal: tuple[int, int] | None
    detached: bool
    max_processes: int
    headless_s: float
    linger: bool
    mpi: bool
    ranks: int
    ranks_per_node: int
    time_limit_s: float
    bind: str
    stdin_ranks: Iterable[int] | None
    image: str
    extra_files: Sequence[Argument]


def node_list(nodes: Nodes) -> str:
    """Return the text form of a node selection."""
    if isinstance(nodes, str):
        return with_here(nodes)
    if isinstance(nodes, int):
        return str(nodes) if nodes >= 0 else "master"
    if isinstance(nodes, NodeSet):
        return str(nodes)
    return ",".join(str(node) if node >= 0 else "master" for node in nodes)


def path_list(paths: Argument | Sequence[Argument]) -> list[bytes]:
    """Return one path or several as they go over the wire."""
    if isinstance(paths, str | bytes | os.PathLike):
        paths = [paths]
    return [os.fsencode(path) for path in paths]


def _where(value: Where, what: str) -> bytes | None:
    if isinstance(value, int):
        if value == PIPE:
            return b""
        if value == DEVNULL:
            return None
        raise ValueError(f"{what} must be PIPE, DEVNULL or a path on the node, not {value}")
    path = os.fsencode(value)
    if not path:
        raise ValueError(f"the path for {what} is empty")
    return path


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, stacklevel=2)


def _binding(bind: str) -> str:
    why = why_no_binding(bind) if bind != "none" else ""
    if why:
        raise ValueError(why)
    return bind if bind != "none" else ""


def _ranges(ranks: Iterable[int] | None) -> list[int] | None:
    """Return the first and last of each range of these ranks. Raises ValueError."""
    if ranks is None:
        return None
    chosen = sorted(set(ranks))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < MAX_NODES:
        raise ValueError(f"ranks are numbers from 0, not {chosen[0]} to {chosen[-1]}")
    return NodeSet.of(chosen).ranges()


def _has_patterns(*streams: Where) -> bool:
    """Say whether one of these paths is a pattern. Raises ValueError if it is and cannot be read."""
    found = [path for where in streams if not isinstance(where, int) and b"%" in (path := os.fsencode(where))]
    for pattern in found:
        why = why_no_pattern(pattern)
        if why:
            raise ValueError(why)
    return bool(found)


def spawn_fields(
    argv: Sequence[Argument],
    nodes: Nodes,
    *,
    stdin: Where = DEVNULL,
    stdout: Where = PIPE,
    stderr: Where = PIPE,
    environment: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    directory: Argument | None = None,
    umask: int | None = None,
    limits: Mapping[int, tuple[int, int]] | None = None,
    terminal: tuple[int, int] | None = None,
    detached: bool = False,
    max_processes: int = 0,
    headless_s: float = 0,
    linger: bool = False,
    mpi: bool = False,
    ranks: int = 0,
    ranks_per_node: int = 0,
    time_limit_s: float = 0,
    bind: str = "none",
    stdin_ranks: Iterable[int] | None = None,
    image: str = "auto",
    extra_files: Sequence[Argument] = (),
) -> tuple[dict[str, Any], Offer | None]:
    """Return the fields of `heorot.core.client.messages.spawn` for what a program asked for, and the image that goes
    with it.

    What it left out is taken from this process.
    """
    if not 0 <= time_limit_s <= messages.MAX_TIME_LIMIT_S or (time_limit_s and round(time_limit_s * 1000) == 0):
        raise ValueError(f"time_limit_s must be 0, or from 0.001 to {messages.MAX_TIME_LIMIT_S}, not {time_limit_s}")
    if min(ranks, ranks_per_node) < 0:
        raise ValueError(f"ranks and ranks_per_node must be 0 or more, not {ranks} and {ranks_per_node}")
    if not 0 <= headless_s <= messages.MAX_HEADLESS_S:
        raise ValueError(f"headless_s must be between 0 and {messages.MAX_HEADLESS_S}, not {headless_s}")
    if isinstance(argv, str | bytes) or not argv:
        raise ValueError("argv must be a sequence with the command and its arguments")
    if environment is None:
        variables = caller.environment()
    else:
        variables = [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in environment.items()]
    where = caller.directory() if directory is None else os.fsencode(directory)
    words = [os.fsencode(argument) for argument in argv]
    offer = None
    if image != "path":
        if image not in ("auto", "send"):
            raise ValueError(f'image must be "auto", "send" or "path", not {image!r}')
        extra = [os.fsencode(name) for name in extra_files]
        offer = offer_command(
            words[0],
            variables,
            where,
            extra=extra,
            always_send=image == "send",
            terminal=terminal is not None,
            say=_warn,
        )
    elif extra_files:
        raise ValueError('with image="path" nothing is sent, but there are extra_files')
    fields = {
        "nodes": node_list(nodes),
        "select": "list",
        "argv": words,
        "environment": variables,
        "directory": where,
        "umask": caller.umask() if umask is None else umask,
        "limits": caller.limits()
        if limits is None
        else [number for limit, (soft, hard) in limits.items() for number in (limit, soft, hard)],
        "stdin": _where(stdin, "stdin"),
        "stdout": _where(stdout, "stdout"),
        "stderr": _where(stderr, "stderr"),
        "terminal": list(terminal) if terminal else [],
        "detached": detached,
        "max_processes": max_processes,
        "key": os.urandom(messages.KEY_BYTES),
        "headless_ms": round(headless_s * 1000),
        "linger": linger,
        "pmi": mpi,
        "ranks": ranks,
        "ranks_per_node": ranks_per_node,
        "bind": _binding(bind),
        "stdin_ranks": _ranges(stdin_ranks),
        "time_limit_ms": round(time_limit_s * 1000),
        "patterns": _has_patterns(stdin, stdout, stderr),
    }
    if offer is not None:
        fields |= {"image": offer.image, "program": offer.program, "program_id": offer.program_id}
    return fields, offer


def stage_fields(program: Argument, nodes: Nodes, extra_files: Sequence[Argument]) -> tuple[dict[str, Any], Offer]:
    """Return the fields of a launch that only sends a program ahead (`heorot.client.stage`), and its image."""
    fields, offer = spawn_fields([program], nodes, image="send", extra_files=extra_files)
    assert offer is not None
    argv = stage_argv(offer)
    named = {"argv": argv, "program": offer.program, "program_id": offer.program_id}
    # Every node has this directory; here, files are looked for in ours.
    return fields | named | {"directory": b"/"}, offer
