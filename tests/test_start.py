"""How a command starts: bin/heorot finds Python and Heorot in every layout, quickly, and ends as a program should."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from heorot import first_lines
from tests.support.other_user import open_to_all, setpriv

ROOT = Path(__file__).resolve().parent.parent
SITE_PACKAGES = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
HEAVY = ("argparse", "asyncio", "dataclasses", "inspect", "msgspec", "re", "socket", "subprocess", "typing")
"""Each of these would cost a short command 3 to 50 ms."""
LEFT_OUT_BY_BPSH = ("collections", "datetime", "enum", "msgpack", "signal", "struct")
COMMANDS = {
    "greet": (
        "def main():\n"
        "    import sys\n"
        "    print('hello', *sys.argv[1:], sys.flags.no_site, sys.flags.isolated)\n"
        "    return 7\n"
    ),
    "environment": (
        "def main():\n"
        "    import sys\n"
        "    sys.stdout.buffer.write(open('/proc/self/environ', 'rb').read())\n"
        "    return 0\n"
    ),
    "usage": "def main():\n    raise SystemExit(2)\n",
    "interrupted": "def main():\n    raise KeyboardInterrupt\n",
    "bpsh": "def main():\n    for i in range(100000):\n        print(i)\n    return 0\n",
}


PREFIXES = {"regular": "prefix", "editable": "prefix", "spaces": "a $prefix with \"'\\", "long": "long/" + "p" * 250}


@pytest.fixture(params=PREFIXES)
def prefix(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Lay out an installation as pip and heorot.first_lines would, with commands of the test's own."""
    prefix = tmp_path / PREFIXES[request.param]
    library = prefix / SITE_PACKAGES
    sources = library if request.param != "editable" else tmp_path / "checkout" / "src"
    package = sources / "heorot"
    (package / "cli").mkdir(parents=True)
    library.mkdir(parents=True, exist_ok=True)
    if request.param == "editable":
        (library / "other.pth").write_text("import sys; sys.exit('a line of another .pth file was run')\n")
        (library / "__editable__.heorot-1.2.3.pth").write_text(f"{sources}\n")
    (package / "__init__.py").touch()
    (package / "cli" / "__init__.py").touch()
    (package / "start.py").write_bytes((ROOT / "src/heorot/start.py").read_bytes())
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python3").symlink_to(sys.executable)
    for name, source in COMMANDS.items():
        (package / "cli" / f"{name}.py").write_text(source)
        script = prefix / "bin" / name
        script.write_bytes((ROOT / "bin" / "heorot").read_bytes())
        script.chmod(0o755)
        assert first_lines.rewrite(str(script), f"{prefix}/bin/python3")
    return prefix


def test_no_link_that_others_have_planted_is_followed(tmp_path: Path) -> None:
    script, victim = tmp_path / "heorot", tmp_path / "victim"
    script.write_bytes((ROOT / "bin" / "heorot").read_bytes())
    victim.write_text("precious")
    Path(f"{script}.{os.getpid()}").symlink_to(victim)
    assert first_lines.rewrite(str(script), "/usr/bin/python3")
    assert victim.read_text() == "precious"
    assert not script.is_symlink()
    assert len(list(tmp_path.iterdir())) == 3


def by_shell(prefix: Path) -> bool:
    """Whether the kernel reads no path that is so long, and a shell has to start Python."""
    return len(str(prefix)) > first_lines.MAX_LINE_BYTES


def run(*command: str | Path, where: Path | None = None, path: str = "/usr/bin:/bin") -> tuple[int, str]:
    """Return the status and what the command prints, both streams together."""
    done = subprocess.run(
        command, cwd=where, env={"PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=150
    )
    return done.returncode, done.stdout


def test_found_by_its_path_by_the_search_path_and_through_links(prefix: Path, tmp_path: Path) -> None:
    binaries = prefix / "bin"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other-name").symlink_to(binaries / "greet")
    (tmp_path / "link").symlink_to("elsewhere/other-name")
    greeting = (7, "hello a b 1 1\n")
    assert run(binaries / "greet", "a", "b") == greeting
    assert run("./greet", "a", "b", where=binaries) == greeting
    assert run("../bin/greet", "a", "b", where=binaries) == greeting
    assert run("env", "greet", "a", "b", path=f"{binaries}:/usr/bin:/bin") == greeting
    assert run(tmp_path / "link", "a", "b") == greeting
    gone = tmp_path / "gone"
    gone.mkdir()
    said = run("env", "-C", gone, "sh", "-c", f'rmdir "$PWD"; exec "{tmp_path}/link" a b')
    assert said == greeting or (by_shell(prefix) and said[0] == greeting[0])


def test_arguments_arrive_unchanged(prefix: Path) -> None:
    assert run(prefix / "bin" / "greet", "two words", "", "*", "-I", "--", "$x") == (
        7,
        "hello two words  * -I -- $x 1 1\n",
    )


def test_an_exit_by_exception_keeps_its_status(prefix: Path) -> None:
    assert run(prefix / "bin" / "usage") == (2, "")


def test_an_interrupt_ends_it_silently_by_that_signal(prefix: Path) -> None:
    assert run(prefix / "bin" / "interrupted") == (-signal.SIGINT, "")


def test_a_reader_that_goes_away_ends_it_silently_by_that_signal(prefix: Path) -> None:
    with subprocess.Popen([prefix / "bin" / "bpsh"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.readline() == b"0\n"
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == -signal.SIGPIPE


def test_all_output_is_written(prefix: Path) -> None:
    assert run(prefix / "bin" / "bpsh")[1].count("\n") == 100_000


def test_every_command_is_this_one_script_and_installed() -> None:
    names = sorted(os.listdir(ROOT / "bin"))
    assert "bpsh" in names
    for name in names:
        assert (ROOT / "bin" / name).read_bytes() == (ROOT / "bin" / "heorot").read_bytes()
        module = f"src/heorot/{'daemons' if name in ('bphead', 'bpnode', 'bpinit') else 'cli'}/{name}.py"
        assert (ROOT / module).exists(), f"bin/{name} has no module {module}"
        installed = Path(sys.executable).parent / name
        body = (ROOT / "bin" / "heorot").read_bytes().partition(b"\n")[2]
        line = first_lines.first_lines(str(installed.parent / "python3"))
        assert installed.read_bytes() == line + body, "run make venv"
    assert names == sorted(first_lines.COMMANDS)


ODD_ENVIRONMENT = {
    b"PATH": b"/usr/bin:/bin",
    b"a.b": b"1",
    b"c-d": b"2",
    b"BASH_FUNC_f%%": b"() {  echo hi\n}",
    b"\xff": b"\xfe=\x01",
    b"OPTIND": b"x",
    b"IFS": b"y",
    b"PPID": b"z",
}


def test_the_environment_reaches_python_as_it_is(prefix: Path) -> None:
    environment = {b"PWD": b"/"} if by_shell(prefix) else ODD_ENVIRONMENT
    done = subprocess.run([prefix / "bin" / "environment"], cwd="/", env=environment, capture_output=True, timeout=150)
    assert done.stdout == b"".join(b"%s=%s\0" % item for item in environment.items())


def test_a_longer_first_line_than_the_kernel_reads_is_left_to_a_shell() -> None:
    assert first_lines.first_lines("/v/bin/python3", 24) == b"#!/v/bin/python3 -IS\n"
    assert first_lines.first_lines("/v/bin/python3", 20).startswith(b"#!/bin/sh\n")
    with pytest.raises(ValueError, match="line break"):
        first_lines.first_lines("/v\n/bin/python3")


def test_a_command_as_pip_leaves_it_works_without_what_pythonpath_names(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    package = prefix / SITE_PACKAGES / "heorot"
    (package / "cli").mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "pyvenv.cfg").write_text(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    (prefix / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    for name in ("__init__", "cli/__init__"):
        (package / f"{name}.py").touch()
    (package / "start.py").write_bytes((ROOT / "src/heorot/start.py").read_bytes())
    (package / "cli" / "greet.py").write_text(COMMANDS["greet"])
    script = prefix / "bin" / "greet"
    body = (ROOT / "bin" / "heorot").read_bytes().partition(b"\n")[2]
    script.write_bytes(b"#!%s\n" % os.fsencode(prefix / "bin" / "python3") + body)
    script.chmod(0o755)
    shutil.copytree(package, tmp_path / "other" / "heorot")
    (tmp_path / "other" / "heorot" / "start.py").write_text("raise SystemExit('of PYTHONPATH')\n")
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:{tmp_path}/other"}
    done = subprocess.run([script, "a"], env=environment, capture_output=True, text=True, timeout=150)
    assert (done.returncode, done.stdout) == (7, "hello a 0 0\n"), done.stderr


def test_a_python_that_others_cannot_run_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copy("/bin/true", closed / "python3")
    (tmp_path / "python3").symlink_to(closed / "python3")
    open_to_all(tmp_path)
    said = first_lines.unreachable(str(tmp_path / "python3"))
    assert f"({closed}/python3): {closed} is closed to them" in said
    script = tmp_path / "command"
    script.write_bytes(first_lines.first_lines(str(tmp_path / "python3")))
    script.chmod(0o755)
    status, output = run(*setpriv(), "sh", "-c", f"{script}; exit $?")
    assert status == 126
    assert "Permission denied" in output
    closed.chmod(0o755)
    assert first_lines.unreachable(str(tmp_path / "python3")) == ""
    assert run(*setpriv(), script) == (0, "")


def test_pip_writes_the_interpreter_into_the_commands_of_a_wheel(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE", "bin", "man", "completions", "plugins", "systemd"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "src" / "heorot").mkdir(parents=True)
    shutil.copy(ROOT / "src" / "heorot" / "__init__.py", tmp_path / "src" / "heorot")
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True, timeout=150)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        scripts = [name for name in archive.namelist() if ".data/scripts/" in name]
        assert sorted(name.rpartition("/")[2] for name in scripts) == sorted(first_lines.COMMANDS)
        for name in scripts:
            # What the specification of wheels tells installers to replace. pip drops the options with it.
            assert archive.read(name).startswith(b"#!python -IS\n")


@pytest.mark.parametrize("name", ["bpsh", "bprsh", "bpstat", "bpps", "bpkill", "bpjob"])
@pytest.mark.parametrize("arguments", [["--version"], ["n0", "true"]], ids=" ".join)
def test_a_short_command_loads_nothing_heavy(name: str, arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-IS", str(Path(sys.executable).parent / name)]
    done = subprocess.run(
        command + arguments,
        env={"HEOROT_DIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert f"heorot.cli.{name}" in loaded
    # `signal` brings enum in: bpkill needs the names of signals, bpsh does not. Tables need more than bpsh does.
    assert not loaded.intersection(HEAVY + (LEFT_OUT_BY_BPSH if name in ("bpsh", "bprsh") else ()))
