"""The fixture of `tests.leaks` catches what it promises to catch, and nothing else."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.inner import run_inner

INNER = """
    import os, socket, subprocess, tempfile, threading, pytest

    keep = []

    def test_good_all_cleaned_up(tmp_path):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s"))
        os.unlink(tmp_path / "s")
        (tmp_path / "file").write_text("pytest removes it")
        subprocess.run(["true"], check=True)
        thread = threading.Thread(target=lambda: None)
        thread.start()

    def test_bad_child():
        keep.append(subprocess.Popen(["sleep", "61.5"]))

    def test_bad_orphan_in_its_own_session():
        pid = subprocess.check_output("setsid sleep 62.5 >/dev/null 2>&1 & echo $!", shell=True, text=True).strip()
        while not open(f"/proc/{pid}/cmdline").read().startswith("sleep"):
            os.sched_yield()

    def test_bad_child_without_environment():
        keep.append(subprocess.Popen(["sleep", "63.5"], env={}))

    def test_bad_zombie():
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        keep.append(child)

    def test_bad_descriptor():
        keep.append(open("/dev/null"))

    def test_good_descriptor_in_a_cycle():
        class Cycle: pass
        cycle = Cycle()
        cycle.me, cycle.descriptor = cycle, socket.socket()
        cycle.descriptor.close()

    def test_bad_thread():
        stop = threading.Event()
        keep.append(stop)
        threading.Thread(target=stop.wait, name="lazy", daemon=True).start()

    def test_bad_socket(tmp_path):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s"))

    def test_bad_temporary_file():
        keep.append(tempfile.mkdtemp(prefix="forgotten"))

    def test_bad_shared_file():
        open("/dev/shm/heorot-leak-%d" % os.getpid(), "w").close()

    def test_good_after_the_bad_ones():
        os.unlink("/dev/shm/heorot-leak-%d" % os.getpid())

    @pytest.fixture(scope="module")
    def daemon():
        child = subprocess.Popen(["sh", "-c", "while read line; do sleep 64.5 & done"], stdin=subprocess.PIPE)
        yield child
        child.stdin.close()
        child.wait()

    def test_good_uses_a_daemon_of_the_module(daemon):
        daemon.stdin.write(b"leave one behind\\n")
        daemon.stdin.flush()
        while not open(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read().strip():
            os.sched_yield()
"""

AS_ROOT = """
    import os, subprocess

    def test_bad_mount(tmp_path):
        subprocess.run(["mount", "-t", "tmpfs", "heorot-leak", str(tmp_path)], check=True)

    def test_good_after_the_mount():
        points = [line.split()[4] for line in open("/proc/self/mountinfo") if " heorot-leak " in line]
        subprocess.run(["umount", *points], check=True)

    def test_bad_network_namespace():
        subprocess.run(["ip", "netns", "add", "heorot-leak-%d" % os.getpid()], check=True)

    def test_good_after_the_namespace():
        subprocess.run(["ip", "netns", "delete", "heorot-leak-%d" % os.getpid()], check=True)
"""


def outcomes(output: str) -> tuple[set[str], set[str]]:
    """Return the names of all tests and of those that had an error in their end."""
    return set(re.findall(r"::(test_\w+) PASSED", output)), set(re.findall(r"::(test_\w+) ERROR", output))


def command_line(pid: int) -> bytes:
    """Return the arguments of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run_inner(tmp_path_factory.mktemp("inner"), INNER)


def test_exactly_the_bad_tests_are_caught(output: str) -> None:
    run, caught = outcomes(output)
    # The last test is caught as well, for its module: a daemon of the module has left a process behind.
    assert caught - {"test_good_uses_a_daemon_of_the_module"} == {name for name in run if name.startswith("test_bad")}
    assert len(run) == 13


@pytest.mark.parametrize(
    "line",
    [
        r"process \d+, parent \d+: sleep 61\.5",
        r"process \d+, parent \d+: sleep 62\.5",
        r"process \d+, parent \d+: sleep 63\.5",
        r"process \d+, parent \d+: sleep 64\.5",
        r"process \d+, parent \d+: \(ended, but its parent did not wait for it\)",
        r"descriptor \d+ -> /dev/null",
        r"thread lazy",
        r"socket /\S+/s",
        r"file /tmp/ht\.[\w.]+/ht\.\w+/forgotten\w+",
        r"file /dev/shm/heorot-leak-\d+",
    ],
)
def test_says_what_was_left(output: str, line: str) -> None:
    assert re.search(rf"^E? +{line}$", output, re.MULTILINE), output


def test_the_leaked_processes_are_killed(output: str) -> None:
    pids = {int(pid) for pid in re.findall(r"process (\d+), parent \d+: sleep", output)}
    assert len(pids) == 4
    # A zombie whose parent is init is as good as gone: its command line is empty.
    assert not [pid for pid in pids if command_line(pid)]


def test_mounts_and_network_namespaces_are_caught(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test needs root, as .ci/run has")
    output = run_inner(tmp_path, AS_ROOT)
    run, caught = outcomes(output)
    assert caught == {"test_bad_mount", "test_bad_network_namespace"}
    assert len(run) == 4
    assert re.search(r"mount /\S+", output)
    assert re.search(r"network namespace heorot-leak-\d+", output)
