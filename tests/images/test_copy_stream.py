"""What root copies out of a tree of another user's, who exchanges its names meanwhile: from nodes, and to nodes."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from heorot.client import put as copying_put
from heorot.core.images.manifest import decode_manifest
from heorot.images.collecting import digest_file
from heorot.images.copy_stream import Sender
from heorot.images.files import FileDigest
from tests.support.other_user import as_user_options, open_temporary_directory, own_uid

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a second user needs root")
USER = own_uid()
PIPE_BYTES = 64 * 1024


@pytest.fixture
def tree() -> Iterator[Path]:
    """A directory of the user's, with more in its first file than a pipe takes."""
    with tempfile.TemporaryDirectory(prefix="tree.") as name:
        base = Path(name)
        (base / "sub").mkdir()
        (base / "sub" / "0").write_bytes(bytes(4 * PIPE_BYTES))
        (base / "sub" / "file").write_text("harmless")
        (base / "sub" / "more").mkdir()
        (base / "sub" / "more" / "file").write_text("harmless")
        for path in (base, *base.rglob("*")):
            os.chown(path, USER, USER)
        open_temporary_directory()
        yield base


def exchange(tree: Path, elsewhere: Path) -> None:
    """Put a link to another directory in the place of `sub`, as the user."""
    script = f"mv sub was; ln -s {elsewhere} sub"
    subprocess.run(["/bin/sh", "-c", script], cwd=tree, check=True, **as_user_options(USER))


def test_nothing_is_sent_from_where_a_directory_was_exchanged_to(tree: Path, tmp_path: Path) -> None:
    for name in ("file", "more/file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("secret")
    reader, writer = os.pipe()
    complaints: list[str] = []

    def send() -> None:
        try:
            sender = Sender(writer, complaints.append)
            sender.send(os.fsencode(tree), b"0", True)
            sender.end()
        finally:
            os.close(writer)

    thread = threading.Thread(target=send)
    thread.start()
    with open(reader, "rb", buffering=0) as stream:
        try:
            # It has begun with what is in `sub`, and waits for us.
            received = stream.read(PIPE_BYTES)
            exchange(tree, tmp_path)
        finally:
            while piece := stream.read(PIPE_BYTES):
                received += piece
            thread.join()
    assert complaints == []
    assert b"secret" not in received
    assert received.count(b"harmless") == 2


def test_nothing_is_copied_to_nodes_from_there_either(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("file", "more/file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("secret--")
    read: list[bytes] = []

    def reading(path: bytes, opener: Callable[[bytes, int], int] = os.open) -> tuple[FileDigest, os.stat_result]:
        if not read:
            exchange(tree, tmp_path)
        read.append(path)
        return digest_file(path, opener)

    monkeypatch.setattr(copying_put, "digest_file", reading)
    put = copying_put.Put([os.fsencode(tree)], b"/somewhere", recursive=True)
    assert put.problems == []
    assert [os.path.basename(path) for path in read] == [b"0", b"file", b"file"]
    harmless = sha256(b"harmless").digest()
    manifest = decode_manifest(put.upload._offer.manifest)
    assert [entry.digests for entry in manifest.entries if entry.path.endswith(b"/file")] == [harmless] * 2
