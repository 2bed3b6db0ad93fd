"""Where the files of an embedded cluster are, and which of them are ours to remove."""

from __future__ import annotations

import contextlib
import os

from heorot.core.errors import no_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORIES = ("ca", "coord", "heads", "log", "nodes", "tokens", "cache", "content")
HOSTS_NAME = "hosts"
"""What ranks see as /etc/hosts: in the directory of an embedded cluster, or in that of a node on a host of its own."""
LOCK = "warden.lock"
"""Made before anything else, and removed last: without it, what is in a directory is not of an embedded cluster."""
FILES = (
    "cluster.toml",
    HOSTS_NAME,
    "head.sock",
    "registry.json",
    "registry.lock",
    "node-states.json",
    "events.json",
    "warden.sock",
    "warden.json",
    LOCK,
)
"""What a cluster keeps in its directory, in the order in which it is removed."""
RECORD = "warden.json"
FAILED_START = "failed-start"
"""The logs of a start that failed, and its `RECORD`, by which the directory is known as ours."""


class Layout:
    """The paths of the cluster in `root`, as text: a short command uses them, too."""

    def __init__(self, root: str) -> None:
        try:
            self.root = os.path.abspath(root)
        except FileNotFoundError as error:
            raise no_directory() from error

    def path(self, name: str) -> str:
        """Return the path of a file in the cluster directory."""
        return os.path.join(self.root, name)

    def node(self, number: int) -> str:
        """Return a node's directory."""
        return os.path.join(self.root, "nodes", f"n{number}")

    def head(self, name: str) -> str:
        """Return a head's directory."""
        return os.path.join(self.root, "heads", name)

    def log(self, name: str) -> str:
        """Return the path of a daemon's log."""
        return os.path.join(self.root, "log", f"{name}.log")

    def remains(self) -> list[str]:
        """Return what is there that is called as a cluster's files and directories are; see `LOCK` for whose it is."""
        try:
            present = set(os.listdir(self.root))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in (*DIRECTORIES, *FILES) if name in present]

    def keep_logs(self) -> str:
        """Put the logs, if they say anything, where they outlive the cluster, and return that directory or nothing.

        Those of the start before are replaced. Raises OSError.
        """
        logs, kept = self.path("log"), self.path(FAILED_START)
        try:
            said = any(entry.stat().st_size for entry in _entries(logs))
        except FileNotFoundError:
            return ""
        if not said or (os.path.lexists(kept) and not self.failed_start()):
            return ""
        self.forget_failed_start()
        os.rename(self.path(RECORD), os.path.join(logs, RECORD))
        os.rename(logs, kept)
        return kept

    def failed_start(self) -> str:
        """Return where the logs of a failed start are, or nothing."""
        kept = self.path(FAILED_START)
        return kept if not os.path.islink(kept) and os.path.isfile(os.path.join(kept, RECORD)) else ""

    def forget_failed_start(self) -> None:
        """Remove the logs of a failed start, if there are any. Raises OSError."""
        kept = self.failed_start()
        if kept:
            _remove_tree(kept)

    def remove(self) -> None:
        """Remove what a cluster keeps; a file of somebody else stays. Raises OSError."""
        for name in DIRECTORIES:
            _remove_tree(self.path(name))
        for name in FILES:
            for path in (*_unfinished(self.root, name), self.path(name)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


def _unfinished(root: str, name: str) -> list[str]:
    """Return what writers of a file have left that were killed before they could rename it (``write_atomically``)."""
    return [
        os.path.join(root, entry)
        for entry in os.listdir(root)
        if entry.startswith(f".{name}.") and entry.endswith(".new")
    ]


def _remove_tree(path: str) -> None:
    """Remove a directory and all in it; symbolic links are removed, not followed."""
    try:
        if os.path.islink(path):
            os.unlink(path)
            return
        for entry in _entries(path):
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(entry.path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)
        os.rmdir(path)
    except FileNotFoundError:
        pass


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        yield from list(entries)
