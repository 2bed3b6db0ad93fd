"""Programs that travel: to nodes that have nothing, through the tree, once, and with a clear word if they cannot."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import heorot
from heorot.images.identity import ImageError
from heorot.images.offer import offer_program
from tests.cluster.harness import DEADLINE_S, Cluster, await_that, cluster, kill_hard
from tests.cluster.test_quotas import user
from tests.support.other_user import acting_as, open_temporary_directory, own_uid

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="an empty file system needs root")
NODES = 9
SCRIPT = "#!/bin/sh\n"


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """Nodes that have nothing but the agent: n0 and n1 below the head, three levels in all."""
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


@contextmanager
def away_from_home() -> Iterator[None]:
    """Work in a directory that every node has."""
    before = os.getcwd()
    os.chdir("/")
    try:
        yield
    finally:
        os.chdir(before)


def large(path: Path, size: int) -> Path:
    """A program of some size that no node has seen: it says what it is given."""
    path.write_bytes(Path("/bin/echo").read_bytes() + os.urandom(size))
    path.chmod(0o755)
    return path


def script(path: Path, text: str) -> Path:
    path.write_text(SCRIPT + text)
    path.chmod(0o755)
    return path


def caches(made: Cluster) -> list[Path]:
    return [made.directory / "nodes" / f"n{number}" / "images" for number in range(NODES)]


def test_a_node_that_has_nothing_runs_what_the_head_has(bare: Cluster) -> None:
    assert bare.check("bpsh", "-a", "/bin/echo", "hello") == b"hello\n" * NODES
    # What the shell itself runs was not sent.
    result = bare.run("bpsh", "n3", "sh", "-c", "echo from the shell; /bin/ls")
    assert (result.stdout, result.returncode) == (b"from the shell\n", 127)


def test_a_directory_that_no_bare_node_has_is_no_obstacle(bare: Cluster, place: Path) -> None:
    # On an ordinary node it is an error: there, relative paths could mean something else in another directory.
    away = Path(tempfile.mkdtemp(prefix="away.", dir="/var"))
    try:
        result = bare.run("bpsh", "-a", "/bin/pwd", cwd=away)
        failed = bare.run("bpsh", "-a", "/bin/cat", "table", cwd=away)
        absent = bare.run("bpsh", "n0", "/no/such", cwd=away)
        copied = bare.run("bpcp", __file__, "n0:x", cwd=away)
    finally:
        away.rmdir()
    assert (result.stdout, result.returncode) == (b"/\n" * NODES, 0)
    # Said where it may be the reason, once for all nodes, and not at every command.
    assert result.stderr == b""
    told = f"nodes with an empty file system (heorot up --bare) have no directory {away}: it ran in /"
    (line,) = [line for line in failed.stderr.decode().splitlines() if line.startswith("bpsh: ")]
    assert failed.returncode == 1
    assert line.startswith("bpsh: job ")
    assert line.endswith(told)
    # Nothing ran.
    assert (absent.stderr, absent.returncode) == (b"bpsh: n0 (rank 0): no such command: /no/such\n", 127)
    assert copied.returncode == 1
    assert f"cannot enter the directory {away}: " in copied.stderr.decode()


def test_the_description_of_the_terminal_goes_along_with_one(bare: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bare.environment, "TERM", "xterm")
    shown = bare.run("bpsh", "--pty", "n0", "tput", "longname")
    assert (shown.returncode, shown.stdout.startswith(b"xterm terminal emulator")) == (0, True)
    monkeypatch.setitem(bare.environment, "TERM", "no-such-terminal")
    unknown = bare.run("bpsh", "--pty", "n0", "tput", "longname")
    assert b'unknown terminal "no-such-terminal"' in unknown.stdout


def test_a_command_that_was_not_sent_is_not_there(bare: Cluster) -> None:
    result = bare.run("bpsh", "n3", "--image", "path", "/bin/echo")
    assert result.returncode == 127
    assert b"no such command: /bin/echo" in result.stderr


def test_every_node_gets_the_same_bytes_and_they_travel_once(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 3_000_000)
    assert bare.check("bpsh", "-a", program, "x") == b"x\n" * NODES
    before = {path: sorted(item.name for item in (path / "files").iterdir()) for path in caches(bare)}
    digest = hashlib.sha256(program.read_bytes()).digest()
    for path in caches(bare):
        assert digest in {hashlib.sha256(item.read_bytes()).digest() for item in (path / "files").iterdir()}
        assert not list((path / "partial").iterdir())
    # Once more, and through another name: nothing new comes, on any node.
    other = place / "other"
    os.link(program, other)
    assert bare.check("bpsh", "-a", program, "y") == b"y\n" * NODES
    assert bare.check("bpsh", "-a", other, "z") == b"z\n" * NODES
    # What former tests have brought may leave meanwhile.
    assert not [item for path in caches(bare) for item in (path / "files").iterdir() if item.name not in before[path]]


def test_a_program_sees_itself_under_its_own_name(bare: Cluster, place: Path) -> None:
    program = script(place / "my\nprogram", 'while read -r line; do echo "$line"; done < "$0"; echo "$0"\n')
    expected = program.read_bytes() + os.fsencode(program) + b"\n"
    assert bare.check("bpsh", "n8", program) == expected


def test_a_script_brings_its_interpreter_and_the_files_that_are_named(bare: Cluster, place: Path) -> None:
    (place / "data").mkdir()
    (place / "data" / "file").write_text("content\n")
    (place / "data" / "link").symlink_to("file")
    (place / "data" / "empty").mkdir()
    program = script(place / "program", f"cd {place}/data; read line < link; echo $line; echo *\n")
    output = bare.check("bpsh", "-s", "n0,n8", "--with", str(place / "data"), program)
    assert output == b"content\nempty file link\n" * 2


def test_an_agent_that_dies_in_the_middle_costs_no_rank(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 40_000_000)
    # n1 has two children, and theirs.
    agent = bare.node(1)["agent_pid"]
    with bare.start("bpsh", "-a", program, "survived") as process:
        await_that(lambda: bare.fetched_blocks() > 8_000, "a part of the program")
        os.kill(agent, signal.SIGKILL)
        assert process.outcome() == (0, b"survived\n" * NODES, b"")


def test_a_chunk_that_has_rotted_is_fetched_anew(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 1_000_000)
    assert bare.check("bpsh", "n0", program, "x") == b"x\n"
    content = program.read_bytes()
    (rotten,) = (
        item
        for item in (caches(bare)[0] / "files").iterdir()
        if item.stat().st_size == len(content) and item.read_bytes() == content
    )
    rotten.chmod(0o755)
    rotten.write_bytes(content[:500_000] + b"rot" + content[500_003:])
    # n2 is below n0, and gets it from there.
    assert bare.check("bpsh", "n2", program, "x") == b"x\n"
    copies = [item.read_bytes() for item in (caches(bare)[2] / "files").iterdir()]
    assert content in copies


def test_a_program_that_was_damaged_where_it_only_runs_is_fetched_anew(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 1_000_000)
    # Nobody is below n8, so that nobody has it from there.
    assert bare.check("bpsh", "n8", program, "x") == b"x\n"
    content = program.read_bytes()
    (damaged,) = (item for item in (caches(bare)[8] / "files").iterdir() if item.stat().st_size == len(content))
    with damaged.open("r+b") as file:
        file.write(b"damage")
    assert bare.check("bpsh", "n8", program, "x") == b"x\n"
    assert damaged.read_bytes() == content
    assert f"{damaged} was changed by somebody" in (bare.directory / "log" / "n8.log").read_text()


@pytest.mark.parametrize("folder", ["manifests", "files", "partial", "views", "stage"])
def test_a_directory_of_a_cache_may_be_removed_while_the_daemons_run(bare: Cluster, place: Path, folder: str) -> None:
    old, new = large(place / "old", 200_000), large(place / "new", 200_000)
    assert bare.check("bpsh", "n5", old, "x") == b"x\n"
    for images in (caches(bare)[5], bare.directory / "heads" / "h0" / "images"):
        shutil.rmtree(images / folder)
    for program in (old, new):
        assert bare.check("bpsh", "n5", program, "x") == b"x\n"


def test_a_file_that_changes_after_it_was_digested_is_said(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 1_000_000)
    with heorot.connect(bare.directory) as connection:
        handlers = connection._session._handlers
        send = handlers["image-wanted"]

        def change_first(*heard: object) -> None:
            program.write_bytes(program.read_bytes()[:-1] + b"?")
            send(*heard)

        handlers["image-wanted"] = change_first
        completed = connection.run([str(program)], nodes="n0,n5", directory="/")
    assert {status.code for status in completed.statuses} <= {126, 127}
    assert all(f"{program} has changed while it was read" in status.text for status in completed.statuses)


@pytest.mark.parametrize(
    ("make", "message", "status"),
    [
        (lambda path: path.write_bytes(b"#!/no/such/thing\n"), "needs the interpreter /no/such/thing", 127),
        (
            lambda path: path.write_bytes(Path("/bin/sh").read_bytes().replace(b"libc.so.6", b"libz.so.9")),
            "libz.so.9",
            125,
        ),
        (
            lambda path: path.write_bytes(
                Path("/bin/sh").read_bytes()[:18] + b"\xf3\0" + Path("/bin/sh").read_bytes()[20:]
            ),
            "is a program for riscv",
            126,
        ),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_sent(
    bare: Cluster, place: Path, make: object, message: str, status: int
) -> None:
    program = place / "program"
    assert callable(make)
    make(program)
    program.chmod(0o755)
    jobs = len(bare.jobs())
    result = bare.run("bpsh", "-a", "--image", "send", program)
    assert result.returncode == status
    assert message in result.stderr.decode()
    assert str(program) in result.stderr.decode()
    assert len(bare.jobs()) == jobs


def test_a_program_that_may_not_be_read_is_refused(bare: Cluster, place: Path) -> None:
    program = place / "program"
    program.write_bytes(Path("/bin/echo").read_bytes())
    program.chmod(0o711)
    open_temporary_directory()
    with pytest.raises(ImageError, match=r"cannot read .*program: Permission denied"), acting_as():
        heorot_offer(program)


def heorot_offer(program: Path) -> None:
    from heorot.images.offer import offer_command

    offer_command(os.fsencode(program), [b"PATH=/bin"], b"/", always_send=True)


def test_a_detached_job_needs_nobody_to_send_its_program(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 2_000_000)
    job = bare.check("bpsh", "--detach", "-a", program, "later").decode().strip()
    program.unlink()
    bare.await_job(job, lambda shown: shown["state"] == "done", "done")
    assert bare.check("bpjob", "attach", job) == b"later\n" * NODES


def test_the_library_sends_as_the_command_does(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 200_000)
    with heorot.connect(bare.directory) as connection:
        completed = connection.run([str(program), "library"], nodes="up", directory="/")
        assert completed.stdout == [b"library\n"] * NODES
        with pytest.raises(ImageError, match="no such command here: /no/such"):
            connection.run(["/no/such"], nodes="n0", image="send")
        with pytest.raises(ValueError, match="image must be"):
            connection.run(["/bin/echo"], nodes="n0", image="maybe")


@pytest.mark.parametrize("bob", ["silent", "refuses"])
def test_a_user_cannot_keep_a_program_from_others_by_offering_it(bare: Cluster, place: Path, bob: str) -> None:
    program = large(place / "program", 200_000)
    image = offer_program(os.fsencode(program), [], b"/").image
    script = f"""
client = Client().greet()
image = bytes.fromhex("{image.hex()}")
client.send("stage", 1, image)
tell(client.receive()[0])
if "{bob}" == "refuses":
    sys.stdin.readline()
    client.send("image-unavailable", image, "words of another")
    client.send("stage", 2, image)
"""
    with user(bare, own_uid(), script) as other:
        assert other.told() == "image-wanted"
        with bare.start("bpsh", "n0,n8", program, "x") as launched:
            if bob == "refuses":
                assert other.process.stdin is not None
                other.process.stdin.write(b"\n")
                other.process.stdin.flush()
            assert launched.communicate(timeout=DEADLINE_S) == (b"x\nx\n", b"")


def test_a_launch_that_waits_for_its_program_can_be_killed(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 2_000_000)
    with heorot.connect(bare.directory) as connection:
        connection._session._handlers["image-wanted"] = lambda *heard: None
        job = connection.spawn([str(program)], nodes="n1,n7", directory="/")
        bare.check("bpkill", job.id)
        statuses = job.wait(timeout_s=DEADLINE_S)
    assert [status.signal for status in statuses] == [15, 15]
    assert not any(bare.processes())


def test_ctrl_c_before_a_program_has_arrived_ends_it_as_any_other(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 60_000_000)
    with bare.start("bpsh", "-a", program, "x") as process:
        await_that(lambda: bare.fetched_blocks(), "a part of the program")
        process.send_signal(signal.SIGINT)
        # A shell calls this 130, and ends its loop.
        assert process.outcome() == (-signal.SIGINT, b"", b"")


def test_a_client_that_goes_in_the_middle_leaves_no_job(bare: Cluster, place: Path) -> None:
    program = large(place / "program", 60_000_000)
    with bare.start("bpsh", "-a", program, "x") as process:
        await_that(lambda: bare.fetched_blocks(), "a part of the program")
        process.kill()
    await_that(lambda: all(row["state"] == "done" for row in bare.jobs()), "the end of the job")
    assert not bare.processes()


def test_the_head_is_replaced_in_the_middle(place: Path) -> None:
    program = large(place / "program", 40_000_000)
    with away_from_home(), cluster(4, "--fanout", "2", "--heads", "2", "--bare") as made:
        head = made.head_pid()
        with made.start("bpsh", "-a", program, "survived") as process:
            await_that(lambda: made.fetched_blocks(), "a part of the program")
            kill_hard(head)
            assert process.outcome() == (0, b"survived\n" * 4, b"")


def test_the_head_is_replaced_while_a_detached_program_is_handed_to_it(place: Path) -> None:
    program = large(place / "program", 20_000_000)
    with away_from_home(), cluster(4, "--fanout", "2", "--heads", "2", "--bare") as made:
        head = made.head_pid()
        os.kill(head, signal.SIGSTOP)
        with made.start("bpsh", "--detach", "-a", program, "survived") as process:
            # It has asked the head to keep the program, and gets no answer.
            waits = Path(f"/proc/{process.pid}/wchan")
            await_that(lambda: waits.read_text().startswith("unix_stream_"), "bpsh to wait")
            kill_hard(head)
            output, errors = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, errors) == (0, b"")
        job = output.decode().strip()
        made.await_job(job, lambda shown: shown["state"] == "done", "done")
        assert made.check("bpjob", "attach", job) == b"survived\n" * 4


def test_an_image_that_is_larger_than_the_cache_is_refused(place: Path) -> None:
    program = large(place / "program", 3_000_000)
    small = large(place / "small", 100)
    with away_from_home(), cluster(3, "--fanout", "2", "--bare", "--image-cache", "4") as made:
        result = made.run("bpsh", "n2", program)
        assert result.returncode == 126, result
        # It stays on the head: no node is to blame.
        cache = str(made.directory / "heads" / "h0" / "images")
        assert f"; the image cache of the head h0 ({cache}) holds at most 4194304: " in result.stderr.decode()
        assert made.check("bpsh", "-a", small, "fits") == b"fits\n" * 3


def test_caches_are_bounded(place: Path) -> None:
    with away_from_home(), cluster(3, "--fanout", "2", "--bare", "--image-cache", "6") as made:
        for number in range(6):
            program = large(place / f"program{number}", 1_500_000)
            assert made.check("bpsh", "-a", program, "x") == b"x\n" * 3
            for node in range(3):
                files = made.files_in(f"nodes/n{node}/images/files/*")
                assert 1_500_000 <= sum(file.st_size for file in files) <= 6 << 20


def test_a_detached_job_of_a_sent_program_survives_the_loss_of_the_head(place: Path) -> None:
    """Only the lost head had the program from the client, which is gone: the next one has it from a node."""
    with away_from_home(), cluster(8, "--fanout", "2", "--heads", "2", "--bare") as made:
        for attempt in range(4):
            program = large(place / f"program{attempt}", 6_000_000)
            job = made.check("bpsh", "--detach", "--image", "send", "n[0-7]", program, "survived").decode().strip()
            kill_hard(made.head_pid())
            # What the caches of the cluster share must not help: this is about several hosts.
            (made.directory / "content").rename(made.directory / "content.gone")
            shutil.rmtree(made.directory / "content.gone")
            program.unlink()
            made.await_job(job, lambda shown: shown["state"] == "done", "done")
            assert made.check("bpjob", "attach", job) == b"survived\n" * 8
            await_that(lambda: {head["role"] for head in made.status()["heads"]} == {"active", "standby"}, "both heads")
