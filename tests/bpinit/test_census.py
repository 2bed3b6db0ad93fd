"""How bpinit finds its processes where it shares /proc with all of the host."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOOK = """
import json, os, re, subprocess, sys
from heorot.linux import system
from heorot.bpinit.census import Census

system.become_subreaper()
# A child with two threads, whose second one has started a process, and a grandchild whose parent is gone.
family = subprocess.Popen([sys.executable, "-c", '''
import subprocess, threading
def work():
    subprocess.Popen(["sleep", "1000"])
    threading.Event().wait()
threading.Thread(target=work).start()
subprocess.run(["sh", "-c", "setsid sleep 1001 &"])
print("here", flush=True)
'''], stdout=subprocess.PIPE)
family.stdout.readline()
opened = set()

def audit(event, arguments):
    found = re.fullmatch("/proc/([0-9]+)/.*", str(arguments[0])) if event == "open" else None
    if found:
        opened.add(int(found[1]))

sys.addaudithook(audit)
everyone = Census(isolated=False).everyone()
print(json.dumps([os.getpid(), family.pid, [stat.pid for stat, _ in everyone], sorted(opened)]), flush=True)
family.kill()
for stat, _ in everyone:
    if stat.pid != family.pid:
        os.kill(stat.pid, 9)
"""


@contextmanager
def strangers(count: int) -> Iterator[list[int]]:
    """So many processes that are no node's."""
    started = [subprocess.Popen(["sleep", "1000"]) for _ in range(count)]
    yield [process.pid for process in started]
    for process in started:
        process.kill()
        process.wait()


def test_only_processes_of_the_space_are_read_on_a_host_that_others_share() -> None:
    with strangers(20) as pids:
        said = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout
    own, family, found, opened = json.loads(said)
    assert found == sorted(found)
    assert family in found
    assert len(found) == 3
    assert not set(opened) & set(pids)
    assert set(opened) <= {own, *found}
