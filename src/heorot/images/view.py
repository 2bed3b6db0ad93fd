"""A view: the directory in which an image's files lie in a cache, each under the number of its entry."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence

from heorot.core.images.chunks import FILE
from heorot.core.images.manifest import Entry
from heorot.images.content import SEALED_NS, kept_mode
from heorot.images.disk import remove

_MODE = 0o711
"""A copy runs as its user, and opens the files through a descriptor of this directory."""


def make_view(path: str, manifest: str, files: Iterable[tuple[str, int]], entries: Sequence[Entry]) -> None:
    """Make a view, whole or not at all, in place of what is there.

    Parameters
    ----------
    manifest
        Where the encoded manifest is; it appears as ``manifest``.
    files
        Where each file that has content is, and the number of its entry.
    entries
        All entries of the image.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    temporary = f"{path}.{os.getpid()}"
    for former in (path, temporary):
        remove(former)
    os.mkdir(temporary, _MODE)
    os.chmod(temporary, _MODE)
    os.link(manifest, f"{temporary}/manifest")
    for source, index in files:
        os.link(source, f"{temporary}/{index}")
    for index, entry in enumerate(entries):
        if entry.kind == FILE and not entry.size:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            os.close(os.open(f"{temporary}/{index}", flags, kept_mode(entry.mode)))
    os.rename(temporary, path)
    os.utime(path, ns=(SEALED_NS, SEALED_NS))


def is_sealed(view: str) -> bool:
    """Say whether a view is here, and as it was made."""
    try:
        status = os.lstat(view)
    except OSError:
        return False
    return status.st_mode == stat.S_IFDIR | _MODE and status.st_mtime_ns == SEALED_NS
