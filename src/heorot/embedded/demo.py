"""``make demo``: a cluster of 64 nodes on this machine, from nothing to a healed failure, in under a minute.

Every line after ``$`` is run as it stands, and what follows is its output. Nothing is left behind, whatever happens.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from heorot.config.layout import Layout

NODES = 64
FANOUT = 8
STEPS = 12
"""Lines that each rank writes while the head dies."""
COMMAND_TIMEOUT_S = 60.0
UP_TIMEOUT_S = 600.0
"""`heorot up` has limits of its own, which go on as long as daemons start."""
DOWN_TIMEOUT_S = 180.0
"""Above the limits that `heorot down` has itself."""
CONDITION_TIMEOUT_S = 30.0
POLL_S = 0.05
OURS = ("heorot", "bpsh", "bpps", "bpstat", "bpkill", "bpjob")


class DemoFailed(Exception):
    """A command did not do what the demonstration is about."""


class Demo:
    """Runs commands in front of the audience, against a cluster in a directory of its own."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.environment = {**os.environ, "HEOROT_DIR": directory}
        self.environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._on_terminal = sys.stdout.isatty()

    def tell(self, text: str) -> None:
        """Say what comes next."""
        lines = "\n".join(f"# {line}" for line in text.split("\n"))
        print(f"\n\x1b[36m{lines}\x1b[0m" if self._on_terminal else f"\n{lines}", flush=True)

    def run(self, line: str, expected: tuple[int, ...] = (0,)) -> None:
        """Run a command line and show its output.

        Raises
        ------
        DemoFailed
            If it ends with another status than expected, or not at all.
        """
        print(f"\x1b[1m$ {line}\x1b[0m" if self._on_terminal else f"$ {line}", flush=True)
        status = self._execute(line, None).returncode
        if status not in expected:
            raise DemoFailed(f"'{line}' ended with status {status}")

    def run_with(self, line: str, after: int, other: str, lines: int, expected: int) -> None:
        """Run a command line, and another one once it has written so many lines.

        Raises
        ------
        DemoFailed
            If it writes another number of lines in all, or ends with another status.
        """
        print(f"\x1b[1m$ {line} &\x1b[0m" if self._on_terminal else f"$ {line} &", flush=True)
        words = shlex.split(line)
        arguments = [*executable(words[0]), *words[1:]]
        count = 0
        with subprocess.Popen(
            arguments, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            alarm = threading.Timer(COMMAND_TIMEOUT_S, process.kill)
            alarm.start()
            try:
                for written in process.stdout:
                    print(written, end="", flush=True)
                    count += 1
                    if count == after:
                        self.run(other)
            finally:
                alarm.cancel()
                if sys.exc_info()[0] is not None:
                    process.kill()
        if (count, process.returncode) != (lines, expected):
            raise DemoFailed(f"'{line}' wrote {count} lines of {lines} and ended with status {process.returncode}")

    def answer(self, line: str) -> str:
        """Run a command line silently and return its output."""
        finished = self._execute(line, subprocess.PIPE)
        if finished.returncode != 0:
            raise DemoFailed(f"'{line}' ended with status {finished.returncode}")
        return str(finished.stdout).strip()

    def status(self) -> dict[str, Any]:
        """Return the cluster's status."""
        value: dict[str, Any] = json.loads(self.answer("heorot status --json"))
        return value

    def await_status(self, what: str, condition: Callable[[dict[str, Any]], bool]) -> float:
        """Wait until the cluster's status fulfils a condition; return how many seconds that took."""
        return self._await(what, "heorot status --json", condition)

    def await_job(self, job: str, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the job fulfils a condition."""
        self._await(f"job {job}", f"bpjob show {job} --json", condition)

    def _await(self, what: str, line: str, condition: Callable[[dict[str, Any]], bool]) -> float:
        began_s = time.monotonic()
        while not condition(json.loads(self.answer(line))):
            if time.monotonic() - began_s > CONDITION_TIMEOUT_S:
                raise DemoFailed(f"{what}: not as expected within {CONDITION_TIMEOUT_S:.0f} s")
            time.sleep(POLL_S)
        return time.monotonic() - began_s

    def _execute(self, line: str, stdout: int | None) -> subprocess.CompletedProcess[str]:
        words = shlex.split(line)
        arguments = [*executable(words[0]), *words[1:]]
        timeout_s = {"up": UP_TIMEOUT_S, "down": DOWN_TIMEOUT_S}.get(words[1] if words[1:] else "", COMMAND_TIMEOUT_S)
        try:
            return subprocess.run(
                arguments,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                # Both in one place, so that a log of the demonstration has them in the right order.
                stderr=subprocess.STDOUT if stdout is None else None,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"'{line}' took more than {timeout_s:.0f} s") from None


def executable(name: str) -> list[str]:
    """Return how to start a command: ours as it is installed beside this Python, or else as a module.

    All others are those of the shell: a small installation has no kill(1).
    """
    if name not in OURS:
        return ["/bin/sh", "-c", '"$@"', "sh", name]
    beside = os.path.join(os.path.dirname(sys.executable), name)
    if os.access(beside, os.X_OK):
        return [beside]
    return [sys.executable, "-c", f"import sys; sys.argv[0] = {name!r}; from heorot.start import run; run({name!r})"]


def interior_node(status: dict[str, Any]) -> dict[str, Any]:
    """Return a node that has children in the tree: the one with the most, the last of those."""
    parents = [node["parent"] for node in status["nodes"] if node["parent"] is not None]
    inner = [node for node in status["nodes"] if node["id"] in parents]
    if not inner:
        raise DemoFailed("no node has children: the tree is flat")
    chosen: dict[str, Any] = max(inner, key=lambda node: (parents.count(node["id"]), node["id"]))
    return chosen


def active_head(status: dict[str, Any]) -> dict[str, Any]:
    """Return the head that leads."""
    active: dict[str, Any] = next(head for head in status["heads"] if head["role"] == "active")
    return active


def healed(status: dict[str, Any], dead: int) -> bool:
    """Say whether the dead node is known to be dead and every other one has a living parent."""
    return all(
        node["state"] == "down" if node["id"] == dead else node["state"] == "up" and node["parent"] not in (dead, None)
        for node in status["nodes"]
    )


def show(demo: Demo) -> None:
    """The demonstration itself."""
    demo.tell(
        f"A cluster on this machine: {NODES} nodes, each two real daemons with TLS links between them.\n"
        "They start in a few seconds; on a busy machine that may take a minute."
    )
    print(f"$ export HEOROT_DIR={demo.directory}")
    demo.run(f"heorot up --nodes {NODES} --fanout {FANOUT} --heads 2")

    demo.tell("The head speaks to 8 nodes only; they carry everything further.")
    demo.run("heorot status --tree")

    demo.tell("A command on every node, as if it were one machine. Equal output is folded.")
    demo.run("bpsh -a --gather uname -sr")
    demo.run("bpsh -p n[3-5] sh -c 'echo I am rank $BPROC_RANK, PID $$'")
    demo.run("bpsh --time -a true")

    demo.tell("A job that runs on its own, everywhere.")
    print("$ job=$(bpsh --detach -a sleep 600)")
    job = demo.answer("bpsh --detach -a sleep 600")
    print(f"$ echo $job\n{job}")
    demo.await_job(job, lambda found: bool(found["running"] == NODES))
    demo.run("bpjob list --state running")

    # Without root the processes have the host's own PIDs.
    place = "; a PID says where its process is" if os.geteuid() == 0 else ""
    demo.tell(f"All processes of all nodes stand in one table{place}.")
    demo.run(f"bpps --job {job} --nodes n[0-4]")

    demo.tell("A signal reaches one rank of it, wherever that runs.")
    demo.run(f"bpkill -TERM {job}:9")
    demo.await_job(job, lambda found: bool(found["exited"] == 1))
    demo.run(f"bpps --job {job} --nodes n[8-10]")

    node = interior_node(demo.status())
    below = sum(other["parent"] == node["id"] for other in demo.status()["nodes"])
    name = node["name"]
    demo.tell(f"Now {name}, which has {below} nodes below it, dies: its agent and its process holder, with SIGKILL.")
    demo.run(f"kill -9 {node['agent_pid']} {node['init_pid']}")
    seconds = demo.await_status("healing the tree", lambda status: healed(status, node["id"]))
    demo.tell(f"{seconds:.1f} s later its children hang below the head, its grandparent. Nothing else has noticed.")
    demo.run("heorot status --tree")
    demo.run("bpsh -a --gather echo still here")

    demo.tell("The rank on the dead node is lost, and the job says so. It ends for the others, too:")
    demo.run(f"bpkill {job}")
    demo.run(f"bpjob wait {job}", expected=(255,))
    print("$ echo $?\n255")

    demo.tell("The node comes back.")
    demo.run(f"heorot node start {name}")
    demo.await_status("starting the node again", lambda status: all(n["state"] == "up" for n in status["nodes"]))
    demo.run("bpstat")

    head = active_head(demo.status())
    demo.tell(
        f"Two heads stand ready; {head['name']} leads. A command runs, and {head['name']} dies in the middle of it."
    )
    steps = f"for i in $(seq {STEPS}); do echo step $i; sleep 0.3; done; exit 3"
    demo.run_with(f"bpsh --label n[3-4] sh -c '{steps}'", 6, f"kill -9 {head['pid']}", lines=2 * STEPS, expected=3)
    print("$ echo $?\n3")
    demo.tell("Not a line was lost, and the exit status came, too. The other head has built the table anew:")
    demo.await_status("the head's return", lambda status: len([h for h in status["heads"] if h["pid"]]) == 2)
    demo.run("heorot status")

    demo.tell("And all of it goes away.")
    demo.run("heorot down")


GO_ON = """
How to go on:
  export HEOROT_DIR=/tmp/heorot PATH={path}:$PATH
  heorot up --nodes 8             a cluster of your own; then
  bpsh -a --label nproc           anything, anywhere
  bpps --watch                    the process table, live
  {manual:<30}  all options
  docs/                           the tour, many machines, how it works
"""


def main() -> int:
    """Run the demonstration and return its exit status."""
    directory = tempfile.mkdtemp(prefix="heorot-demo.")
    demo = Demo(directory)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    began_s = time.monotonic()
    status = 1
    try:
        show(demo)
        prefix = os.path.dirname(os.path.dirname(sys.executable))
        has_page = os.path.exists(f"{prefix}/share/man/man1/bpsh.1") and shutil.which("man")
        manual = "man bpsh" if has_page else "bpsh --help"
        print(GO_ON.format(path=os.path.dirname(sys.executable), manual=manual))
        print(f"That took {time.monotonic() - began_s:.0f} s.")
        status = 0
    except DemoFailed as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        doctor = shlex.join([*executable("heorot"), "doctor", "--nodes", str(NODES)])
        print(f"demo: try again when the machine is less busy; '{doctor}' says what it lacks", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; cleaning up", file=sys.stderr)
        status = 130
    finally:
        # A second Ctrl-C must not leave daemons behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        clean_up(demo)
    return status


def clean_up(demo: Demo) -> None:
    """End the cluster if it is still there, and remove its directory; logs of a failed start stay, and it is said."""
    logs = Layout(demo.directory).failed_start()
    if logs:
        print(f"demo: the logs in {logs} stay; remove {demo.directory} when you have read them", file=sys.stderr)
        return
    if os.path.isdir(demo.directory) and os.listdir(demo.directory):
        command = [*executable("heorot"), "down", "--dir", demo.directory]
        try:
            done = subprocess.run(
                command,
                env=demo.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=DOWN_TIMEOUT_S,
                check=False,
            )
            why = done.stderr.strip() if done.returncode else ""
        except subprocess.TimeoutExpired:
            why = f"'heorot down' took more than {DOWN_TIMEOUT_S:.0f} s"
        if why:
            # Its files say what is left of it: they go when that does.
            again = f"'{shlex.join(command)}' ends what is left"
            print(f"demo: the cluster is not down yet ({why}): {again}", file=sys.stderr)
            return
    shutil.rmtree(demo.directory, ignore_errors=True)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
