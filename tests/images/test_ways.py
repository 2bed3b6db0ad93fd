"""The links by which a program is found: each goes along, and the file is where it is here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heorot.images import offer as offers
from heorot.images.closure import Closure
from heorot.images.identity import ImageError
from heorot.images.offer import offer_command
from heorot.images.ways import MAX_LINKS, way_to
from tests.images.elf_files import laid_out
from tests.support.other_user import acting_as, open_to_all

ENVIRONMENT = [b"PATH=/usr/bin:/bin"]


def way(path: Path) -> tuple[str, dict[str, str]]:
    end, links = way_to(os.fsencode(path))
    return os.fsdecode(end), {os.fsdecode(name): os.fsdecode(target) for name, target in links.items()}


def test_what_is_no_link_is_its_own_end(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert way(tmp_path / "file") == (f"{tmp_path}/file", {})


def test_each_link_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(tmp_path / "a" / ".." / "a" / "three")
    (tmp_path / "a" / "three").symlink_to("file")
    assert way(tmp_path / "one") == (
        f"{tmp_path}/a/file",
        {
            f"{tmp_path}/one": "two",
            f"{tmp_path}/two": f"{tmp_path}/a/../a/three",
            f"{tmp_path}/a/three": "file",
        },
    )


def test_a_directory_that_is_a_link_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "app-1.2" / "bin").mkdir(parents=True)
    (tmp_path / "app-1.2" / "bin" / "prog").touch()
    (tmp_path / "app-1.2" / "up").touch()
    (tmp_path / "app").symlink_to("app-1.2/bin")
    assert way(tmp_path / "app" / "prog") == (
        f"{tmp_path}/app-1.2/bin/prog",
        {f"{tmp_path}/app/prog": f"{tmp_path}/app-1.2/bin/prog"},
    )
    # By its text alone this one would lead to a name beside it.
    (tmp_path / "app-1.2" / "bin" / "away").symlink_to("../up")
    assert way(tmp_path / "app" / "away") == (
        f"{tmp_path}/app-1.2/up",
        {f"{tmp_path}/app/away": f"{tmp_path}/app-1.2/up"},
    )


def test_links_of_the_kernel_are_not_sent(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("/proc/self/exe")
    end = os.path.realpath("/proc/self/exe")
    assert way(tmp_path / "self") == (end, {f"{tmp_path}/self": end})


@pytest.mark.parametrize("length", [1, MAX_LINKS])
def test_links_that_lead_in_a_ring_lead_nowhere(tmp_path: Path, length: int) -> None:
    for number in range(length):
        (tmp_path / str(number)).symlink_to(str((number + 1) % length))
    with pytest.raises(ImageError, match=f"cannot read {tmp_path}/0: Too many levels of symbolic links"):
        way(tmp_path / "0")
    assert offer_command(b"./0", ENVIRONMENT, os.fsencode(tmp_path)) is None


def test_a_chain_as_long_as_the_kernel_follows_is_followed(tmp_path: Path) -> None:
    (tmp_path / str(MAX_LINKS)).touch()
    for number in range(MAX_LINKS):
        (tmp_path / str(number)).symlink_to(str(number + 1))
    assert (tmp_path / "0").exists()
    end, links = way(tmp_path / "0")
    assert (end, len(links)) == (f"{tmp_path}/{MAX_LINKS}", MAX_LINKS)
    assert all(links[f"{tmp_path}/{number}"] == str(number + 1) for number in range(MAX_LINKS))


def test_libraries_are_looked_for_from_where_the_program_is(tmp_path: Path) -> None:
    program = os.fsencode(laid_out(tmp_path))
    closure = Closure(ENVIRONMENT, b"/")
    home = os.fsencode(tmp_path / "home")
    assert closure.add(program) == home + b"/bin/prog"
    assert closure.paths[home + b"/lib/libown.so.1"] == b""
    assert [closure.paths[os.fsencode(tmp_path / name / "prog")] for name in ("bin", "alternatives")] == [
        os.fsencode(tmp_path / "alternatives" / "prog"),
        home + b"/bin/prog",
    ]


def test_a_link_to_what_another_user_keeps_is_said_and_not_sent(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/echo").read_bytes())
    program.chmod(0o711)
    (tmp_path / "link").symlink_to(program)
    said: list[str] = []
    with acting_as():
        assert offer_command(os.fsencode(tmp_path / "link"), ENVIRONMENT, b"/", say=said.append) is None
        with pytest.raises(ImageError, match=r"cannot read .*/program: Permission denied"):
            offer_command(os.fsencode(tmp_path / "link"), ENVIRONMENT, b"/", always_send=True)
    assert said == [f"cannot read {program}: Permission denied; it is not sent: nodes run their own"]


def test_what_was_found_is_forgotten_when_a_link_on_the_way_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(offers, "is_settled", lambda status: True)
    program = os.fsencode(laid_out(tmp_path))

    def image() -> bytes:
        offer = offer_command(program, ENVIRONMENT, b"/")
        assert offer is not None
        assert offer.program == program
        return offer.image

    first = image()
    with monkeypatch.context() as patched:
        patched.setattr(offers, "_save", None)
        assert image() == first
    between = tmp_path / "alternatives" / "prog"
    between.unlink()
    between.symlink_to("/bin/echo")
    assert image() != first
    between.unlink()
    between.symlink_to(tmp_path / "home" / "bin" / "prog")
    assert image() == first
