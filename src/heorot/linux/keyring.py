"""The session keyring of a daemon: not that of whoever has started it, whose keys its children would have."""

from __future__ import annotations

import errno
from collections.abc import Callable

from heorot.linux import system


def leave_session_keyring(log: Callable[[str, str], None]) -> None:
    """Have a new session keyring, without a name or a key; where that is impossible, say so and go on.

    Parameters
    ----------
    log:
        Is given a level and a text.
    """
    try:
        system.join_session_keyring()
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            # Of a kernel without keys, or forbidden in this container: then to all that is started here, too.
            log("info", f"this daemon keeps the session keyring of whoever has started it: {error.strerror}")
        else:
            text = f"this daemon and what it starts have the keys of whoever has started it: {error.strerror}"
            log("warning", f"{text}; for the quota of keys see /proc/key-users and sysctl kernel.keys")
