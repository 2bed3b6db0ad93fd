"""Children that are watched."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal

import pytest

from heorot.linux.process import watch_child


def sleeper() -> int:
    """Return the PID of a child that does nothing."""
    pid = os.fork()
    if not pid:
        while True:
            signal.pause()
    return pid


def test_the_end_of_a_child_is_heard() -> None:
    pid = sleeper()
    process = watch_child(pid)
    assert select.select([process], [], [], 0)[0] == []
    os.kill(pid, signal.SIGKILL)
    assert select.select([process], [], [], 60)[0] == [process]
    os.waitpid(pid, 0)
    os.close(process)


def test_a_child_that_cannot_be_watched_is_not_left() -> None:
    pid = sleeper()
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, most))
    try:
        with pytest.raises(OSError, match="Too many open files") as failed:
            watch_child(pid)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
    assert failed.value.errno == errno.EMFILE
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
