"""Which file is which, and how it is called before people. Imports nothing that takes time."""

from __future__ import annotations

from time import time_ns

from heorot.core.errors import HeorotError
from heorot.core.safe_text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import stat_result

SETTLED_NS = 2_000_000_000
"""A file that was changed later than this may change again without that its times show it."""


class ImageError(HeorotError):
    """An image cannot be made or kept; the text says of what, and why."""


class CommandError(ImageError):
    """A command cannot be executed, or is not there.

    Attributes
    ----------
    exit_status:
        What a shell exits with: 126 if it was found, 127 if not.
    """

    def __init__(self, exit_status: int, text: str) -> None:
        super().__init__(text)
        self.exit_status = exit_status


def shown(path: bytes) -> str:
    """Return a path as text for people."""
    text = path.decode("utf-8", "surrogateescape")
    return text if text.isprintable() else f"'{printable(text)}'"


def identity(status: stat_result) -> list[int]:
    """Return what changes whenever a file does."""
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def is_settled(status: stat_result) -> bool:
    """Say whether the file's `identity` may be relied on later."""
    return time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_NS
