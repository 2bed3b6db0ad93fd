"""Where the head listens: the cluster's directory and its socket. Imports next to nothing."""

from __future__ import annotations

import _socket  # the socket module costs 6 ms for enums that nobody here needs
import os
import sys

from heorot.core.errors import RequestError

DEFAULT_DIRECTORY = "/run/heorot"
SOCKET_NAME = "head.sock"
WARDEN_SOCKET_NAME = "warden.sock"
CLUSTER_FILE = "cluster.toml"
MAX_PATH_BYTES = 107
"""The longest path that fits a unix socket address."""


def cluster_directory(directory: str | None = None) -> str:
    """Return the given directory, else ``HEOROT_DIR``, else the default."""
    return directory or os.environ.get("HEOROT_DIR") or DEFAULT_DIRECTORY


def cluster_mark(directory: str) -> tuple[int, int] | None:
    """Return what tells the embedded cluster at `directory` from a later one there; None if it is none.

    ``heorot down`` removes the file: as long as it is there and the same, a head that is lost will have a successor.
    """
    try:
        status = os.stat(os.path.join(directory, CLUSTER_FILE))
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def connect_head(directory: str) -> _socket.socket:
    """Return a connected stream socket to the head of the cluster at `directory`.

    Raises
    ------
    RequestError
        Code ``no-cluster`` if there is none, ``no-head`` if nothing listens now, ``no-warden`` if nothing will,
        ``permission`` if the caller may not connect, ``untrusted`` if whoever listens is neither root nor the caller.
    """
    path = os.path.join(directory, SOCKET_NAME)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        if len(os.fsencode(path)) <= MAX_PATH_BYTES:
            connection.connect(path)
        else:
            # A longer path is reached through a descriptor of its directory, which makes a short path.
            directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                connection.connect(f"/proc/self/fd/{directory_fd}/{SOCKET_NAME}")
            finally:
                os.close(directory_fd)
    except (FileNotFoundError, NotADirectoryError) as error:
        connection.close()
        if cluster_mark(directory) is not None:
            # One head has gone in good order, or the first is still to come.
            raise no_head(directory) from error
        from heorot.config.host_role import without_head

        raise RequestError(
            "no-cluster",
            without_head(directory)
            or f"no cluster at {directory}: start one with 'heorot up --dir {directory} --nodes 4', or set HEOROT_DIR",
        ) from error
    except ConnectionRefusedError as error:
        connection.close()
        raise no_head(directory) from error
    except PermissionError as error:
        connection.close()
        raise RequestError("permission", f"no permission to connect to {path}") from error
    except OSError as error:
        connection.close()
        raise RequestError("no-cluster", f"cannot connect to {path}: {error.strerror or error}") from error
    try:
        check_server(connection, path)
    except RequestError:
        connection.close()
        raise
    return connection


def check_server(connection: _socket.socket, path: str) -> None:
    """Make sure that root or the caller serves the socket at `path`, to which `connection` is connected.

    What we send is for a head, and what it answers is believed: another user's program at this path gets neither.

    Raises
    ------
    RequestError
        Code ``untrusted``.
    """
    # The kernel has kept who called listen(2): struct ucred is pid, uid, gid.
    uid = int.from_bytes(connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
    if not uid or uid == os.geteuid():
        return
    from heorot.linux.trusted_path import shown_user

    raise RequestError(
        "untrusted",
        f"{path} is served by {shown_user(uid)}, who is neither root nor you: nothing was sent; name your cluster's"
        " directory with HEOROT_DIR, or run this command as that user",
    )


def no_head(directory: str) -> RequestError:
    """Return the error that no head serves the cluster in this directory.

    Code ``no-head``, or ``no-warden`` if the cluster is an embedded one whose daemons are all gone: no head will come.
    """
    if _lost_its_warden(directory):
        return RequestError(
            "no-warden",
            f"the cluster at {directory} is dead: its warden was ended, and with it all daemons and jobs;"
            f" 'heorot down --dir {directory}' removes what is left, then 'heorot up' makes a new one",
        )
    if cluster_mark(directory) is None:
        from heorot.config.host_role import without_head

        text = without_head(directory)
        if text:
            return RequestError("no-head", text)
    return RequestError(
        "no-head",
        f"no head is running at {directory}, or none can lead: 'heorot status' says why; for a cluster of 'heorot up',"
        " 'heorot head start' starts one, and 'heorot down' removes what is left of it",
    )


def _lost_its_warden(directory: str) -> bool:
    """Whether the warden of an embedded cluster has left its socket and listens no more: none is started again."""
    if cluster_mark(directory) is None:
        return False
    try:
        directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        connection.connect(f"/proc/self/fd/{directory_fd}/{WARDEN_SOCKET_NAME}")
    except ConnectionRefusedError:
        return True
    except OSError:
        pass  # there was none yet, or it is busy
    finally:
        connection.close()
        os.close(directory_fd)
    return False
