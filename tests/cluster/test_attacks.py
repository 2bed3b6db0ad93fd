"""What a user tries who wants to be root on a node: with a client of their own, as a second, real user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, cluster
from tests.support.other_user import BECOME, NOBODY, as_user_options, open_to_all

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a second user needs root")


@pytest.fixture(scope="module")
def made() -> Iterator[Cluster]:
    with cluster(2) as running:
        open_to_all(running.directory.parent)
        yield running


@pytest.fixture
def victim() -> Iterator[Path]:
    """A directory of root's, which others may look into."""
    with tempfile.TemporaryDirectory(prefix="victim.") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the user's."""
    name = tempfile.mkdtemp(prefix="home.")
    os.chown(name, NOBODY, NOBODY)
    yield Path(name)
    shutil.rmtree(name)


CLIENT = """
import os, sys
import heorot, heorot.client.launch
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.images.manifest import Entry, Manifest, encode_manifest, image_id
from heorot.images.collecting import digest_file
from heorot.images.offer import Offer
directory, program, victim, zone = sys.argv[1:]
connection = heorot.connect(directory)
become(65534)
connection.close()
digest, status = digest_file(program.encode())
zone = zone.encode()
encoded = encode_manifest(Manifest([
    Entry(program.encode(), FILE, 0o755, digest.size, digest.digests),
    Entry(zone, SYMLINK, 0o777, target=victim.encode()),
    Entry(zone + b"/planted", SYMLINK, 0o777, target=os.path.dirname(program).encode() + b"/evil.so"),
    Entry(zone + b"/f", FILE, 0o755),
    Entry(zone + b"/d/sub", DIRECTORY, 0o755),
], program.encode()))
heorot.client.launch.offer_command = lambda *a, **k: Offer(image_id(encoded), program.encode(), b"", encoded)
with heorot.connect(directory) as connection:
    try:
        print(connection.run([program], nodes="n0", directory="/").statuses)
    except heorot.HeorotError as error:
        print(error)
"""


def test_no_name_of_an_image_leads_root_elsewhere(made: Cluster, victim: Path, home: Path) -> None:
    program = home / "x.sh"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    command = [sys.executable, "-c", BECOME + CLIENT, str(made.directory), str(program), str(victim), "/usr/zz-heorot"]
    done = subprocess.run(command, env=made.environment, capture_output=True, text=True, timeout=150, check=True)
    assert "which is no directory" in done.stdout, done
    assert list(victim.iterdir()) == []
    assert not os.path.lexists("/usr/zz-heorot")
    assert made.check("bpsh", "n0", "/bin/echo", "well") == b"well\n"


def as_user(made: Cluster, *words: str | Path) -> str:
    """Run a command as the user, and return what it says."""
    how = {"env": made.environment, "cwd": "/", "text": True, "timeout": 60, **as_user_options(NOBODY)}
    done: subprocess.CompletedProcess[str] = subprocess.run(words, capture_output=True, **how)
    return done.stdout


def test_a_user_writes_and_reads_nothing_of_the_cluster_s_directory(made: Cluster, home: Path) -> None:
    program = home / "program"
    program.write_bytes(Path("/bin/echo").read_bytes() + b"sent")
    program.chmod(0o755)
    assert made.check("bpsh", "-a", "--image", "send", program, "x") == b"x\n" * 2
    made.check("bpsh", "--detach", "-a", "/bin/sh", "-c", "head -c 3000000 /dev/zero; sleep 1000")
    everything = list(made.directory.rglob("*"))
    assert len(everything) > 50
    writable = as_user(made, "/usr/bin/find", made.directory, "-writable", "!", "-type", "l", "-printf", "%f\\n")
    assert set(writable.split()) <= {"head.sock", "warden.sock"}
    readable = as_user(made, "/usr/bin/find", made.directory, "-type", "f", "-readable", "-printf", "%P\\n")
    assert "cache" not in readable
    assert "key" not in readable
    for node in made.status()["nodes"]:
        pid = node["init_pid"]
        assert as_user(made, "/bin/ls", f"/proc/{pid}/fd", f"/proc/{pid}/cwd/") == ""


@pytest.mark.parametrize("image", ["path", "send"])
def test_a_user_s_process_opens_its_own_streams(made: Cluster, image: str) -> None:
    script = "cat /dev/stdin; echo out > /dev/stdout; echo err | tee /dev/stderr >/dev/null"
    command = [sys.executable, "-c", BECOME + STREAMS, str(made.directory), image, script]
    done = subprocess.run(command, env=made.environment, capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout == "[b'in\\nout\\n'] [b'err\\n'] [0]\n", done


STREAMS = """
import os, sys
import heorot
with heorot.connect(sys.argv[1]) as connection:
    # All that is imported late is imported by now: the user may not read root's Python.
    connection.run(["/bin/true"], nodes="n0", directory="/", image=sys.argv[2])
become(65534)
with heorot.connect(sys.argv[1]) as connection:
    done = connection.run(["/bin/sh", "-c", sys.argv[3]], nodes="n0", input=b"in\\n", directory="/", image=sys.argv[2])
    print(done.stdout, done.stderr, [status.code for status in done.statuses])
"""
