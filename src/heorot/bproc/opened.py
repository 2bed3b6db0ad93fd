"""The one connection of all of these functions."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from heorot.bproc.errors import translated
from heorot.client.blocking import Cluster, connect
from heorot.client.endpoint import cluster_directory
from heorot.core.errors import RequestError

T = TypeVar("T")
_lock = Lock()
_open: tuple[int, str, Cluster] | None = None
"""By which process it was opened, to where, and what."""
_directory: str | None = None


def use(directory: str | os.PathLike[str] | None) -> None:
    """Speak to the cluster at this directory from now on; None: to that of ``HEOROT_DIR``, as at first."""
    global _directory
    _directory = None if directory is None else os.fspath(directory)


def used_directory() -> str:
    """Return the directory of the cluster that is spoken to."""
    return cluster_directory(_directory)


def close() -> None:
    """Close the connection; it is opened again when something is asked."""
    global _open
    with _lock:
        if _open is not None and _open[0] == os.getpid():
            _open[2].close()
        # That of a parent is the parent's: it is left as it is.
        _open = None


def _cluster() -> Cluster:
    global _open
    where = used_directory()
    with _lock:
        if _open is not None and _open[:2] == (os.getpid(), where) and _open[2]._session.closed is None:
            return _open[2]
    close()
    opened = connect(where)
    with _lock:
        _open = os.getpid(), where, opened
    atexit.unregister(close)
    atexit.register(close)
    return opened


def ask_cluster(question: Callable[[Cluster], T]) -> T:
    """Ask the cluster. Raises BprocError for what it refuses."""
    try:
        return question(_cluster())
    except RequestError as error:
        raise translated(error) from error
