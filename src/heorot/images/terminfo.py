"""Where the description of a terminal is, as ncurses(3) finds it. Short commands with a terminal import this."""

from __future__ import annotations

import os
import stat

from heorot.images.find import may_be_sent, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDERS = (b"/etc/terminfo", b"/lib/terminfo", b"/usr/share/terminfo", b"/usr/lib/terminfo")
MAX_BYTES = 32_768
"""ncurses reads no longer one, so nothing longer is one."""


def entry(environment: Sequence[bytes]) -> bytes | None:
    """Return the path of the file that describes the terminal TERM, as an image can hold it.

    None: there is none here that can be sent. A program without it is still better than none, so this never fails.
    """
    variables = dict(item.partition(b"=")[::2] for item in environment)
    name = variables.get(b"TERM", b"")
    if not name or b"/" in name or name.startswith(b"."):
        return None
    home = variables.get(b"HOME", b"")
    own = [variables.get(b"TERMINFO", b""), home and home + b"/.terminfo"]
    for folder in (*own, *variables.get(b"TERMINFO_DIRS", b"").split(b":"), *FOLDERS):
        # Below its first letter, or that letter's number where file systems do not tell capitals from small letters.
        for initial in (name[:1], b"%x" % name[0]):
            path = os.path.join(folder, initial, name)
            if folder.startswith(b"/") and _may_be_one(path):
                path = plain(path)
                if may_be_sent(path):
                    return path
    return None


def _may_be_one(path: bytes) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES and os.access(path, os.R_OK)
