"""How a command starts: bin/heorot finds Python and Heorot in every layout, quickly, and ends as a program should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
    "usage": "def main():\n    raise SystemExit(2)\n",
    "interrupted": "def main():\n    raise KeyboardInterrupt\n",
    "bpsh": "def main():\n    for i in range(100000):\n        print(i)\n    return 0\n",
}


@pytest.fixture(params=["regular", "editable"])
def prefix(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Lay out an installation as pip would, with commands of the test's own instead of the real ones."""
    prefix = tmp_path / "a prefix"
    library = prefix / SITE_PACKAGES
    sources = library if request.param == "regular" else tmp_path / "checkout" / "src"
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
    return prefix


def run(*command: str | Path, where: Path | None = None, path: str = "/usr/bin:/bin") -> tuple[int, str]:
    """Return the status and what the command prints, both streams together."""
    done = subprocess.run(
        command, cwd=where, env={"PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
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
    assert run("sh", "greet", "a", "b", where=binaries) == greeting
    assert run("env", "greet", "a", "b", path=f"{binaries}:/usr/bin:/bin") == greeting
    assert run(tmp_path / "link", "a", "b") == greeting


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
        assert installed.read_bytes() == (ROOT / "bin" / "heorot").read_bytes(), "run make venv"


@pytest.mark.parametrize("name", ["bpsh", "bpstat", "bpps", "bpkill", "bpjob"])
@pytest.mark.parametrize("arguments", [["--version"], ["n0", "true"]], ids=" ".join)
def test_a_short_command_loads_nothing_heavy(name: str, arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-IS", str(Path(sys.executable).parent / name)]
    done = subprocess.run(
        command + arguments,
        env={"HEOROT_DIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert f"heorot.cli.{name}" in loaded
    # `signal` brings enum in: bpkill needs the names of signals, bpsh does not. Tables need more than bpsh does.
    assert not loaded.intersection(HEAVY + (LEFT_OUT_BY_BPSH if name == "bpsh" else ()))
