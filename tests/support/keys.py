"""Keys of the kernel, keyctl(2), for which Python has no functions; some containers allow none."""

from __future__ import annotations

import ctypes

from heorot.bpinit.calls import NUMBER
from heorot.linux.system import KEYCTL_JOIN_SESSION_KEYRING

KEYCTL = NUMBER["keyctl"]
ADD_KEY = 248 if NUMBER["keyctl"] == 250 else 217
_SEARCH = 10
_SESSION = -3
"""Stands for the session keyring of whoever asks."""


def join_session_keyring() -> bool:
    """Give this thread, and what it starts from now on, another session keyring; False: there are no keys here."""
    words = ctypes.c_long(KEYCTL), ctypes.c_long(KEYCTL_JOIN_SESSION_KEYRING)
    return int(ctypes.CDLL(None).syscall(*words, None)) >= 0


def add_key(description: bytes) -> bool:
    """Put a key into the session keyring; False: it is refused."""
    number, size, keyring = ctypes.c_long(ADD_KEY), ctypes.c_long(1), ctypes.c_long(_SESSION)
    return int(ctypes.CDLL(None).syscall(number, b"user", description, b"x", size, keyring)) >= 0


def has_key(description: bytes) -> bool:
    """Say whether the session keyring has this key."""
    number, search, keyring = ctypes.c_long(KEYCTL), ctypes.c_long(_SEARCH), ctypes.c_long(_SESSION)
    return int(ctypes.CDLL(None).syscall(number, search, keyring, b"user", description, ctypes.c_long(0))) >= 0
