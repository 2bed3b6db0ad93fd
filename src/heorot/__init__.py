"""Heorot: many Linux machines, one computer.

``heorot.connect()`` opens a cluster for a Python program, ``heorot.aio.connect()`` for one that uses asyncio. What is
named here is loaded when it is first used: the commands import this package too, and start in a few milliseconds.
"""

from __future__ import annotations

from posix import environ as _environ

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.client.blocking import Cluster, Job, connect
    from heorot.client.copies import Copied, CopyError
    from heorot.client.job import Chunk, Completed, JobFailed
    from heorot.client.launch import DEVNULL, PIPE
    from heorot.client.rank import RankEvent, RankHandle
    from heorot.core.client.end import RankUsage, Status
    from heorot.core.errors import ConnectionLost, HeorotError, NodeListError, ProtocolError, RequestError

LC_CTYPE_AT_IMPORT = _environ.get(b"LC_CTYPE")
"""Python may have put it there; `heorot.client.caller` tells by it that the program has not set it since."""

_HOMES = {
    "Chunk": "heorot.client.job",
    "Cluster": "heorot.client.blocking",
    "Completed": "heorot.client.job",
    "ConnectionLost": "heorot.core.errors",
    "Copied": "heorot.client.copies",
    "CopyError": "heorot.client.copies",
    "DEVNULL": "heorot.client.launch",
    "HeorotError": "heorot.core.errors",
    "Job": "heorot.client.blocking",
    "JobFailed": "heorot.client.job",
    "NodeListError": "heorot.core.errors",
    "PIPE": "heorot.client.launch",
    "ProtocolError": "heorot.core.errors",
    "RequestError": "heorot.core.errors",
    "Status": "heorot.core.client.end",
    "RankEvent": "heorot.client.rank",
    "RankHandle": "heorot.client.rank",
    "RankUsage": "heorot.core.client.end",
    "connect": "heorot.client.blocking",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        value: object = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name == "aio":
        from importlib import import_module

        return import_module("heorot.aio")
    raise AttributeError(f"module 'heorot' has no attribute {name!r}")


__all__ = [
    "DEVNULL",
    "PIPE",
    "Chunk",
    "Cluster",
    "Completed",
    "ConnectionLost",
    "Copied",
    "CopyError",
    "HeorotError",
    "Job",
    "JobFailed",
    "NodeListError",
    "ProtocolError",
    "RankEvent",
    "RankHandle",
    "RankUsage",
    "RequestError",
    "Status",
    "__version__",
    "connect",
]
