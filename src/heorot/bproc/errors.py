"""What BProc's functions fail with, as exceptions with BProc's numbers."""

from __future__ import annotations

from errno import EACCES, EIO, ENOSYS, EOPNOTSUPP

from heorot.core.errors import RequestError

BE_INVALIDNODE, BE_NODEDOWN, BE_SAMENODE, BE_SLAVEDIED, BE_INVALIDPROC = range(300, 305)


class BprocError(OSError):
    """What BProc's library fails with; `errno` is its number, or one of the system's."""


class InvalidNodeError(BprocError):
    """There is no such node (``BE_INVALIDNODE``)."""

    def __init__(self, text: str) -> None:
        super().__init__(BE_INVALIDNODE, text)


class NodeDownError(BprocError):
    """The node is not up (``BE_NODEDOWN``)."""

    def __init__(self, text: str) -> None:
        super().__init__(BE_NODEDOWN, text)


class SameNodeError(BprocError):
    """The process is on this node already (``BE_SAMENODE``)."""

    def __init__(self, text: str) -> None:
        super().__init__(BE_SAMENODE, text)


class SlaveDiedError(BprocError):
    """The node went away meanwhile (``BE_SLAVEDIED``)."""

    def __init__(self, text: str) -> None:
        super().__init__(BE_SLAVEDIED, text)


class InvalidProcessError(BprocError):
    """There is no such process (``BE_INVALIDPROC``)."""

    def __init__(self, text: str) -> None:
        super().__init__(BE_INVALIDPROC, text)


class ComesLaterError(BprocError, NotImplementedError):
    """This release cannot do that yet (``ENOSYS``)."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(ENOSYS, f"{name} {why}")


def translated(error: RequestError) -> BprocError:
    """Return what BProc says where the cluster has refused with this."""
    if error.code in ("bad-nodes", "no-nodes"):
        return InvalidNodeError(error.message)
    if error.code == "node-down":
        return NodeDownError(error.message)
    if error.code == "no-power":
        return BprocError(EOPNOTSUPP, error.message)
    return BprocError(EACCES if error.code in ("not-permitted", "permission", "node-closed") else EIO, error.message)
