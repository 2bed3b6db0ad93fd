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

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a second user needs root")
USER = 65534


@pytest.fixture(scope="module")
def made() -> Iterator[Cluster]:
    with cluster(2) as running:
        for folder in (running.directory.parent, running.directory.parent.parent):
            # The tests' own: a user must get through them.
            os.chmod(folder, 0o711)
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
    os.chown(name, USER, USER)
    yield Path(name)
    shutil.rmtree(name)


CLIENT = """
import os, sys
import heorot, heorot.job_base
from heorot.core.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.image import Entry, Manifest, encode_manifest, image_id
from heorot.images.collecting import digest_file
from heorot.images.offer import Offer
directory, program, victim, zone = sys.argv[1:]
connection = heorot.connect(directory)
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
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
heorot.job_base.offer_command = lambda *a, **k: Offer(image_id(encoded), program.encode(), b"", encoded)
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
    command = [sys.executable, "-c", CLIENT, str(made.directory), str(program), str(victim), "/usr/zz-heorot"]
    done = subprocess.run(command, env=made.environment, capture_output=True, text=True, timeout=60, check=True)
    assert "which is no directory" in done.stdout, done
    assert list(victim.iterdir()) == []
    assert not os.path.lexists("/usr/zz-heorot")
    assert made.check("bpsh", "n0", "/bin/echo", "well") == b"well\n"
