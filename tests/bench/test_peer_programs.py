"""What peers start: counted, limited, and ended with all that came of it; by real processes, none of them a peer's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from bench.peers import install, processes
from bench.peers.hydra import Hydra
from bench.peers.install import Wheels
from bench.peers.mitogen import Mitogen
from bench.peers.pdsh import Pdsh
from bench.peers.peer import ROOT, DrivenPeer, PeerError, Place
from bench.peers.results import Attempt
from bench.peers.slurm import free_ports
from tests.support.waiting import DEADLINE_S, await_that

ORPHANS = """
import os
from bench.peers import processes
processes.adopt()
up, told = os.pipe()
for number in range(3):
    if os.fork() == 0:
        os.setsid()
        os.dup2(told, 1)
        if os.fork() == 0:
            os.execv("/bin/sh", ["sh", "-c", "trap '' TERM; printf x; while :; do sleep 1000; done"])
        os._exit(0)
for number in range(3):
    os.read(up, 1)
before = len(processes.descendants())
processes.GRACE_S = 0.5
print("left", processes.end_all(), processes.descendants(), before >= 3, flush=True)
"""
DRIVER = """
import os, sys
from bench.peers.drivers import serve
def run(argv):
    print("noise")
    if argv[0] == "raise":
        raise RuntimeError("no such thing")
    if argv[0] == "exit":
        print("last words", file=sys.stderr)
        os._exit(3)
    return [(int(argv[0]), 10), (0, 10)]
serve([[1], [2]], run, lambda source, target: len(str(source)))
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_run_is_counted_and_its_status_kept() -> None:
    ran = processes.timed(["/bin/sh", "-c", "printf 12345; echo why >&2; exit 3"], environment(), DEADLINE_S)
    assert (ran.status, ran.received_bytes, ran.said) == (3, 5, "why")
    assert ran.elapsed_s > 0


def test_output_larger_than_a_pipe_comes_whole() -> None:
    ran = processes.timed(["/bin/sh", "-c", "head -c 3000000 /dev/zero & wait"], environment(), DEADLINE_S)
    assert (ran.status, ran.received_bytes) == (0, 3_000_000)


def test_what_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! $$ >{pids}; printf x; wait"
    ran = processes.timed(["/bin/sh", "-c", script], environment(), 2.0)
    assert ran.status is None
    for pid in pids.read_text().split():
        await_that(lambda pid=pid: not is_running(int(pid)), f"{pid} is gone")  # type: ignore[misc]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_orphans_that_do_not_want_to_end_are_found_and_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "left [] [] True", done.stderr


class Driven(DrivenPeer):
    key, name, how = "driven", "Driven", "`driven`"
    script = DRIVER

    def program(self) -> list[str]:
        return [sys.executable, "-c", self.script]


def results(peer: Driven, orders: Iterable[tuple[list[str], int]]) -> list[tuple[str, str]]:
    attempts: list[Attempt] = [peer.run(argv, expected) for argv, expected in orders]
    return [(attempt.problem, attempt.said.rpartition("\n")[2]) for attempt in attempts]


def test_a_library_is_driven_by_orders_and_what_goes_wrong_is_told(tmp_path: Path) -> None:
    peer = Driven()
    try:
        peer.begin(2, Place(tmp_path / "driven", sys.executable))
        assert peer.daemon_pids() == [[1], [2]]
        assert results(peer, [(["0"], 20), (["0"], 21), (["1"], 20), (["raise"], 20)]) == [
            ("", ""),
            ("20 of 21 bytes came", ""),
            ("1 of 2 nodes did it", ""),
            ("raised RuntimeError", "RuntimeError: no such thing"),
        ]
        assert peer.copy(Path("ab"), Path("c")).problem == ""
        assert peer.copy(Path("a"), Path("c")).problem == "1 of 2 nodes did it"
        assert results(peer, [(["exit"], 20), (["0"], 20)]) == [("its program ended", "last words")] * 2
    finally:
        peer.stop()
    assert peer.running == []


def test_a_library_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    peer = Driven()
    peer.script = "raise SystemExit('no workers')"
    with pytest.raises(PeerError, match="its program ended") as raised:
        peer.begin(2, Place(tmp_path / "driven", sys.executable))
    peer.stop()
    assert raised.value.said == "no workers"


class StandInPip(Wheels):
    """Fails for all at once, and for all but one by itself; or for none."""

    def __init__(self, directory: Path, constraints: Path, works: bool) -> None:
        super().__init__(directory, constraints)
        self.asked: list[str] = []
        self.works = works

    def _run(self, say: install.Say, *argv: str) -> bool:
        self.directory.mkdir(exist_ok=True)
        if "-r" in argv:
            self.asked.append(Path(argv[argv.index("-r") + 1]).read_text().strip())
        return self.works or "-r" not in argv or self.asked[-1].startswith("one")


def test_a_wheel_that_is_not_to_be_had_does_not_take_the_others_along(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    content = (
        "# made by hand\ntwo==2 \\\n    --hash=sha256:22 \\\n    --hash=sha256:23\none==1 \\\n    --hash=sha256:11\n"
    )
    constraints.write_text(content)
    wheels = StandInPip(tmp_path / "venv", constraints, works=False)
    wheels.install(lambda text: None)
    singly = ["two==2 --hash=sha256:22 --hash=sha256:23", "one==1 --hash=sha256:11"]
    assert wheels.asked == [content.strip(), *singly]
    wheels.install(lambda text: None)
    assert len(wheels.asked) == 2 * 3, "what is not complete is tried again"


def test_wheels_that_are_there_are_not_installed_again_until_they_change(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("one==1\n")
    wheels = StandInPip(tmp_path / "venv", constraints, works=True)
    for _ in range(2):
        wheels.install(lambda text: None)
    assert wheels.asked == ["one==1"]
    constraints.write_text("one==2\n")
    wheels.install(lambda text: None)
    assert wheels.asked == ["one==1", "one==2"]


def test_a_peer_that_is_not_installed_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wheels = Wheels(tmp_path / "venv")
    assert install.absent(Pdsh(), wheels) == "not installed: Debian's pdsh"
    assert install.absent(Mitogen(), wheels) == "not installed: the wheel mitogen"
    (tmp_path / "pdsh").write_text("#!/bin/sh\n")
    (tmp_path / "pdsh").chmod(0o755)
    package = tmp_path / "venv" / "lib" / "python3.11" / "site-packages" / "mitogen"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    package.with_name("mitogen-1.2.3.dist-info").mkdir()
    assert (install.absent(Pdsh(), wheels), install.absent(Mitogen(), wheels)) == ("", "")
    assert wheels.version("mitogen") == "1.2.3"


def test_packages_are_installed_together_and_each_by_itself_if_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    other = type("Other", (Pdsh,), {"commands": (("no-such-command", "others-package"),)})()
    gone = type("Gone", (Pdsh,), {"commands": (("no-such-pdsh", "pdsh"), ("no-such-too", "pdsh"))})()
    log, setup = tmp_path / "log", tmp_path / "setup"
    setup.write_text(f'#!/bin/sh\necho "$@" >>{log}\nexit 1\n')
    setup.chmod(0o755)
    install.install_packages([other, gone], setup)
    assert log.read_text().splitlines() == [
        "packages others-package pdsh",
        "packages others-package",
        "packages pdsh",
    ]


def test_every_wheel_is_pinned_with_its_hashes_and_without_an_address() -> None:
    pins = install.pins(install.CONSTRAINTS)
    assert all("==" in line and "--hash=sha256:" in line for line in pins)
    assert {"mitogen", "distributed", "mpich"} <= {line.partition("==")[0] for line in pins}
    assert "://" not in install.CONSTRAINTS.read_text()


def test_hydras_agent_runs_what_ssh_would_run_on_the_host(tmp_path: Path) -> None:
    peer = Hydra()
    peer.begin(1, Place(tmp_path / "hydra", "/venv/bin/python"))
    argv = peer.argv(["/bin/true"])
    agent = argv[argv.index("-launcher-exec") + 1]
    command = [agent, "-x", "n0", '"/bin/echo"', "two", "'a  b'"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S).stdout == "two a  b\n"


def test_ports_lie_beside_each_other() -> None:
    assert free_ports(3) + 3 <= 32000


PDSH = """#!/bin/sh
case "$*" in
*-V*) echo "pdsh-2.34 (+debug)"; exit ;;
*cat*) exec cat "$(for word; do :; done; echo "$word")" ;;
esac
[ ! -e {hang} ] || {{ echo $$ >{hang}; sleep 1000; }}
"""


def bench(directory: Path, *arguments: str) -> list[str]:
    """The command, with nothing on its PATH but what is given here; its environment."""
    (directory / "bin").mkdir()
    (directory / "bin" / "pdsh").write_text(PDSH.format(hang=directory / "hang"))
    (directory / "bin" / "pdsh").chmod(0o755)
    for name in ("sh", "cat", "sleep", "cp"):
        (directory / "bin" / name).symlink_to(f"/bin/{name}")
    common = ["--peers", "floor,pdsh,clush", "--nodes", "1", "--rounds", "1", "--out", str(directory / "out")]
    return [sys.executable, "-m", "bench", "peers", *common, *arguments]


def only(directory: Path) -> dict[str, str]:
    return {**os.environ, "PATH": str(directory / "bin")}


def test_the_table_is_made_of_what_is_here_and_says_what_is_not(tmp_path: Path) -> None:
    done = subprocess.run(
        bench(tmp_path), env=only(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "not installed: Debian's clustershell" in lines["clush"]
    assert "apt-get install --yes --no-install-recommends clustershell" in done.stderr
    rows = {row["key"]: row for row in json.loads((tmp_path / "out" / "peers.json").read_text())["rows"]}
    assert set(rows["floor"]["median_s"]) == {"true-1", "output-1", "copy-new-1", "copy-again-1"}
    assert set(rows["pdsh"]["median_s"]) == {"true-1", "output-1"}
    assert rows["clush"]["attempts"] == {}
    assert rows["pdsh"]["version"] == "2.34"


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    hang = tmp_path / "hang"
    hang.touch()
    process = subprocess.Popen(
        bench(tmp_path), env=only(tmp_path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        pid = int(await_that(lambda: hang.read_text().strip(), "pdsh runs"))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert "interrupted; everything that was started is ended" in said
    assert not is_running(pid)
    rows = json.loads((tmp_path / "out" / "peers.json").read_text())["rows"]
    assert [row["key"] for row in rows] == ["floor", "pdsh", "clush"], "what was measured before is kept"
