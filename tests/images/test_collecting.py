"""What goes into an image beside what the program needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.images.manifest import Entry, Manifest, decode_manifest
from heorot.images import named
from heorot.images.collecting import collect, describe_image
from heorot.images.identity import ImageError
from tests.images.elf_files import ECHO, a_library, laid_out, with_library
from tests.support.other_user import NOBODY, acting_as, open_to_all

ENVIRONMENT = [b"PATH=/usr/bin:/bin"]


def image_of(program: Path | str, *extra: Path | str, said: list[str] | None = None) -> Manifest:
    lines: list[str] = [] if said is None else said
    names = [os.fsencode(name) for name in extra]
    collection = collect(os.fsencode(program), ENVIRONMENT, b"/", names, say=lines.append)
    assert lines == [] or said is not None
    return decode_manifest(describe_image(collection)[2])


def held(manifest: Manifest) -> dict[str, Entry]:
    return {os.fsdecode(entry.path): entry for entry in manifest.entries}


def script(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


# ------------------------------------------------------------------ links


def test_a_program_goes_as_its_links_and_its_file(tmp_path: Path) -> None:
    program = laid_out(tmp_path)
    manifest = image_of(program)
    entries = held(manifest)
    assert manifest.program == os.fsencode(tmp_path / "home" / "bin" / "prog")
    assert entries[str(program)].target == os.fsencode(tmp_path / "alternatives" / "prog")
    assert entries[f"{tmp_path}/home/bin/prog"].kind == FILE
    assert entries[f"{tmp_path}/home/lib/libown.so.1"].kind == FILE
    # Its bytes are there once.
    assert sum(entry.size == (tmp_path / "home/bin/prog").stat().st_size for entry in manifest.entries) == 1


def test_a_program_may_be_found_by_a_link_in_what_is_sent(tmp_path: Path) -> None:
    project = tmp_path / "project"
    script(project / "bin-1.2" / "prog")
    (project / "bin").symlink_to("bin-1.2")
    (project / "other").symlink_to("bin-1.2")
    manifest = image_of(project / "bin" / "prog", project)
    entries = held(manifest)
    assert manifest.program == os.fsencode(project / "bin-1.2" / "prog")
    assert {name for name, entry in entries.items() if entry.kind == SYMLINK} >= {f"{project}/bin", f"{project}/other"}
    # The link leads there: an image has nothing below it.
    assert f"{project}/bin/prog" not in entries


def test_what_is_below_a_link_to_a_directory_elsewhere_is_there(tmp_path: Path) -> None:
    script(tmp_path / "elsewhere" / "prog")
    project = tmp_path / "project"
    project.mkdir()
    (project / "bin").symlink_to(tmp_path / "elsewhere")
    entries = held(image_of(project / "bin" / "prog", project))
    assert entries[f"{project}/bin"].target == os.fsencode(tmp_path / "elsewhere")
    assert entries[f"{tmp_path}/elsewhere/prog"].kind == FILE
    # A library is opened by the path that its user names: for it the link is a directory.
    program = laid_out(tmp_path / "app")
    home = tmp_path / "app" / "home"
    (home / "lib").rename(tmp_path / "lib")
    (home / "lib").symlink_to(tmp_path / "lib")
    entries = held(image_of(program, home))
    assert f"{home}/lib" not in entries
    assert entries[f"{home}/lib/libown.so.1"].kind == FILE


def test_a_virtual_environment_brings_the_program_that_it_is_a_link_to(tmp_path: Path) -> None:
    program = laid_out(tmp_path)
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(program)
    (venv / "bin" / "python3").symlink_to("python")
    (venv / "lib64").symlink_to("lib")
    (venv / "loop").symlink_to("loop")
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
    for started in (venv / "bin" / "python3", "/bin/echo"):
        entries = held(image_of(started, venv))
        assert entries[f"{venv}/bin/python3"].target == b"python"
        assert entries[f"{venv}/bin/python"].target == os.fsencode(program)
        for needed in (program, tmp_path / "alternatives/prog", tmp_path / "home/bin/prog", venv / "pyvenv.cfg"):
            assert str(needed) in entries
        assert f"{tmp_path}/home/lib/libown.so.1" in entries
        # What leads nowhere stays as it is.
        assert [entries[f"{venv}/{name}"].target for name in ("lib64", "loop")] == [b"lib", b"loop"]


def test_a_directory_that_is_named_by_a_link_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    script(tmp_path / "data-3" / "file")
    (tmp_path / "data").symlink_to("data-3")
    entries = held(image_of("/bin/echo", tmp_path / "data"))
    assert entries[f"{tmp_path}/data"].target == b"data-3"
    assert entries[f"{tmp_path}/data-3"].kind == DIRECTORY
    assert entries[f"{tmp_path}/data-3/file"].kind == FILE


def test_a_library_that_is_a_link_in_what_is_sent_travels_once(tmp_path: Path) -> None:
    program = laid_out(tmp_path)
    library = tmp_path / "home" / "lib" / "libown.so.1"
    library.rename(tmp_path / "home" / "lib" / "libown.so.1.2")
    library.symlink_to("libown.so.1.2")
    assert held(image_of(program))[str(library)].kind == FILE
    entries = held(image_of(program, tmp_path / "home"))
    assert entries[str(library)].target == b"libown.so.1.2"
    assert entries[f"{library}.2"].kind == FILE


# ------------------------------------------------------------------ binaries that are named


def test_a_program_that_is_named_brings_its_libraries_and_a_script_its_interpreter(tmp_path: Path) -> None:
    program = laid_out(tmp_path)
    entries = held(image_of("/bin/echo", program))
    assert entries[str(program)].kind == SYMLINK
    assert {f"{tmp_path}/home/bin/prog", f"{tmp_path}/home/lib/libown.so.1"} <= entries.keys()
    shell = shutil.copy("/bin/sh", tmp_path / "shell")
    wrapper = script(tmp_path / "wrapper", f"#!{shell}\n")
    assert str(shell) in held(image_of("/bin/echo", wrapper))
    # It is data to whoever may not execute it.
    wrapper.chmod(0o644)
    assert str(shell) not in held(image_of("/bin/echo", wrapper))


def test_a_library_that_is_named_brings_others(tmp_path: Path) -> None:
    for name in ("libfirst.so", "libsecond.so"):
        (tmp_path / name).write_bytes(a_library())
    (tmp_path / "deep").mkdir()
    plugin = tmp_path / "deep" / "plugin.so"
    plugin.write_bytes(with_library(a_library(), b"libfirst.so", b"$ORIGIN/.."))
    assert f"{tmp_path}/libfirst.so" in held(image_of("/bin/echo", plugin))
    entries = held(image_of("/bin/echo", tmp_path / "deep"))
    assert f"{tmp_path}/libfirst.so" in entries
    assert f"{tmp_path}/libsecond.so" not in entries


def test_binaries_in_a_directory_bring_what_nobody_has_brought_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin = laid_out(tmp_path / "app").parents[1] / "home" / "bin"
    for number in range(8):
        shutil.copy(ECHO, bin / f"plain{number}")
        shutil.copy(bin / "prog", bin / f"own{number}")
    said: list[str] = []
    entries = held(image_of("/bin/echo", bin, said=said))
    assert f"{tmp_path}/app/home/lib/libown.so.1" in entries
    assert said == []
    # Nine have a search path, and only these are asked.
    monkeypatch.setattr(named, "MAX_ASKED", 8)
    assert held(image_of("/bin/echo", bin, said=said)).keys() == entries.keys()
    (line,) = said
    assert line.startswith("only 8 programs and libraries in directories were asked for the libraries that they need")


def test_what_a_binary_that_is_named_lacks_is_said_and_keeps_nothing_from_being_sent(tmp_path: Path) -> None:
    program = laid_out(tmp_path, library=False)
    said: list[str] = []
    assert f"{tmp_path}/home/bin/prog" in held(image_of("/bin/echo", program, said=said))
    assert said == [f"{tmp_path}/home/bin/prog needs libraries that are missing here: libown.so.1; it is sent as it is"]
    # Nobody may want to run what lies in a directory.
    assert f"{tmp_path}/home/bin/prog" in held(image_of("/bin/echo", tmp_path / "home"))


def test_what_is_no_binary_is_data(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\x7fELF")
    (tmp_path / "cut").write_bytes(Path("/bin/echo").read_bytes()[:9000])
    (tmp_path / "empty.so").touch()
    foreign = bytearray(Path("/bin/echo").read_bytes())
    foreign[18:20] = (243).to_bytes(2, "little")
    (tmp_path / "foreign").write_bytes(foreign)
    for name in ("short", "cut", "foreign"):
        (tmp_path / name).chmod(0o755)
    entries = held(image_of("/bin/echo", tmp_path, tmp_path / "short", tmp_path / "cut"))
    assert {f"{tmp_path}/{name}" for name in ("short", "cut", "empty.so", "foreign")} <= entries.keys()


# ------------------------------------------------------------------ what is too much, or changes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/", "/ is not sent as a whole: name those of its directories that are needed"),
        ("/usr/..", "/ is not sent as a whole"),
        ("/proc", "/proc may not be sent: every node has its own proc"),
        ("/dev/null", "/dev/null is not a regular file"),
        ("/no/such", "cannot read /no/such: No such file or directory"),
    ],
)
def test_what_cannot_be_sent_is_said_at_once(name: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        image_of("/bin/echo", name)


def test_a_link_to_the_root_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "all").symlink_to("/")
    with pytest.raises(ImageError, match="/ is not sent as a whole"):
        image_of("/bin/echo", tmp_path / "all")
    # As one of many in a directory it is nothing but a link.
    assert held(image_of("/bin/echo", tmp_path))[f"{tmp_path}/all"].target == b"/"


def test_more_files_than_an_image_may_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "MAX_ENTRIES", 50)
    for number in range(60):
        (tmp_path / str(number)).touch()
    with pytest.raises(ImageError, match="more than 50 files: send fewer, or one archive of them"):
        image_of("/bin/echo", tmp_path)


def test_a_tree_may_be_as_deep_as_paths_can_be_long(tmp_path: Path) -> None:
    top = deepest = os.fsencode(tmp_path) + b"/top"
    os.mkdir(top)
    try:
        while len(deepest) < 4000:
            deepest += b"/d"
            os.mkdir(deepest)
        assert deepest in {entry.path for entry in image_of("/bin/echo", tmp_path).entries}
    finally:
        # Python's own way would be too deep for its stack.
        subprocess.run(["rm", "-r", top], check=True)


def test_any_bytes_may_be_in_names(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff\n\t => \\"
    os.mkdir(odd)
    os.symlink(b"\xfe\n", odd + b"/link")
    Path(os.fsdecode(odd + b"/\x01")).touch()
    paths = {entry.path for entry in image_of("/bin/echo", os.fsdecode(odd)).entries}
    assert {odd, odd + b"/link", odd + b"/\x01"} <= paths


@pytest.mark.parametrize("gone", ["file", "folder"])
def test_what_is_gone_before_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    lstat = os.lstat

    def last_look(path: bytes) -> os.stat_result:
        status = lstat(path)
        if path == os.fsencode(tmp_path / gone):
            (os.rmdir if gone == "folder" else os.unlink)(path)
        return status

    monkeypatch.setattr(os, "lstat", last_look)
    with pytest.raises(ImageError, match=f"cannot read {tmp_path}/{gone}: No such file or directory"):
        image_of("/bin/echo", tmp_path)


def test_what_becomes_a_link_to_another_user_s_file_is_not_read(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / "secret").write_bytes(b"\x7fELFsecret")
    (tmp_path / "secret").chmod(0o700)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "secret")
    with acting_as():
        entries = held(image_of("/bin/echo", tmp_path / "mine"))
        assert entries[f"{tmp_path}/mine/link"].kind == SYMLINK
        assert f"{tmp_path}/secret" not in entries
        with pytest.raises(ImageError, match=r"cannot read .*/secret: Permission denied"):
            image_of("/bin/echo", tmp_path / "secret")


@pytest.mark.parametrize("name", ["ld.so", "x"])
def test_no_program_is_run_that_somebody_has_put_into_what_is_only_sent(tmp_path: Path, name: str) -> None:
    """Whose loader a binary names, its maker says."""
    witness, loader = tmp_path / "witness", Path(tempfile.gettempdir()) / name
    own = next(entry.path for entry in image_of("/bin/echo").entries if os.path.basename(entry.path).startswith(b"ld"))
    place = os.fsencode(loader)
    assert len(place) <= len(own)
    (tmp_path / "prog").write_bytes(ECHO.read_bytes().replace(own, place.ljust(len(own), b"\0"), 1))
    (tmp_path / "prog").chmod(0o755)
    script(loader, f"#!/bin/sh\necho > {witness}\n")
    os.chown(loader, NOBODY, NOBODY)
    try:
        said: list[str] = []
        entries = held(image_of("/bin/echo", tmp_path, tmp_path / "prog", said=said))
        assert f"{tmp_path}/prog" in entries
        why = f"names the loader {loader}, which is none of the system's and is not run here"
        assert said == [f"{tmp_path}/prog {why}; it is sent as it is"]
        assert not witness.exists()
    finally:
        loader.unlink()
