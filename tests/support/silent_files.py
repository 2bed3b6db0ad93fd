"""A file system that does not answer, in the mount namespace of a process: whoever asks it something waits.

The kernel's FUSE, and a server of which nothing comes but what it is told to answer. What it has been asked, it has
read: so not even a signal that kills frees whoever waits for an answer.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from heorot.linux import system

LOOKUP, GETATTR, OPEN, WRITE, STATFS, FLUSH, CREATE = 1, 3, 14, 16, 17, 25, 35
_INIT = 26
_FILE, _DIRECTORY = 0o100777, 0o040777
_IN = struct.Struct("=IIQQIIII")
_OUT = struct.Struct("=IiQ")
_MAX_REQUEST_BYTES = 1 << 18


@contextmanager
def silent_files(process: int, directory: str, answered: tuple[int, ...] = ()) -> Iterator[None]:
    """Mount it there where this process sees the directory.

    Every name in it is an empty file that anybody may read and write, as far as these questions are answered. At the
    end of the block all that wait get an error.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            namespace = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY)
            system.setns(namespace, system.CLONE_NEWNS)
            device = os.open("/dev/fuse", os.O_RDWR)
            options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.mount(b"silent", os.fsencode(directory), b"fuse", ctypes.c_ulong(0), options):
                raise OSError(ctypes.get_errno(), "mount")
            _serve(device, (_INIT,), once=True)
            os.write(writer, b"!")
            _serve(device, answered)
        finally:
            os._exit(1)
    os.close(writer)
    try:
        with open(reader, "rb") as file:
            assert file.read(1) == b"!", "cannot mount a file system of its own: is there /dev/fuse?"
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _serve(device: int, answered: tuple[int, ...], *, once: bool = False) -> None:
    while True:
        request = os.read(device, _MAX_REQUEST_BYTES)
        _, operation, unique, node, *_ = _IN.unpack_from(request)
        if operation in answered:
            body = _answer(operation, node, request[_IN.size :])
            os.write(device, _OUT.pack(_OUT.size + len(body), 0, unique) + body)
        if once:
            return


def _answer(operation: int, node: int, request: bytes) -> bytes:
    times = struct.pack("=QQII", 0, 0, 0, 0)
    opened = struct.pack("=QII", 0, 0, 0)
    if operation == _INIT:
        return struct.pack("=IIIIHHIIHH8I", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, *(0,) * 8)
    if operation in (LOOKUP, CREATE):
        entry = struct.pack("=QQ", 2, 0) + times + _attributes(2)
        return entry + opened if operation == CREATE else entry
    if operation == GETATTR:
        return struct.pack("=QII", 0, 0, 0) + _attributes(node)
    if operation == STATFS:
        return bytes(80)
    if operation == WRITE:
        return struct.pack("=II", struct.unpack_from("=QQI", request)[2], 0)
    return opened if operation == OPEN else b""


def _attributes(node: int) -> bytes:
    mode = _DIRECTORY if node == 1 else _FILE
    return struct.pack("=6Q10I", node, *(0,) * 5, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
