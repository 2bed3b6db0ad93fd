"""The session keyring of a daemon. `test_other_user.py` shows what the processes have that it starts."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from heorot.linux.keyring import leave_session_keyring
from tests.support import keys
from tests.support.other_user import become, own_uid

USER = own_uid()
"""Nobody else's: the quota is each user's."""


def said_in_child(prepare: Callable[[], None]) -> str:
    """Return what is logged when a child does it, and whether it has a key of ours afterwards."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            prepare()

            def log(level: str, text: str) -> None:
                os.write(writer, f"{level}: {text}\n".encode())

            leave_session_keyring(log)
            os.write(writer, b"has a key\n" if keys.has_key(b"heorot-test-mine") else b"has none\n")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def test_a_daemon_leaves_the_keyring_of_whoever_started_it() -> None:
    def prepare() -> None:
        if keys.join_session_keyring():
            assert keys.add_key(b"heorot-test-mine")
            assert keys.has_key(b"heorot-test-mine")

    said = said_in_child(prepare)
    # Some containers allow no keys at all.
    assert said == "has none\n" or said.startswith("info: this daemon keeps the session keyring")


@pytest.mark.skipif(os.getuid() != 0, reason="a user's quota needs a user of its own")
def test_a_daemon_that_is_out_of_quota_says_so_and_goes_on() -> None:
    def prepare() -> None:
        become(USER)
        number = 0
        if keys.join_session_keyring():
            while keys.add_key(b"heorot-test-mine" if number == 0 else b"more %d" % number):
                number += 1

    said = said_in_child(prepare).splitlines()
    assert len(said) == 2
    assert (said[0].startswith("warning") and "quota" in said[0] and said[1] == "has a key") or said[0].startswith(
        "info"
    )
