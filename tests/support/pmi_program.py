"""A program of "MPI" for tests: it speaks PMI-1 over PMI_FD in the order and the words of MPICH's library, or PMI-2 in
those of Slurm's.

Run by ranks, with nothing but Python's standard library: ``pmi_program.py STORY [GATE]``. What it says on stdout is one
line. A gate is a directory: at each of its steps a rank makes a file ``STEP.RANK`` there, and waits for one called
``STEP``.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

BARRIERS = 20
DEADLINE_S = 120


class Pmi:
    """The conversation of one rank."""

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ["PMI_RANK"]), int(os.environ["PMI_SIZE"])
        self._socket = socket.socket(fileno=int(os.environ["PMI_FD"]))
        self._lines = self._socket.makefile("rb", buffering=0)
        self.name = ""

    def say(self, line: str) -> None:
        """Write a line."""
        self._socket.sendall(line.encode() + b"\n")

    def hear(self) -> str:
        """Read a line; nothing at the end."""
        return self._lines.readline().decode().rstrip("\n")

    def ask(self, line: str, answered: str) -> str:
        """Write a line and read the answer, which must be good."""
        self.say(line)
        said = self.hear()
        if not said.startswith(f"cmd={answered} ") or " rc=0" not in said:
            raise SystemExit(f"rank {self.rank}: {line!r} was answered by {said!r}")
        return said

    def init(self) -> None:
        """Go inside, and ask what a library asks for."""
        self.ask("cmd=init pmi_version=1 pmi_subversion=1", "response_to_init")
        self.ask("cmd=get_maxes", "maxes")
        self.ask("cmd=get_appnum", "appnum")
        self.name = self.ask("cmd=get_my_kvsname", "my_kvsname").partition("kvsname=")[2]
        self.get("PMI_process_mapping")

    def put(self, key: str, value: str) -> None:
        """Say something to all."""
        self.ask(f"cmd=put kvsname={self.name} key={key} value={value}", "put_result")

    def get(self, key: str) -> str:
        """Return what somebody has said."""
        return self.ask(f"cmd=get kvsname={self.name} key={key}", "get_result").partition("value=")[2]

    def barrier(self) -> None:
        """Wait for all."""
        self.ask("cmd=barrier_in", "barrier_out")

    def exchange(self, step: int) -> None:
        """Tell all a card, and see that those of all are there."""
        self.put(f"card-{step}-{self.rank}", f"host={step} port={self.rank}")
        self.barrier()
        for rank in range(self.size):
            card = self.get(f"card-{step}-{rank}")
            if card != f"host={step} port={rank}":
                raise SystemExit(f"rank {self.rank}: the card of rank {rank} is {card!r}")

    def finalize(self) -> None:
        """Leave."""
        self.ask("cmd=finalize", "finalize_ack")


class Pmi2(Pmi):
    """The same of one that speaks PMI-2."""

    @classmethod
    def of(cls, pmi: Pmi) -> Pmi2:
        """Go on with the connection of another one, which has said nothing yet."""
        made = cls.__new__(cls)
        made.__dict__.update(vars(pmi))
        return made

    def tell(self, command: str, **fields: str) -> dict[str, str]:
        """Write a message and read the answer, which must be good; return its fields."""
        pairs = {"cmd": command, **fields}.items()
        body = "".join(f"{name}={value.replace(';', ';;')};" for name, value in pairs).encode()
        self._socket.sendall(f"{len(body):<6}".encode() + body)
        said = self._take(int(self._take(6))).replace(";;", "\0")
        found = dict(pair.replace("\0", ";").split("=", 1) for pair in said.split(";")[:-1])
        if found["cmd"] != f"{command}-response" or found["rc"] != "0":
            raise SystemExit(f"rank {self.rank}: {command} {fields} was answered by {said!r}")
        return found

    def _take(self, size: int) -> str:
        data = b""
        while len(data) < size:
            data += self._socket.recv(size - len(data)) or sys.exit("the connection is closed")
        return data.decode()

    def init(self) -> None:
        """See `Pmi`."""
        self.ask("cmd=init pmi_version=2 pmi_subversion=0", "response_to_init")
        told = self.tell("fullinit", pmirank=str(self.rank), threaded="FALSE")
        if (int(told["rank"]), int(told["size"])) != (self.rank, self.size):
            raise SystemExit(f"rank {self.rank} of {self.size} is told {told}")
        self.name = self.tell("job-getid")["jobid"]
        if self.tell("info-getjobattr", key="PMI_process_mapping")["found"] != "TRUE":
            raise SystemExit(f"rank {self.rank}: there is no mapping")

    def put(self, key: str, value: str) -> None:
        """See `Pmi`."""
        self.tell("kvs-put", key=key, value=value)

    def get(self, key: str) -> str:
        """See `Pmi`."""
        return self.tell("kvs-get", jobid=self.name, srcid="-1", key=key)["value"]

    def barrier(self) -> None:
        """See `Pmi`."""
        self.tell("kvs-fence")

    def finalize(self) -> None:
        """See `Pmi`."""
        self.tell("finalize")


def await_file(path: Path) -> None:
    """Wait until there is such a file."""
    end_s = time.monotonic() + DEADLINE_S
    while not path.exists():
        if time.monotonic() > end_s:
            raise SystemExit(f"{path} does not come")
        time.sleep(0.01)


def ring(pmi: Pmi, gate: Path) -> None:
    """Exchange cards, many times."""
    pmi.init()
    for step in range(BARRIERS):
        pmi.exchange(step)
    pmi.finalize()


def second(pmi: Pmi, gate: Path) -> None:
    """The same in PMI-2; the first rank of a node tells the others of it something."""
    both = Pmi2.of(pmi)
    both.init()
    if os.environ["MPI_LOCALRANKID"] == "0":
        both.tell("info-putnodeattr", key="segment", value=f"of {os.environ['HEOROT_NODE']};")
    found = both.tell("info-getnodeattr", key="segment", wait="TRUE")
    if found["value"] != f"of {os.environ['HEOROT_NODE']};":
        raise SystemExit(f"rank {pmi.rank} is told {found}")
    for step in range(BARRIERS):
        both.exchange(step)
    both.finalize()


def mixed(pmi: Pmi, gate: Path) -> None:
    """Every other rank speaks PMI-2."""
    ring(Pmi2.of(pmi) if pmi.rank % 2 else pmi, gate)


def start(pmi: Pmi, gate: Path) -> None:
    """Do what MPI_Init does, and leave: what the time to it is measured with."""
    pmi.init()
    pmi.exchange(0)
    pmi.barrier()
    pmi.finalize()


def gates(pmi: Pmi, gate: Path) -> None:
    """Stop in all places where something may break."""

    def step(name: str) -> None:
        (gate / f"{name}.{pmi.rank}").touch()
        await_file(gate / name)

    step("begin")
    pmi.init()
    pmi.exchange(0)
    # One comes later than the others, who wait in the barrier.
    if pmi.rank == 0:
        step("late")
    else:
        (gate / f"late.{pmi.rank}").touch()
    pmi.exchange(1)
    step("end")
    pmi.exchange(2)
    pmi.finalize()


def abort(pmi: Pmi, gate: Path) -> None:
    """One rank ends all."""
    pmi.init()
    pmi.barrier()
    if pmi.rank == pmi.size - 1:
        pmi.say("cmd=abort exitcode=5")
        time.sleep(DEADLINE_S)
    pmi.barrier()


def die(pmi: Pmi, gate: Path) -> None:
    """One rank ends without a word."""
    pmi.init()
    pmi.barrier()
    if pmi.rank == 1:
        os._exit(3)
    pmi.barrier()


def nonsense(pmi: Pmi, gate: Path) -> None:
    """One rank says what is not PMI, before the others have any use for it."""
    if pmi.rank == 0:
        pmi.say("GET / HTTP/1.1")
        if not pmi.hear().startswith("cmd=error rc=-1") or pmi.hear():
            raise SystemExit("it is not cut off")
    print(f"{pmi.rank} of {pmi.size}", flush=True)


def flood(pmi: Pmi, gate: Path) -> None:
    """Put as much as there is room for, as fast as possible, until the gate opens."""
    pmi.init()
    (gate / f"floods.{pmi.rank}").touch()
    number = 0
    while not (gate / "floods").exists():
        number += 1
        pmi.say(f"cmd=put kvsname={pmi.name} key={number}-{pmi.rank} value={'v' * 1000}")
        pmi.hear()
    pmi.finalize()


STORIES: dict[str, Callable[[Pmi, Path], None]] = {
    story.__name__: story for story in (ring, second, mixed, start, gates, abort, die, nonsense, flood)
}


if __name__ == "__main__":
    made = Pmi()
    STORIES[sys.argv[1]](made, Path(*sys.argv[2:3]))
    if sys.argv[1] != "nonsense":
        print(f"{made.rank} of {made.size}", flush=True)
