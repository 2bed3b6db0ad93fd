"""The environment of a rank is the one of the command that started it, byte for byte, and Heorot's own variables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.local_cluster import ROOT, LocalCluster

OURS = (b"HEOROT_", b"BPROC_", b"NODES=")
ODD = {
    b"a.b": b"1",
    b"c-d": b"2",
    b" ": b"a name that is a space",
    b"BASH_FUNC_f%%": b"() {  echo hi\n}",
    b"\xff": b"\xfe=\x01\r\n",
    b"EMPTY": b"",
    b"OPTIND": b"x",
    b"IFS": b":",
    b"PPID": b"1",
    b"SHLVL": b"7",
    b"_": b"underscore",
    b"PWD": b"/somewhere/else",
}


def variables(text: bytes) -> list[bytes]:
    """Return what ``env -0`` has printed, in order, without Heorot's own."""
    return sorted(entry for entry in text.split(b"\0") if entry and not entry.startswith(OURS))


@pytest.mark.parametrize(
    "more",
    [{}, ODD, {b"LANG": b"C"}, {b"LC_CTYPE": b"POSIX"}, {b"LC_CTYPE": b"C.UTF-8"}, {b"LC_ALL": b"C"}],
    ids=["none", "odd", "LANG", "LC_CTYPE", "same", "LC_ALL"],
)
def test_it_goes_along_byte_for_byte(cluster: LocalCluster, more: Mapping[bytes, bytes]) -> None:
    given = {b"HEOROT_DIR": bytes(cluster.directory), **more}
    here = subprocess.run(["/usr/bin/env", "-0"], env=given, capture_output=True, check=True).stdout
    assert len(variables(here)) == len(more)
    there = cluster.bpsh("n0", "/usr/bin/env", "-0", env=given)
    assert variables(there.stdout) == variables(here), there.stderr


def test_functions_that_bash_has_exported_go_along(cluster: LocalCluster) -> None:
    result = cluster.run("bash", "-c", 'f() { echo "hi $1"; }; export -f f; bpsh n0 bash -c "f there"')
    assert (result.stdout, result.stderr) == (b"hi there\n", b"")


def test_no_shell_speaks_in_a_directory_that_is_gone(cluster: LocalCluster) -> None:
    result = cluster.run("bash", "-c", 'd=$(mktemp -d); cd "$d"; rmdir "$d"; bpstat')
    assert (result.returncode, result.stderr) == (0, b"")


LIBRARY = """
import os, sys
{before}
import heorot
{after}
with heorot.connect() as cluster:
    sys.stdout.buffer.write(cluster.run(["/usr/bin/env", "-0"], 0).stdout[0])
"""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "", [b"a.b=1"]),
        ("", "os.environ['b.c'] = '2'; del os.environ['a.b']", [b"b.c=2"]),
        ("", "del os.environ['LC_CTYPE']", [b"a.b=1"]),
        ("", "os.environ['LC_CTYPE'] = 'C.' + 'UTF-8'.upper()", [b"LC_CTYPE=C.UTF-8", b"a.b=1"]),
        ("os.environ['LC_CTYPE'] = 'de_DE.UTF-8'", "", [b"LC_CTYPE=de_DE.UTF-8", b"a.b=1"]),
        ("assert os.environ.pop('LC_CTYPE') == 'C.UTF-8'", "", [b"a.b=1"]),
    ],
    ids=["unchanged", "changed", "removed", "set", "set before", "removed before"],
)
def test_the_library_sends_what_the_program_has_set_and_not_what_python_has(
    cluster: LocalCluster, before: str, after: str, expected: list[bytes]
) -> None:
    program = LIBRARY.format(before=before, after=after)
    given = {"HEOROT_DIR": str(cluster.directory), "a.b": "1"}
    start = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
    done = subprocess.run([sys.executable, "-c", start + program], env=given, capture_output=True, timeout=150)
    assert variables(done.stdout) == expected, done.stderr


def test_a_program_that_writes_a_title_over_its_environment_sends_it_all_the_same(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    # As setproctitle(3) of BSD and its likes for Linux do: the kernel then shows the title where the variables were.
    before = (
        "import ctypes\n"
        "with open('/proc/self/stat', 'rb') as file:\n"
        "    start, end = map(int, file.read().rpartition(b')')[2].split()[47:49])\n"
        "ctypes.memset(start, ord('t'), end - start - 1)\n"
        "assert set(open('/proc/self/environ', 'rb').read()) == {ord('t'), 0}\n"
    )
    program = LIBRARY.format(before=before, after="")
    given = {"HEOROT_DIR": str(cluster.directory), "a.b": "1", "LANG": "C.UTF-8"}
    start = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
    done = subprocess.run([sys.executable, "-c", start + program], env=given, capture_output=True, timeout=150)
    assert variables(done.stdout) == [b"LANG=C.UTF-8", b"a.b=1"], done.stderr
