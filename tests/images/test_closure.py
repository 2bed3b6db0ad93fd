"""The files of a program: found as the loader, the shell and the kernel find them, and missing ones are named."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.images.closure import Closure
from heorot.images.find import find_command, obstacle, plain
from heorot.images.identity import CommandError, ImageError
from heorot.images.offer import offer_command
from tests.support.other_user import acting_as, open_to_all

ENVIRONMENT = [b"PATH=/usr/bin:/bin", b"LANG=C"]


def needs(program: Path | bytes, environment: list[bytes] | None = None) -> list[bytes]:
    closure = Closure(environment or ENVIRONMENT, b"/")
    closure.add(os.fsencode(program))
    return list(closure.paths)


def script(path: Path, line: str) -> Path:
    path.write_text(line + "\n", newline="")
    path.chmod(0o755)
    return path


def test_a_program_needs_its_loader_and_its_libraries() -> None:
    found = needs(b"/bin/sh")
    assert found[0] == b"/bin/sh"
    names = [os.path.basename(path) for path in found]
    assert any(name.startswith(b"libc.so") for name in names)
    assert any(name.startswith((b"ld-linux", b"ld64")) for name in names)
    assert all(os.path.isfile(path) for path in found)


def test_what_is_found_is_enough_to_run_in_an_empty_root(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.fail("this test needs root, for chroot")
    root = tmp_path / "root"
    for path in needs(b"/bin/sh"):
        target = root / path.decode().lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.fsdecode(path), target)
    ran = subprocess.run(["chroot", root, "/bin/sh", "-c", "echo alone"], capture_output=True, check=True)
    assert ran.stdout == b"alone\n"


def test_a_script_needs_its_interpreter(tmp_path: Path) -> None:
    path = script(tmp_path / "script", "#!/bin/sh -e")
    assert needs(path) == [os.fsencode(path), *needs(b"/bin/sh")]


def test_env_is_looked_through(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/sh", tmp_path / "bin" / "mine")
    for line in ("#!/usr/bin/env mine", "#!/usr/bin/env -S A=b mine -x"):
        path = script(tmp_path / "script", line)
        found = needs(path, [b"PATH=%s" % os.fsencode(tmp_path / "bin")])
        assert os.fsencode(tmp_path / "bin" / "mine") in found
        assert b"/usr/bin/env" in found


def test_a_script_without_an_interpreter_needs_the_shell(tmp_path: Path) -> None:
    assert b"/bin/sh" in needs(script(tmp_path / "script", "echo hello"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("#!/no/such/interpreter -x", "needs the interpreter /no/such/interpreter, which does not exist"),
        ("#!/usr/bin/env nosuch", "needs the interpreter nosuch, which is not in PATH"),
        ("#!", "names no interpreter"),
        ("#! \t", "names no interpreter"),
        # The kernel takes a carriage return for a part of the name, and finds nothing either.
        ("#!/bin/sh\r", r"needs the interpreter '/bin/sh\\r', which does not exist \(.* line ends of Windows"),
        ("#!/usr/bin/env sh\r", r"needs the interpreter 'sh\\r', which is not in PATH \(.* line ends of Windows"),
    ],
)
def test_a_missing_interpreter_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = script(tmp_path / "script", line)
    with pytest.raises(ImageError, match=message) as caught:
        needs(path)
    assert str(path) in str(caught.value)


def test_scripts_that_run_each_other_come_to_an_end(tmp_path: Path) -> None:
    for number in range(8):
        script(tmp_path / str(number), f"#!{tmp_path / str(number + 1)}")
    shutil.copy("/bin/sh", tmp_path / "8")
    with pytest.raises(ImageError, match="too many interpreters"):
        needs(tmp_path / "0")


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    # The name of a library is a text in the program.
    data = Path("/bin/sh").read_bytes()
    assert data.count(b"libc.so.6\0") >= 1
    path = tmp_path / "prog"
    path.write_bytes(data.replace(b"libc.so.6\0", b"libq.so.6\0", 1))
    path.chmod(0o755)
    with pytest.raises(ImageError, match=r"libq\.so\.6") as caught:
        needs(path)
    assert str(path) in str(caught.value)


def test_all_missing_libraries_are_named(tmp_path: Path) -> None:
    data = Path("/bin/ls").read_bytes()
    libraries = [os.path.basename(path) for path in needs(b"/bin/ls")[1:] if b".so" in path]
    absent = [name for name in libraries if data.count(name + b"\0") == 1][:2]
    assert len(absent) == 2, libraries
    for name in absent:
        data = data.replace(name + b"\0", b"Q" + name[1:] + b"\0")
    path = tmp_path / "pr\nog"
    path.write_bytes(data)
    path.chmod(0o755)
    with pytest.raises(ImageError) as caught:
        needs(path)
    names = ", ".join("Q" + name[1:].decode() for name in absent)
    assert str(caught.value) == f"{str(path)!r} needs libraries that are missing here: {names}"


@pytest.fixture
def loader() -> Iterator[Path]:
    """A place for a loader, with a path that is short enough to stand in a program."""
    place = Path(tempfile.gettempdir()) / "l"
    yield place
    place.unlink()


def program_with(loader: Path, path: Path) -> Path:
    data = Path("/bin/sh").read_bytes()
    own = next(path for path in needs(b"/bin/sh") if os.path.basename(path).startswith((b"ld-linux", b"ld64")))
    place = os.fsencode(loader)
    assert len(place) <= len(own)
    path.write_bytes(data.replace(own, place.ljust(len(own), b"\0"), 1))
    return path


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("kill -SEGV $$", "cannot be loaded here: SIGSEGV ended its loader"),
        ("exit 3", "ends with status 3"),
        ("yes", "says more than 1048576 bytes"),
        ('echo "$2: no good"; exit 1', "cannot be loaded here: no good"),
        # As musl says it.
        (
            "for i in a b; do echo Error loading shared library lib$i.so: No such file '(needed by x)'; done; exit 127",
            "needs libraries that are missing here: liba.so, libb.so",
        ),
        (
            "printf '\\tliba.so => /no/such/liba.so (0x00)\\n'",
            "finds liba.so where there is no file (/no/such/liba.so)",
        ),
    ],
)
def test_what_a_loader_cannot_do_is_said_in_words(tmp_path: Path, loader: Path, says: str, message: str) -> None:
    script(loader, f"#!/bin/sh\n{says}")
    path = program_with(loader, tmp_path / "prog")
    with pytest.raises(ImageError, match=re.escape(message)) as caught:
        needs(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("length", [800, 40_000])
def test_a_truncated_program_is_incomplete(tmp_path: Path, length: int) -> None:
    path = tmp_path / "prog"
    path.write_bytes(Path("/bin/sh").read_bytes()[:length])
    with pytest.raises(ImageError, match=f"{path} is incomplete: it has {length} of [0-9]+ bytes"):
        needs(path)


@pytest.mark.parametrize("name", ["a\nb", "a => b", "a\n\tb", "a\n (0x12)", "a\n\tlibx.so => not found"])
def test_a_library_may_lie_anywhere(tmp_path: Path, name: str) -> None:
    libc = next(path for path in needs(b"/bin/sh") if b"libc.so" in path)
    place = tmp_path / name
    place.mkdir()
    shutil.copy(os.fsdecode(libc), place)
    environment = [*ENVIRONMENT, b"LD_LIBRARY_PATH=%s" % os.fsencode(place)]
    if "\t" in name:
        # The loader's list does not tell where this one ends.
        with pytest.raises(ImageError, match=r" cannot be sent: its loader .* where there is no file"):
            needs(b"/bin/sh", environment)
        return
    assert os.fsencode(place) + b"/" + os.path.basename(libc) in needs(b"/bin/sh", environment)


def test_the_caller_s_library_path_counts(tmp_path: Path) -> None:
    libc = next(path for path in needs(b"/bin/sh") if b"libc.so" in path)
    shutil.copy(os.fsdecode(libc), tmp_path / os.path.basename(libc).decode())
    found = needs(b"/bin/sh", [*ENVIRONMENT, b"LD_LIBRARY_PATH=%s" % os.fsencode(tmp_path)])
    assert os.fsencode(tmp_path) + b"/" + os.path.basename(libc) in found
    assert libc not in found


def test_a_program_for_another_machine_is_refused(tmp_path: Path) -> None:
    data = bytearray(Path("/bin/sh").read_bytes())
    data[18:20] = (183 if os.uname().machine != "aarch64" else 62).to_bytes(2, "little")
    path = tmp_path / "prog"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=f"is a program for (aarch64|x86_64); this is {os.uname().machine}"):
        needs(path)


def test_a_missing_loader_is_named(tmp_path: Path) -> None:
    data = Path("/bin/sh").read_bytes()
    loader = next(path for path in needs(b"/bin/sh") if os.path.basename(path).startswith((b"ld-linux", b"ld64")))
    path = tmp_path / "prog"
    path.write_bytes(data.replace(loader, loader[:-1] + b"9", 1))
    with pytest.raises(ImageError, match=r"needs the loader .*9, which does not exist"):
        needs(path)


@pytest.mark.parametrize("length", [4, 20, 60, 100])
def test_a_damaged_header_is_said(tmp_path: Path, length: int) -> None:
    path = tmp_path / "prog"
    path.write_bytes(Path("/bin/sh").read_bytes()[:length])
    with pytest.raises(ImageError, match=r"damaged|is a program for"):
        needs(path)


@pytest.mark.parametrize("offset", [1 << 20, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_header_that_points_beyond_the_file_is_said(tmp_path: Path, offset: int) -> None:
    data = bytearray(Path("/bin/sh").read_bytes())
    table, size, count = int.from_bytes(data[32:40], "little"), data[54], data[56]
    at = next(at for at in range(table, table + size * count, size) if data[at] == 3)
    data[at + 8 : at + 16] = offset.to_bytes(8, "little")
    path = tmp_path / "prog"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"is incomplete: it has \d+ of \d+ bytes"):
        needs(path)


def test_a_program_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read .*nosuch: No such file"):
        needs(tmp_path / "nosuch")


def test_commands_are_found_as_the_shell_finds_them(tmp_path: Path) -> None:
    here = os.fsencode(tmp_path)
    script(tmp_path / "run", "#!/bin/sh")
    (tmp_path / "data").write_text("")
    (tmp_path / "folder").mkdir()
    assert find_command(b"run", b"/nosuch:" + here, b"/") == here + b"/run"
    assert find_command(b"./run", b"", here) == here + b"/run"
    assert find_command(b"run", b"/nosuch:", here) == here + b"/run"
    for name in (b"data", b"folder", b"nosuch", b"", b"run/x", b"r\0n"):
        assert find_command(name, here, here) is None


def test_what_is_here_and_cannot_be_executed_says_why(tmp_path: Path) -> None:
    here = os.fsencode(tmp_path)
    (tmp_path / "data").write_text("#!/bin/sh\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tmp_path / "socket"))
    for name, why in {
        "data": "Permission denied (chmod +x makes a file executable)",
        "folder": "Is a directory",
        "pipe": "Permission denied: it is a named pipe",
        "socket": "Permission denied: it is a socket",
    }.items():
        path = tmp_path / name
        with pytest.raises(CommandError, match=re.escape(f"cannot execute {path}: {why}")) as caught:
            offer_command(os.fsencode(path), ENVIRONMENT, b"/")
        assert caught.value.exit_status == 126
        # And nobody waits for its other end.
        if name != "data":
            with pytest.raises(ImageError, match=r"is not a regular file|No such device or address"):
                needs(path)
    # As execvp(3) does, PATH passes over all but files.
    path_here = [b"PATH=" + here]
    with pytest.raises(CommandError, match=r"cannot execute .*/data: Permission denied"):
        offer_command(b"data", path_here, b"/")
    assert offer_command(b"pipe", path_here, b"/") is None
    (tmp_path / "socket").unlink()
    with pytest.raises(CommandError, match="no such command here: pipe") as caught:
        offer_command(b"pipe", path_here, b"/", always_send=True)
    assert caught.value.exit_status == 127


def test_a_directory_that_may_not_be_searched_hides_what_is_named_and_not_what_is_looked_for(tmp_path: Path) -> None:
    if os.getuid() == 0:
        open_to_all(tmp_path)
    (tmp_path / "closed").mkdir(0o600 if os.getuid() else 0o700)
    name = os.fsencode(tmp_path / "closed")
    with acting_as():
        assert obstacle(name + b"/prog", b"", b"/") == (name + b"/prog", "Permission denied")
        assert obstacle(b"prog", name, b"/") is None


def test_a_path_is_made_plain_without_leading_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "a" / "file").write_text("")
    (tmp_path / "file").write_text("")
    here = os.fsencode(tmp_path)
    assert plain(here + b"/a/./b/../file") == here + b"/a/file"
    assert os.path.samefile(plain(here + b"/link/../file"), here + b"/a/file")
    assert plain(b"//bin//sh") == b"/bin/sh"
