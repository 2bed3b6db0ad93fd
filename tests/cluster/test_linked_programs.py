"""Programs that nodes with nothing lack, and that are more than one file: links, launchers, what is sent ahead."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import heorot
from tests.cluster.harness import Cluster, await_that, cluster, kill_hard
from tests.cluster.test_images import away_from_home, large, script
from tests.images.elf_files import ECHO, laid_out

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="an empty file system needs root")
NODES = 4


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """Nodes that have nothing but the agent, in two levels."""
    with (
        tempfile.TemporaryDirectory(prefix="xdg.") as folder,
        away_from_home(),
        cluster(NODES, "--fanout", "2", "--bare", environment={"XDG_CACHE_HOME": folder}) as made,
    ):
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for programs, outside of what the cluster's nodes see."""
    with tempfile.TemporaryDirectory(prefix="place.") as name:
        os.chmod(name, 0o755)
        yield Path(name)


# ------------------------------------------------------------------ links


@pytest.mark.parametrize("how", ["auto", "send"])
def test_a_program_finds_what_lies_beside_its_file(bare: Cluster, place: Path, how: str) -> None:
    program = laid_out(place)
    exe = b"%s/home/bin/prog\n" % os.fsencode(place)
    assert bare.check("bpsh", "-a", "--image", how, program, "/proc/self/exe") == exe * NODES
    found = {**bare.environment, "PATH": f"{place}/bin:{os.environ['PATH']}"}
    assert bare.run("bpsh", "n3", "prog", "/proc/self/exe", env=found).stdout == exe
    # Another program that the link leads to from now on is another program.
    (place / "alternatives" / "prog").unlink()
    (place / "alternatives" / "prog").symlink_to(ECHO)
    assert bare.check("bpsh", "n3", "--image", how, program, "changed") == b"changed\n"


def test_a_virtual_environment_is_one_directory_with_a_link_out_of_it(bare: Cluster, place: Path) -> None:
    program = laid_out(place / "usr")
    venv = place / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(program)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
    exe = b"%s/usr/home/bin/prog\n" % os.fsencode(place)
    commands: list[list[str | Path]] = [[venv / "bin" / "python"], ["env", venv / "bin" / "python"]]
    for by in commands:
        assert bare.check("bpsh", "--with", venv, "n1", *by, "/proc/self/exe") == exe


@pytest.mark.parametrize(
    ("words", "output", "status"),
    [
        (["env", "prog"], b"EXE\n", 0),
        (["nice", "-n", "5", "prog"], b"EXE\n", 0),
        (["timeout", "100", "prog"], b"EXE\n", 0),
        (["sh", "-c", 'prog "$0"; exit 3'], b"EXE\n", 3),
        (["env", "nosuch"], b"", 127),
        (["timeout", "0.2", "sleep", "100"], b"", 124),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_starts_another_program_is_sent_that_with_its_libraries(
    bare: Cluster, place: Path, words: list[str], output: bytes, status: int
) -> None:
    program = laid_out(place)
    path = {**bare.environment, "PATH": f"{place}/bin:{os.environ['PATH']}"}
    sleep = shutil.which("sleep")
    assert sleep is not None
    extra: list[str | Path] = ["--with", program, "--with", sleep]
    result = bare.run("bpsh", "n2", *extra, *words, "/proc/self/exe" if "sleep" not in words else "1", env=path)
    exe = b"%s/home/bin/prog" % os.fsencode(place)
    assert (result.stdout, result.returncode) == (output.replace(b"EXE", exe), status), result.stderr


# ------------------------------------------------------------------ what cannot be collected


@pytest.mark.parametrize("what", ["library", "interpreter"])
def test_what_cannot_be_collected_is_left_to_the_nodes_with_one_word(bare: Cluster, place: Path, what: str) -> None:
    if what == "library":
        program = laid_out(place, library=False)
        why = f"{place}/home/bin/prog needs libraries that are missing here: libown.so.1"
    else:
        program = script(place / "program", "")
        program.write_text("#!/no/such/thing\n")
        why = f"{program} needs the interpreter /no/such/thing, which does not exist"
    result = bare.run("bpsh", "n[0-1]", program)
    # These have none.
    assert result.returncode == 127
    assert result.stderr.decode() == (
        f"bpsh: {why}; it is not sent: nodes run their own\nbpsh: n[0-1]: no such command: {program}\n"
    )
    jobs = len(bare.jobs())
    for options in (["--image", "send"], ["--with", "/bin/sh"], ["--stage"]):
        refused = bare.run("bpsh", *options, "n0", program)
        assert refused.returncode == (125 if what == "library" else 127)
        assert refused.stderr.decode().startswith(f"bpsh: {why}\n")
    assert len(bare.jobs()) == jobs
    with heorot.connect(bare.directory) as library, pytest.warns(UserWarning, match="it is not sent"):
        assert library.run([str(program)], nodes="n0", directory="/").exit_status == 127


# ------------------------------------------------------------------ what is sent ahead


def files_of(made: Cluster, program: Path, nodes: int = NODES) -> list[os.stat_result]:
    """Return the status of a program in the caches of the nodes."""
    digest = hashlib.sha256(program.read_bytes()).digest()
    found = []
    for node in range(nodes):
        for item in (made.directory / "nodes" / f"n{node}" / "images" / "files").iterdir():
            if item.stat().st_size == program.stat().st_size:
                assert hashlib.sha256(item.read_bytes()).digest() == digest
                found.append(item.stat())
    return found


def test_a_program_that_was_sent_ahead_is_not_sent_again(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 1_500_000 + os.getpid())
    (place / "data").write_text("data\n")
    reader = script(place / "reader", f'read line < {place}/data; echo "$line"; exec {program} x\n')
    result = bare.run("bpsh", "--stage", "-a", program)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    staged = files_of(bare, program)
    assert len(staged) == NODES
    staging = bare.run("bpsh", "--stage", "--json", "--with", place / "data", "--with", program, "n[1-2]", reader)
    document = json.loads(staging.stdout)
    assert (staging.returncode, staging.stderr) == (0, b"")
    assert [(row["node"], row["code"], row["stdout"]) for row in document["ranks"]] == [(1, 0, ""), (2, 0, "")]
    with heorot.connect(bare.directory) as library:
        # Neither this program nor the head has anything to send any more.
        wanted: list[object] = []
        library._session._handlers["image-wanted"] = lambda *heard: wanted.append(heard)
        shutil.rmtree(bare.directory / "heads" / "h0" / "images")
        completed = library.run([str(program), "here"], nodes="up", directory="/", image="send")
        assert completed.check().stdout == [b"here\n"] * NODES
        extra = [place / "data", program]
        completed = library.run([str(reader)], nodes="n[1-2]", directory="/", extra_files=extra)
        assert completed.check().stdout == [b"data\nx\n"] * 2
    assert wanted == []
    assert [(file.st_ino, file.st_mtime_ns) for file in files_of(bare, program)] == [
        (file.st_ino, file.st_mtime_ns) for file in staged
    ]


def test_nodes_that_cannot_have_it_are_named(place: Path) -> None:
    program = large(place / "program", 3_000_000)
    with away_from_home(), cluster(3, "--fanout", "2", "--bare", "--image-cache", "4") as made:
        result = made.run("bpsh", "--stage", "n[0-2]", program)
        assert result.returncode == 126
        assert result.stderr.decode().startswith("bpsh: n[0-2]: ")
        assert "holds at most 4194304" in result.stderr.decode()
        row = json.loads(made.run("bpsh", "--stage", "--json", "n2", program).stdout)["ranks"][0]
        assert (row["code"], "holds at most 4194304" in row["error"]) == (126, True)
        unknown = made.run("bpsh", "--stage", "n7", program)
        assert (unknown.returncode, unknown.stderr) == (
            125,
            b"bpsh: 'n7': there is no node n7; the cluster has n[0-2]\n",
        )


def test_a_head_that_is_lost_while_a_program_is_sent_ahead_costs_nothing(place: Path) -> None:
    program = large(place / "program", 40_000_000)
    with away_from_home(), cluster(3, "--fanout", "2", "--heads", "2", "--bare") as made:
        head = made.head_pid()
        with made.start("bpsh", "--stage", "-a", program) as process:
            await_that(lambda: made.fetched_blocks(), "a part of the program")
            kill_hard(head)
            assert process.outcome() == (0, b"", b"")
        assert len(files_of(made, program, 3)) == 3
