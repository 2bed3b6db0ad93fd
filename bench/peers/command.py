"""``python -m bench peers``: Heorot beside other programs, in one run; a table, JSON, and docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench import machine, publish
from bench.peers import install, processes, table
from bench.peers.clush import Clush
from bench.peers.dask import Dask
from bench.peers.floor import Floor
from bench.peers.heorot import HeorotCommand, HeorotLibrary, Shared
from bench.peers.hydra import Hydra
from bench.peers.mitogen import Mitogen
from bench.peers.parallel import Parallel
from bench.peers.pdsh import Pdsh
from bench.peers.peer import ROOT, Peer
from bench.peers.results import COPY_AGAIN, COPY_NEW, MEBIBYTE, OUTPUT, TRUE, Found, Row, Work
from bench.peers.slurm import Slurm
from bench.peers.turns import Turns, load_average, settle, undisturbed

BEGIN = "<!-- begin: written by python -m bench peers -->"
END = "<!-- end: written by python -m bench peers -->"


def everyone() -> list[Peer]:
    """Return all peers, in the order of the table."""
    shared = Shared()
    heorot = [HeorotCommand(shared), HeorotLibrary(shared)]
    return [Floor(), *heorot, Mitogen(), Dask(), Hydra(), Pdsh(), Clush(), Parallel(), Slurm()]


def works(nodes: Sequence[int]) -> list[Work]:
    """Return the columns: the first number of nodes gets all of them."""
    first = nodes[0]
    launches = [Work(TRUE, number) for number in nodes]
    return [*launches, Work(OUTPUT, first), Work(COPY_NEW, first), Work(COPY_AGAIN, first)]


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench peers", description=__doc__)
    parser.add_argument("--nodes", default="", help="64,256; all works with the first number, launches with all")
    parser.add_argument("--rounds", type=int, default=0, help="turns of each peer (default: 7)")
    parser.add_argument("--quick", action="store_true", help="two rounds with 64 nodes")
    parser.add_argument(
        "--peers", default="", help="only these, by commas: " + ",".join(peer.key for peer in everyone())
    )
    parser.add_argument("--install", action="store_true", help="let apt-get install what is lacking, as root")
    out = ROOT / "bench" / "out"
    parser.add_argument("--out", type=Path, default=out, help="where the JSON goes (default: bench/out)")
    parser.add_argument("--publish", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    try:
        options.nodes = [int(word) for word in (options.nodes or ("64" if options.quick else "64,256")).split(",")]
    except ValueError:
        parser.error(f"--nodes takes numbers with commas between them, not {options.nodes!r}")
    options.rounds = options.rounds or (2 if options.quick else 7)
    known = {peer.key for peer in everyone()}
    options.peers = options.peers.split(",") if options.peers else sorted(known)
    if unknown := sorted(set(options.peers) - known):
        parser.error(f"--peers: there is no {', '.join(unknown)}")
    return options


def say(text: str) -> None:
    """Tell the user how it goes."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _prepare(options: argparse.Namespace) -> tuple[list[tuple[Peer, Row]], install.Wheels]:
    """Install what can be, and return each peer with its row, which says if it is not here."""
    peers = [peer for peer in everyone() if peer.key in options.peers]
    wheels = install.Wheels(install.cache() / "wheels")
    if any(peer.wheels for peer in peers):
        wheels.install(say)
    if options.install:
        install.install_packages(peers)
    if lacking := install.lacking_packages(peers):
        say(f"not here; as root: apt-get install --yes --no-install-recommends {' '.join(lacking)}   or: --install")
    rows = []
    for peer in peers:
        row = Row(peer.key, peer.name, peer.how, absent=install.absent(peer, wheels))
        if not row.absent:
            row.version = peer.version() or next((wheels.version(name) for name, _ in peer.wheels), "")
        rows.append((peer, row))
    return rows, wheels


def _measure(options: argparse.Namespace, found: Found, peers: list[tuple[Peer, Row]], python: str) -> None:
    directory = Path(tempfile.mkdtemp(prefix="heorot-peers-"))
    try:
        for nodes in options.nodes:
            turns = Turns(found, nodes, directory, say, settle)
            try:
                turns.begin(peers, python)
                turns.measure(options.rounds)
            finally:
                with undisturbed():
                    turns.end()
                    _end_all()
    finally:
        with undisturbed():
            shutil.rmtree(directory, ignore_errors=True)


def _end_all() -> None:
    if left := processes.end_all():
        say(f"could not be ended: PIDs {', '.join(map(str, left))}")


def _keep(options: argparse.Namespace, found: Found) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "peers.json"
    file.write_text(json.dumps(found.as_json(), indent=1) + "\n")
    say(f"wrote {file}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Make the table; 0 if Heorot lost nothing, 1 if it did, 130 if it was interrupted."""
    options = _options(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    found = Found(machine.describe(), works(options.nodes), MEBIBYTE, 16 * MEBIBYTE, options.rounds, load_average())
    processes.adopt()
    try:
        peers, wheels = _prepare(options)
        found.rows = [row for _, row in peers]
        _measure(options, found, peers, wheels.python)
    except KeyboardInterrupt:
        with undisturbed():
            _end_all()
        say("interrupted; everything that was started is ended")
        return 130
    finally:
        found.load_after = load_average()
        if found.rows:
            print(table.text(found), flush=True)
            _keep(options, found)
    if options.publish:
        publish.replace(ROOT / "docs" / "benchmarks.md", (BEGIN, END), table.markdown(found))
        say("wrote docs/benchmarks.md")
    own = [row for row in found.rows if row.key.startswith("heorot-")]
    lost = [row.name for row in own if row.absent or any(row.problems(work) for work in found.works)]
    for name in lost:
        say(f"{name} lost something")
    return 1 if lost else 0
