"""Which directory ``heorot node ps`` is about, and what it says of those that do not answer."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from heorot.cli import heorot
from heorot.cli.admin import node_ps
from heorot.config import files
from heorot.config.files import Address
from heorot.config.text import render_node
from heorot.core.wire.framing import encode_frame


def test_on_a_node_of_many_hosts_its_configuration_names_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, home = tmp_path / "node.toml", tmp_path / "state"
    (home / "nodes" / "n12").mkdir(parents=True)
    address = Address("127.0.0.1", 7734)
    file.write_text(
        render_node(cluster="c", directory=str(home), number=12, listen=address, heads=[address], capacity=1023)
    )
    monkeypatch.setattr(files, "DEFAULT_NODE_PATH", file)
    monkeypatch.delenv("HEOROT_DIR", raising=False)
    assert heorot.main(["node", "ps"]) == 1
    assert f"n12: bpinit does not run: {home}/nodes/n12/init.sock" in capsys.readouterr().err
    # What the command line and the environment say comes first.
    assert heorot.main(["node", "ps", "--dir", str(tmp_path)]) == 125
    monkeypatch.setenv("HEOROT_DIR", str(tmp_path / "other"))
    assert heorot.main(["node", "ps"]) == 125
    assert capsys.readouterr().err.count("no node of the cluster at") == 2


@pytest.mark.parametrize(
    ("says", "text"),
    [
        (b"", "closed the connection"),
        (encode_frame(b"\x91\x55"), "not a valid view"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "frame"),
        (None, "does not answer within"),
    ],
    ids=["nothing", "junk", "http", "silence"],
)
def test_whatever_answers_in_place_of_bpinit_is_a_clear_error(
    says: bytes | None, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "nodes" / "n1"
    home.mkdir(parents=True)
    monkeypatch.setattr(node_ps, "ANSWER_TIMEOUT_S", 0.2 if says is None else 30.0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "init.sock"))
        listener.listen()
        over = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                if says is None:
                    over.wait(150)
                else:
                    connection.sendall(says)

        server = threading.Thread(target=serve)
        server.start()
        try:
            assert heorot.main(["node", "ps", "n1", "--dir", str(tmp_path)]) == 1
        finally:
            over.set()
            server.join()
            (home / "init.sock").unlink()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("heorot node ps: n1: ")
    assert text in said.err
