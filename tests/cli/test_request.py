"""Asking the head: what goes wrong is said in one line, and nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from heorot.cli.request import Head, json_arguments
from heorot.core.errors import ProtocolError, RequestError
from tests.cluster.harness import Cluster, Finished
from tests.support.fake_head import Answer, FakeHead, result

COMMANDS = [
    ("bpstat",),
    ("bpps",),
    ("bpps", "--watch"),
    ("bpkill", "1"),
    ("bpjob", "list"),
    ("bpjob", "show", "1.1"),
    ("bpjob", "wait", "1.1"),
    ("bpjob", "kill", "1.1"),
    ("bpjob", "attach", "1.1"),
]


def run(directory: Path, *words: str) -> Finished:
    return Cluster(directory).run(*words)


def process(pid: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "pid": pid,
        "node": 0,
        "job": "1.1",
        "rank": 0,
        "uid": 0,
        "user": None,
        "state": "S",
        "started_at_ms": 1_000,
        "argv": [b"sleep", b"1"],
        "leader": True,
        "parent_pid": 1,
        "user_time_ms": 0,
        "memory_bytes": 0,
    }
    return {**row, **changes}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_without_a_cluster_every_command_says_how_to_start_one(words: tuple[str, ...], tmp_path: Path) -> None:
    directory = tmp_path / "none"
    finished = run(directory, *words)
    assert finished.returncode == 125
    assert finished.stdout == b""
    expected = f"no cluster at {directory}: start one with 'heorot up --dir {directory} --nodes 4', or set HEOROT_DIR"
    assert finished.stderr.decode() == f"{words[0]}: {expected}\n"


def test_the_directory_may_be_given_as_an_option(tmp_path: Path) -> None:
    with FakeHead(tmp_path, {"nodes": result([])}):
        finished = run(tmp_path / "elsewhere", "bpstat", "-t", "--dir", str(tmp_path))
    assert finished.stdout == b"0\n"


def test_a_socket_path_of_any_length_is_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with FakeHead(deep, {"nodes": result([])}):
        assert run(deep, "bpstat", "-t").stdout == b"0\n"


@pytest.fixture
def answering(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Head]:
    """A connection to a head that answers ``status`` as the test's parameter says."""
    answer: Answer = request.param
    with FakeHead(tmp_path, {"status": answer}):
        head = Head(str(tmp_path), timeout_s=60)
        yield head
        head.close()


def test_a_silent_head_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with (
        FakeHead(tmp_path, {"status": lambda message: None}),
        closing(Head(str(tmp_path), timeout_s=0.3)) as head,
        pytest.raises(RequestError) as raised,
    ):
        head.ask("status")
    assert raised.value.code == "timeout"


@pytest.mark.parametrize("answering", [lambda message: b""], indirect=True)
def test_a_lost_head_is_an_error(answering: Head) -> None:
    with pytest.raises(RequestError) as raised:
        answering.ask("status")
    assert raised.value.code == "connection-lost"


@pytest.mark.parametrize("answering", [lambda message: ["error", 0, "version", "too old"]], indirect=True)
def test_a_refused_connection_is_an_error(answering: Head) -> None:
    with pytest.raises(RequestError, match="too old"):
        answering.ask("status")


@pytest.mark.parametrize(
    "answering",
    [lambda message: b"\xff\xff\xff\xff", lambda message: b"\0\0\0\1\xc1", lambda message: ["result"]],
    indirect=True,
)
def test_nonsense_is_a_protocol_error(answering: Head) -> None:
    with pytest.raises(ProtocolError):
        answering.ask("status")


def test_many_requests_are_answered_in_order(tmp_path: Path) -> None:
    with FakeHead(tmp_path, {"wait": lambda message: ["result", message[1], message[2]]}) as fake:
        head = Head(str(tmp_path))
        jobs = [f"1.{number}" for number in range(500)]
        assert head.ask_all([("wait", job) for job in jobs]) == jobs
        head.close()
        assert [message[2] for message in fake.requests[1:]] == jobs


def test_an_incomplete_table_is_marked_as_such(tmp_path: Path) -> None:
    with FakeHead(tmp_path, {"processes": result({"processes": [process(7)], "missing": [3, 4]})}):
        finished = run(tmp_path, "bpps")
    assert finished.returncode == 1
    assert finished.stdout.decode().splitlines()[1].split()[0] == "7"
    assert finished.stderr == b"bpps: n[3-4] did not answer: the processes there are not shown\n"


def test_arguments_of_any_bytes_become_valid_json(tmp_path: Path) -> None:
    rows = [process(7, argv=[b"a\xff\x1b", "ü".encode()]), process(8, argv=[], user="nobody")]
    with FakeHead(tmp_path, {"processes": result({"processes": rows, "missing": []})}):
        finished = run(tmp_path, "bpps", "--json")
        table = run(tmp_path, "bpps", "-H")
    assert b"\\udc" not in finished.stdout
    assert b'"argv": ["a\\\\xff\\u001b", "\\u00fc"], "argv_base64": ["Yf8b", "w7w="]' in finished.stdout
    assert b"\x1b" not in table.stdout
    assert table.stdout.decode().splitlines()[1].endswith("[]")


def test_exact_bytes_are_given_only_where_text_cannot_be() -> None:
    assert json_arguments([b"plain"]) == {"argv": ["plain"]}
    assert set(json_arguments([b"\x80"])) == {"argv", "argv_base64"}


def test_every_target_of_a_signal_is_tried_and_each_failure_named(tmp_path: Path) -> None:
    def answer(message: list[Any]) -> list[Any]:
        pids = message[4] or [0]
        if pids == [11]:
            return ["error", message[1], "not-permitted", "that is not yours"]
        return ["signalled", message[1], 0 if pids == [12] else 1, [5] if pids == [13] else []]

    with FakeHead(tmp_path, {"signal": answer}) as fake:
        finished = run(tmp_path, "bpkill", "-USR1", "10", "11", "12", "13", "n2:14", "1.3:0,2-3", "-15")
        sent = [message[2:] for message in fake.requests[1:]]
    assert finished.returncode == 1
    assert finished.stderr.decode().splitlines() == [
        "bpkill: (11): that is not yours",
        "bpkill: (12): no such process",
        "bpkill: (13): n5 did not answer (1 signalled elsewhere)",
    ]
    assert sent[0] == [None, None, [10], 10, ""]
    assert sent[4:] == [
        [None, None, [14], 10, "n2"],
        ["1.3", [0, 2, 3], None, 10, ""],
        [None, None, [-15], 10, ""],
    ]


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ({}, 0),
        ({"0": {"code": 3}, "1": {"code": 1}}, 3),
        ({"0": {"code": 3}, "1": {"code": 0}}, 3),
        ({"0": {"code": 3}, "1": {"code": 3}}, 3),
        ({"0": {"code": 3}, "1": {"signal": 9}}, 137),
        ({"0": {"signal": 9}, "1": {"lost": "gone"}}, 255),
        ({"0": {"code": 127, "error": "no such command"}}, 127),
    ],
)
def test_waiting_ends_with_the_largest_status(statuses: dict[str, Any], status: int, tmp_path: Path) -> None:
    job = {"job": "1.1", "statuses": statuses, "rank_nodes": [0, 1]}
    with FakeHead(tmp_path, {"wait": result(job)}):
        finished = run(tmp_path, "bpjob", "wait", "1.1")
        quiet = run(tmp_path, "bpjob", "wait", "-q", "1.1")
    assert (finished.returncode, quiet.returncode, quiet.stderr) == (status, status, b"")
    for rank, fate in statuses.items():
        spoken = f"rank {rank} on n{rank}:" in finished.stderr.decode()
        alike = all(other == fate for other in statuses.values())
        assert spoken == (set(fate) != {"code"} or (fate != {"code": 0} and not alike))


def test_the_start_of_a_short_command_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from heorot.cli import bpps, bpstat, bpkill, bpjob\n"
        "for body in bpps._body, bpstat._body: body(['--dir', sys.argv[1]])\n"
        "heavy = 'argparse re asyncio msgspec typing dataclasses inspect socket json enum'.split()\n"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with FakeHead(tmp_path, {"nodes": result([]), "processes": result({"processes": [], "missing": []})}):
        finished = subprocess.run(
            [sys.executable, "-S", "-c", script, str(tmp_path)],
            env=environment,
            capture_output=True,
            timeout=150,
            check=True,
        )
    assert finished.stdout.decode().splitlines()[-1] == ""
