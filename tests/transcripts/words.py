"""What a transcript says of a message: its name, and the few fields that tell the story. Most traffic is silent."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence

from heorot.core.streams import TAKES_NO_MORE
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import images as i
from heorot.core.wire import tree as m


def say(source: str, to: str, message: object) -> str:
    """Return a line about a message from `source` for `to`, empty if it tells nothing."""
    if isinstance(message, m.Down):
        said = _say(m.decode_head_command(message.payload))
        nodes = NodeSet.from_ranges(message.nodes)
        return said if not said or str(nodes) == to else f"{said} (for {nodes})"
    if isinstance(message, m.Up):
        said = _say(m.decode_node_payload(message.payload))
        return said if not said or source == f"n{message.node}" else f"{said} (of n{message.node})"
    if isinstance(message, m.Hello) and to.startswith("head") and message.node == -1:
        return f"Hello, I lead in epoch {message.epoch}"
    return _say(message)


def _say(message: object) -> str:
    """Return what stands in the message itself."""
    name = type(message).__name__
    if isinstance(message, (m.Report, m.Inventory, m.LaunchCopy, m.Query, m.Detached, m.SignedPlacement, m.Place)):
        return _say_of_node(message)
    if isinstance(message, (c.Spawn, c.AttachJob, c.Signal, c.Spawned, c.Notice, c.Error, c.Done)):
        return _say_of_client(message)
    if isinstance(message, (m.Launch, m.Release, m.FetchLaunch, c.ClientRelease, c.Detach)):
        return f"{name.removeprefix('Client')} {message.job}"
    if isinstance(message, m.Attend):
        return f"Attend {message.job}{'' if message.attended else ', nobody reads'}"
    if isinstance(message, c.Started):
        return f"Started {message.job} {ranks(message.ranks[::2])}"
    if isinstance(message, c.Exited):
        return f"Exited {message.job} {_exits(message.ranks, 4)}"
    if isinstance(message, c.ExitedAlike):
        exited = _spread(message.runs, 2)
        return f"Exited {message.job} {ranks(exited)}: {status(message.wait_status)}"
    if isinstance(message, (c.Lost, c.Failed)):
        return f"{name} {message.job} {ranks(rank for rank, _, _ in message.ranks)}"
    if isinstance(message, (m.Output, c.ClientOutput)):
        return f"Output {message.job} r{message.rank} {message.offset}..{message.offset + len(message.data)}"
    if isinstance(message, (m.Ack, c.ClientAck)):
        end = "the end" if message.offset >= TAKES_NO_MORE else message.offset
        return f"Ack {message.job} r{message.rank} to {end}"
    if isinstance(message, (m.Stdin, c.ClientStdin)):
        end = ", the end" if message.end else ""
        is_any = message.offset or message.data
        return f"Stdin {message.job} {message.offset}..{message.offset + len(message.data)}{end}" if is_any else ""
    if isinstance(message, (m.StdinAck, c.ClientStdinAck)):
        return f"StdinAck {message.job} to {message.offset}" if message.offset < TAKES_NO_MORE else ""
    if isinstance(message, m.Refused):
        return f"Refused: {message.code}"
    if isinstance(message, (i.Want, c.ImageWanted)):
        return _say_wanted(message)
    if isinstance(message, (m.Attach, m.SpaceGone, m.Reattached, c.Signalled, c.Stage)):
        return name
    if isinstance(message, (i.ImageManifest, c.OfferedManifest)):
        return "the image's list of files"
    if isinstance(message, (i.Piece, c.OfferedPiece)):
        return f"chunks {folded('c', range(message.first, message.first + len(message.chunks)))}"
    if isinstance(message, (i.KeepImage, i.ImageKept, i.Unavailable)):
        return name
    return ""


def _say_of_node(
    message: m.Report | m.Inventory | m.LaunchCopy | m.Query | m.Detached | m.SignedPlacement | m.Place,
) -> str:
    if isinstance(message, m.Report):
        started = [*message.started[1::3], *_spread(message.started_runs[1:], 3)]
        told = [f"started {ranks(started)}"] if started else []
        runs = [message.exited_runs[at : at + 6] for at in range(0, len(message.exited_runs), 6)]
        if message.exited:
            told.append(f"ended {_exits(message.exited[1:], 5)}")
        told += [f"ended {ranks(range(run[1], run[1] + run[2]))}: {status(run[3])}" for run in runs]
        if message.failed:
            told.append(f"failed {ranks(failure.rank for failure in message.failed)}")
        told += [f"note on r{note.rank}: {note.text}" for note in message.notes]
        return f"Report {message.job} {', '.join(told)}"
    if isinstance(message, m.Inventory):
        return f"Inventory: {'; '.join(_say_inventory(job) for job in message.jobs) or 'nothing'}"
    if isinstance(message, m.LaunchCopy):
        return f"LaunchCopy {message.job}{'' if message.ticket else ': it is not here'}"
    if isinstance(message, m.Query):
        return f"Signal {_signal(message.signal)} to {message.job}" if message.signal else ""
    if isinstance(message, m.Detached):
        return f"Detached {NodeSet.from_ranges(message.nodes)}"
    if isinstance(message, m.Place):
        sealed = m.decode_signed_placement(message.placement)
        path = m.decode_placement(sealed.placement).path
        return f"Place: below {'/'.join(f'n{hop.node}' for hop in path) or 'the head'}"
    return ""


def _say_inventory(job: m.JobInventory) -> str:
    told = [f"{ranks(job.running[::2])} runs"] if job.running else []
    if job.exited:
        told.append(f"ended {_exits(job.exited, 4)}")
    if job.failed:
        told.append(f"failed {ranks(failure.rank for failure in job.failed)}")
    return f"{job.job} {', '.join(told) or 'waits'}"


def _say_of_client(
    message: c.Spawn | c.AttachJob | c.Signal | c.Spawned | c.Notice | c.Error | c.Done,
) -> str:
    if isinstance(message, c.Spawn):
        again = f", again as {message.job} by its receipt" if message.receipt else ", again" if message.again else ""
        detached = ", detached" if message.detached else ""
        return f"Spawn {b' '.join(message.spec.argv).decode()} on {message.nodes or message.select}{detached}{again}"
    if isinstance(message, c.AttachJob):
        return f"AttachJob {message.job}{', to go on with it' if message.resume else ''}"
    if isinstance(message, c.Signal):
        return f"Signal {_signal(message.signal)} to {message.job}"
    if isinstance(message, c.Spawned):
        nodes = ",".join(f"n{node}" for node in _spread(message.runs, 2))
        return f"Spawned {message.job} on {nodes}{', with a receipt' if message.receipt else ''}"
    if isinstance(message, c.Notice):
        return f"Notice: {NodeSet.from_ranges(message.silent)} silent" if message.silent else ""
    if isinstance(message, c.Error):
        return f"Error {message.code}"
    return f"Done {message.job}{f': {message.text}' if message.text else ''}"


def _say_wanted(message: i.Want | c.ImageWanted) -> str:
    wanted = ["the list of files"] if message.manifest else []
    if message.chunks:
        wanted.append(f"chunks {folded('c', _spread(message.chunks, 2))}")
    return f"Want {' and '.join(wanted) or 'no more'}"


def ranks(numbers: Iterable[int]) -> str:
    """Return ranks as they are written, ``r[0-2,5]``."""
    return folded("r", numbers)


def folded(letter: str, numbers: Iterable[int]) -> str:
    """Return numbers of one kind as they are written: ``r3``, ``c[0-7]``."""
    return str(NodeSet.of(numbers)).replace("n", letter)


def unfolded(text: str) -> set[int]:
    """Return the numbers that `folded` has written, without their letter."""
    pairs = [part.partition("-") for part in text.strip("[]").split(",")]
    return {number for first, _, last in pairs for number in range(int(first), int(last or first) + 1)}


def status(wait_status: int) -> str:
    """Return how a rank ended: its exit code, or its signal."""
    return f"{wait_status >> 8}" if not wait_status & 0x7F else _signal(wait_status & 0x7F)


def _signal(number: int) -> str:
    return signal.Signals(number).name


def _exits(flat: Sequence[int], stride: int) -> str:
    """Return ranks that have ended, and how; `flat` begins with the first rank, its status is next."""
    by_status: dict[int, list[int]] = {}
    for at in range(0, len(flat), stride):
        by_status.setdefault(flat[at + 1], []).append(flat[at])
    return " ".join(f"{ranks(numbers)}: {status(ended)}" for ended, numbers in by_status.items())


def _spread(flat: Sequence[int], stride: int) -> list[int]:
    """Return the numbers of runs: the first one and how many, every `stride` numbers."""
    return [number for at in range(0, len(flat), stride) for number in range(flat[at], flat[at] + flat[at + 1])]
