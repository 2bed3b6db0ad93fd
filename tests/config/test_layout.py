"""What a cluster leaves in its directory is removed, also what its killed processes left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from heorot.config.layout import Layout
from heorot.runtime.sockets import listen_unix
from heorot.security.files import write_atomically


def killed_at_rename(what: str, path: Path) -> None:
    """Have a process write a file or make a socket, and kill it right before that gets its name."""
    child = os.fork()
    if not child:
        try:
            os.rename = os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            if what == "socket":
                listen_unix(path, 0o666)
            else:
                write_atomically(path, b"{}")
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.mark.parametrize(
    ("what", "name"), [("socket", "head.sock"), ("socket", "warden.sock"), ("file", "registry.json")]
)
def test_what_a_killed_process_had_not_finished_is_removed(tmp_path: Path, what: str, name: str) -> None:
    killed_at_rename(what, tmp_path / name)
    (left,) = tmp_path.iterdir()
    assert left.name != name
    Layout(str(tmp_path)).remove()
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "head.sock.mine").write_bytes(b"")
    (tmp_path / "head.sock").write_bytes(b"")
    Layout(str(tmp_path)).remove()
    assert [path.name for path in tmp_path.iterdir()] == ["head.sock.mine"]
