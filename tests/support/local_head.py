"""A head of four pretended nodes that runs every rank as a plain process here: a client's view of a cluster."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

from heorot.core import client_messages as c
from heorot.core.framing import FrameDecoder, encode_frame
from heorot.core.messages import encode
from heorot.core.nodeset import NodeSet


class LocalHead:
    """Listens on ``head.sock`` in a directory; serves each client with threads; ends everything on `close`."""

    def __init__(self, directory: Path, nodes: int = 4, window_bytes: int = 64 * 1024) -> None:
        self.directory = directory
        self.nodes = nodes
        self.window_bytes = window_bytes
        self.received: list[c.ClientMessage] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(directory / "head.sock"))
        self._listener.listen(16)
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self._sequence = 0
        self._start(self._accept)

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_clients()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def drop_clients(self) -> None:
        """Close every connection, as a head does that dies."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        client = _Client(self, connection)
        decoder = FrameDecoder()
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                for frame in decoder.feed(data):
                    message = c.decode_client(frame)
                    self.received.append(message)
                    client.handle(message)
        client.hang_up()
        connection.close()

    def start_thread(self, target: Any, *arguments: Any) -> None:
        self._start(target, *arguments)

    def next_job(self) -> str:
        self._sequence += 1
        return f"1.{self._sequence}"


class _Job:
    def __init__(self, id: str, nodes: list[int]) -> None:
        self.id = id
        self.nodes = nodes
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.acked: dict[tuple[int, int], int] = {}
        self.over = 0
        self.condition = threading.Condition()


class _Client:
    def __init__(self, head: LocalHead, connection: socket.socket) -> None:
        self.head = head
        self.connection = connection
        self.lock = threading.Lock()
        self.jobs: dict[str, _Job] = {}
        self.stdin_queue: queue.SimpleQueue[c.ClientStdin | None] = queue.SimpleQueue()
        head.start_thread(self.feed)

    def feed(self) -> None:
        while (message := self.stdin_queue.get()) is not None:
            self.stdin(message)

    def send(self, message: c.HeadMessage) -> None:
        with self.lock, contextlib.suppress(OSError):
            self.connection.sendall(encode_frame(encode(message)))

    def hang_up(self) -> None:
        self.stdin_queue.put(None)
        for job in self.jobs.values():
            for process in job.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            with job.condition:
                job.acked = dict.fromkeys(job.acked, 1 << 62)
                job.condition.notify_all()

    def handle(self, message: c.ClientMessage) -> None:
        match message:
            case c.ClientHello():
                self.send(c.Welcome(1, "0", "fake", 1))
            case c.Spawn():
                self.spawn(message)
            case c.ClientAck():
                job = self.jobs.get(message.job)
                if job is not None:
                    with job.condition:
                        job.acked[message.rank, message.stream] = message.offset
                        job.condition.notify_all()
            case c.ClientStdin():
                # Ranks that do not read must not stop the rest of the conversation.
                self.stdin_queue.put(message)
            case c.Signal():
                job = self.jobs[message.job or ""]
                matched = 0
                for process in job.processes.values():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, message.signal)
                        matched += 1
                self.send(c.Signalled(message.request, matched, []))
            case c.ListNodes():
                self.send(c.Result(message.request, [{"id": n, "name": f"n{n}"} for n in range(self.head.nodes)]))
            case _:
                pass

    def spawn(self, ask: c.Spawn) -> None:
        try:
            nodes = list(range(self.head.nodes)) if ask.select != "list" else _resolve(ask.nodes)
        except ValueError as error:
            self.send(c.Error(ask.request, "node-list", f"cannot read {ask.nodes!r}: {error}"))
            return
        if max(nodes) >= self.head.nodes:
            self.send(c.Error(ask.request, "unknown-node", f"there is no node n{max(nodes)}"))
            return
        job = _Job(self.head.next_job(), nodes)
        self.jobs[job.id] = job
        runs = [value for node in nodes for value in (node, 1)]
        self.send(c.Spawned(ask.request, job.id, runs, self.head.window_bytes))
        for rank in range(len(nodes)):
            try:
                process = subprocess.Popen(
                    ask.argv,
                    stdin=subprocess.PIPE if ask.stdin == b"" else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if ask.stdout == b"" else subprocess.DEVNULL,
                    stderr=subprocess.PIPE if ask.stderr == b"" else subprocess.DEVNULL,
                    cwd=ask.directory,
                    env={**_environment(ask.environment), b"BPROC_RANK": b"%07d" % rank},
                    process_group=0,
                )
            except OSError as error:
                text = f"no such command: {os.fsdecode(ask.argv[0])}"
                self.send(c.Failed(job.id, [(rank, error.errno or 0, text)]))
                self.rank_over(job)
                continue
            job.processes[rank] = process
            self.send(c.Started(job.id, [rank, process.pid]))
            self.head.start_thread(self.follow, job, rank, process)

    def stdin(self, message: c.ClientStdin) -> None:
        job = self.jobs[message.job]
        for process in list(job.processes.values()):
            if process.stdin is None or process.stdin.closed:
                continue
            try:
                process.stdin.write(message.data)
                process.stdin.flush()
                if message.end:
                    process.stdin.close()
            except BrokenPipeError:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        closed = all(process.stdin is None or process.stdin.closed for process in job.processes.values())
        self.send(c.ClientStdinAck(job.id, -1, message.offset + len(message.data), closed))

    def follow(self, job: _Job, rank: int, process: subprocess.Popen[bytes]) -> None:
        totals = {1: 0, 2: 0}
        readers = []
        for number, file in ((1, process.stdout), (2, process.stderr)):
            if file is not None:
                job.acked[rank, number] = 0
                thread = threading.Thread(target=self.read, args=(job, rank, number, file, totals), daemon=True)
                thread.start()
                readers.append(thread)
        for thread in readers:
            thread.join()
        code = process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        status = -code if code < 0 else code << 8
        self.send(c.Exited(job.id, [rank, status, totals[1], totals[2]]))
        self.rank_over(job)

    def read(self, job: _Job, rank: int, number: int, file: Any, totals: dict[int, int]) -> None:
        while data := os.read(file.fileno(), 16384):
            with job.condition:
                limit = totals[number] + len(data) - self.head.window_bytes
                while job.acked[rank, number] < limit:
                    job.condition.wait()
            self.send(c.ClientOutput(job.id, rank, number, totals[number], data))
            totals[number] += len(data)
        file.close()

    def rank_over(self, job: _Job) -> None:
        with job.condition:
            job.over += 1
            if job.over == len(job.nodes):
                self.send(c.Done(job.id))


def _environment(pairs: list[bytes]) -> dict[bytes, bytes]:
    return dict(pair.split(b"=", 1) for pair in pairs)


def _resolve(text: str) -> list[int]:
    nodes: list[int] = []
    for part in text.replace("n", "").strip("[]").split(","):
        first, _, last = part.partition("-")
        nodes += NodeSet.from_ranges([int(first), int(last or first)])
    return nodes
