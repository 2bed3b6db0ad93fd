"""The way to a program: the symbolic links by which it is found here, and the file at its end.

The kernel tells a program that it starts where its file is (``/proc/self/exe``), without any link; the dynamic loader
finds libraries from there (``$ORIGIN``), and programs such as Java find all else. So an image has the file where it is,
and the links that lead there.
"""

from __future__ import annotations

import os

from heorot.images.find import may_be_sent, plain
from heorot.images.identity import ImageError, shown

MAX_LINKS = 40
"""The kernel follows so many."""


def way_to(path: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the path of a file or directory that has no link in it, and the links from `path` to there: by path, their
    targets.

    A link that is a directory of a path is none of them. Where one is on the way, or something that each node has of
    its own, such as ``/proc/self``, the name before it is given as a link to the end.

    Raises
    ------
    ImageError
        If it leads nowhere.
    """
    try:
        end = os.path.realpath(path, strict=True)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ImageError(f"cannot read {shown(path)}: {reason}") from error
    links: dict[bytes, bytes] = {}
    at = path
    while at != end:
        links[at] = target = _target_of(at)
        folder = os.path.dirname(at)
        after = plain(os.path.join(folder, target)) if target else end
        # Somebody may exchange links while we look.
        if not target or not may_be_sent(after) or after in links or len(links) > MAX_LINKS:
            after = links[at] = end
        elif after != os.path.normpath(os.path.join(folder, target)):
            # It leads upwards out of a directory that is a link, which an image need not have.
            links[at] = after
        at = after
    return end, links


def _target_of(path: bytes) -> bytes:
    """Return the target of a link; empty: it is none."""
    try:
        return os.readlink(path)
    except OSError:
        return b""
