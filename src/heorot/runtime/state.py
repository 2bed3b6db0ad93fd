"""Small values that a daemon keeps on disk, one file each, which owns its blocks and is written in place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from heorot.core.errors import HeorotError
from heorot.linux.slot_file import SlotFile, no_room, with_room


def reserve(directory: Path, name: str, log: Callable[[str, str], None], make_room: Callable[[], bool]) -> None:
    """See that a value can be kept later on a disk that is full by then. For the process that keeps it."""
    try:
        with_room(SlotFile(directory / name, durable=True).convert, make_room)
    except OSError as error:
        log("warning", f"cannot set room aside for {directory / name}: {error.strerror or error}")


def remember(
    directory: Path,
    name: str,
    value: bytes,
    log: Callable[[str, str], None],
    make_room: Callable[[], bool] = no_room,
) -> None:
    """Keep a value. A full disk is reported, not fatal: what is forgotten costs a detour, never a job."""
    try:
        with_room(lambda: SlotFile(directory / name).write(value), make_room)
    except OSError as error:
        log("warning", f"cannot keep {directory / name}: {error.strerror or error}")


def remember_durably(directory: Path, name: str, value: bytes, make_room: Callable[[], bool] = no_room) -> None:
    """Keep a value that must survive a power cut. Raises OSError."""
    with_room(lambda: SlotFile(directory / name, durable=True).write(value), make_room)


def recall(directory: Path, name: str) -> bytes:
    """Return a value, empty if there is none."""
    with contextlib.suppress(OSError, HeorotError):
        return SlotFile(directory / name).read() or b""
    return b""


def recall_epoch(directory: Path, name: str = "epoch") -> int:
    """Return the epoch that was kept, 0 if none ever was.

    Raises
    ------
    HeorotError
        If it cannot be read, or is no number: taking it for 0 would let a deposed head command this node.
    """
    path = directory / name
    try:
        value = SlotFile(path).read()
    except (OSError, HeorotError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise HeorotError(f"cannot read the last epoch from {path}: {why}; {_REPAIR}") from error
    if value is None:
        return 0
    text = value.strip()
    if not (text.isdigit() and len(text) < 20):
        raise HeorotError(f"{path} holds no epoch; {_REPAIR}")
    return int(text)


_REPAIR = "write the cluster's highest epoch into it, which heorot status shows"
