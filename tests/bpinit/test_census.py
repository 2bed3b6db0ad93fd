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


COUNT = """
import json, os, subprocess, sys, time
from heorot.bpinit import census as c
from heorot.linux import proctable, system

system.become_subreaper()
census = c.Census(isolated=False)
environment = {**os.environ, "HEOROT_JOB": "1.7", "HEOROT_RANK": "3"}
script = "sleep 1000 & setsid sleep 1001 & (setsid sleep 1002 &) ; (sleep 1003 &); echo here; wait"
rank = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, env=environment, start_new_session=True)
other = subprocess.Popen(["sleep", "1004"], start_new_session=True)
rank.stdout.readline()
until = time.monotonic() + 120
# What setsid(1) has started leads a session as soon as it has had a processor.
while sum(os.getsid(pid) == pid for pid in c.tree(proctable.children(os.getpid()))) < 4 and time.monotonic() < until:
    time.sleep(0.01)
census.add(c.ChildProcess(0, "1.7", 3, rank.pid, os.getuid(), -1, [], False))
census.add(c.ChildProcess(1, "1.8", 0, other.pid, os.getuid(), -1, [], False))
opened = []
sys.addaudithook(lambda event, arguments: event == "open" and opened.append(str(arguments[0])))
counts = census.count_by_job()
print(json.dumps([counts, sorted({path.rpartition("/")[2] for path in opened})]), flush=True)
for pid in c.tree(proctable.children(os.getpid())):
    os.kill(pid, 9)
"""


def test_processes_are_counted_without_what_a_process_that_waits_for_a_processor_could_hold_locked() -> None:
    said = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout
    counts, opened = json.loads(said)
    assert counts == {"1.7": 5, "1.8": 1}
    # The environment is that of an orphan with a session of its own: nothing else tells whose it is.
    assert opened == ["children", "environ", "status"]
