"""Tests start from what they set themselves, see only what is theirs, and end."""

from __future__ import annotations

import os
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.inner import run_inner, start_inner

ODD = """
import os, resource, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGWINCH, signal.SIGTERM})
os.umask(0o077)
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 20000))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
os.close(0)
os.execv(sys.argv[1], sys.argv[1:])
"""

PLAIN = """
    import os, resource, subprocess, sys

    def signals(line):
        text = subprocess.run(["grep", line, "/proc/self/status"], check=True, capture_output=True, text=True).stdout
        # 32 and 33 are those of the C library itself, which lets nobody set them.
        return int(text.split()[1], 16) & ~(1 << 31 | 1 << 32)

    def test_no_signal_is_ignored_or_blocked():
        assert (signals("SigIgn"), signals("SigBlk")) == (0, 0)

    def test_new_files_can_be_read_by_all(tmp_path):
        (tmp_path / "file").touch()
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644

    def test_limits():
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 16384
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY

    def test_stdin_is_there_and_empty():
        assert subprocess.run(["cat"], check=True, capture_output=True).stdout == b""

    def test_the_environment_is_known():
        names = set(os.environ) - {name for name in os.environ if name.startswith(("HEOROT_TEST", "PYTEST_"))}
        assert names <= {"PATH", "PYTHON", "VIRTUAL_ENV", "HOME", "LANG", "LOGNAME", "SHELL", "TMPDIR", "USER"}
        assert os.listdir(os.environ["HOME"]) == []
"""


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "in a worker"])
def test_nothing_odd_is_inherited(options: tuple[str, ...], tmp_path: Path) -> None:
    odd = {"HEOROT_DIR": "/nowhere", "LC_ALL": "tr_TR", "http_proxy": "http://127.0.0.1:1", "BPROC_RANK": "7"}
    wrapper = [sys.executable, "-c", ODD]
    assert "5 passed" in run_inner(tmp_path, PLAIN, *options, status=0, wrapper=wrapper, environment=odd)


def test_an_ignored_hang_up_does_not_end_the_tests(tmp_path: Path) -> None:
    source = """
        import os, signal

        def test_goes_on():
            os.kill(os.getpid(), signal.SIGHUP)
    """
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    run_inner(tmp_path, source, status=0, wrapper=[sys.executable, "-c", ignoring])


OTHERS = """
    import os

    def test_beside_another_cluster(tmp_path):
        open({ready!r}, "w").close()
        with open({made!r}) as made:
            made.read()
"""


@pytest.mark.parametrize("directory", ["/run", "/dev/shm"])
def test_what_others_make_meanwhile_is_not_blamed_on_a_test(directory: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test needs root, as .ci/run has")
    ready, made = tmp_path / "ready", tmp_path / "made"
    os.mkfifo(ready)
    os.mkfifo(made)
    foreign = Path(directory) / f"heorot-of-somebody-else-{os.getpid()}"
    with start_inner(tmp_path, OTHERS.format(ready=str(ready), made=str(made))) as inner:
        try:
            with open(ready) as file:
                file.read()
            foreign.mkdir()
            with open(made, "w"):
                pass
            output, _ = inner.communicate(timeout=150)
        finally:
            inner.kill()
            with suppress(FileNotFoundError):
                foreign.rmdir()
    assert inner.returncode == 0, output


def test_a_port_that_another_run_has_taken_is_free(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test needs root, as .ci/run has")
    source = """
        import socket

        def test_takes_the_port():
            socket.create_server(("127.0.0.1", {port})).close()
            socket.create_server(("::1", {port}), family=socket.AF_INET6).close()
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run_inner(tmp_path, source.format(port=taken.getsockname()[1]), status=0)


ENDLESS = """
    import signal, subprocess, threading, pytest

    @pytest.mark.time_limit(2)
    def test_waits_for_a_program():
        try:
            subprocess.run(["sleep", "1000"])
        except Exception:
            pass

    def wait_in_a_function():
        threading.Event().wait()

    @pytest.mark.time_limit(2)
    def test_waits_for_a_thread():
        wait_in_a_function()

    @pytest.fixture
    def slow():
        threading.Event().wait()

    @pytest.mark.time_limit(2)
    def test_waits_in_a_fixture(slow):
        pass

    def test_is_quick():
        pass
"""


def test_a_test_without_end_is_ended_and_named(tmp_path: Path) -> None:
    output = run_inner(tmp_path, ENDLESS)
    assert "2 failed, 1 passed, 1 error" in output
    assert "test_inner.py::test_waits_for_a_program: call not over after 2 s" in output
    assert re.search(r"\n.*  \d+ \d+ [A-Z] \S+ sleep 1000", output)
    assert "test_inner.py::test_waits_in_a_fixture: setup not over after 2 s" in output
    assert re.search(r"File .* in wait_in_a_function", output)


def test_a_test_that_cannot_be_interrupted_ends_its_process(tmp_path: Path) -> None:
    source = """
        import signal, threading, pytest

        @pytest.mark.time_limit(0.5)
        def test_is_deaf():
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            threading.Event().wait()

        def test_is_quick():
            pass
    """
    output = run_inner(tmp_path, source, "-n", "1", environment={"HEOROT_TEST_MERCY_S": "1"})
    assert re.search(r"Timeout.*!\n(.*\n)*.* in test_is_deaf", output)
    assert re.search(r"worker '\w+' crashed while running 'test_inner.py::test_is_deaf'", output)
    assert "1 failed, 1 passed" in output
