"""Every error that Heorot raises on purpose; each names what is wrong, where, and what to do."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # commands load this, and not what is only for checkers
    from collections.abc import Callable


class HeorotError(Exception):
    """Base of all of Heorot's own errors."""


class ProtocolError(HeorotError):
    """The peer sent bytes or a message that the protocol does not allow; the link must be closed."""


class NodeListError(HeorotError):
    """A node list cannot be read, or names nodes that do not exist."""


class SecurityError(HeorotError):
    """A signature, certificate, token or permission was refused."""


class RequestError(HeorotError):
    """A client's request cannot be carried out.

    Parameters
    ----------
    code:
        One of the short words listed in docs/protocol.md (``node-down``, ``no-such-job``, ...), stable for programs.
    message:
        One sentence for people: what, where, and what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ConnectionLost(RequestError):
    """The connection to the head is gone."""

    def __init__(self, message: str) -> None:
        super().__init__("connection-lost", message)


class ProtocolBroken(RequestError, ProtocolError):
    """The head has broken the protocol: this is what becomes of every question to it."""

    def __init__(self, message: str) -> None:
        super().__init__("protocol", message)


class NotYetError(RequestError):
    """A refusal of which it can be told when it may be one no longer: `is_over` costs next to nothing."""

    def __init__(self, code: str, message: str, is_over: Callable[[], bool]) -> None:
        super().__init__(code, message)
        self.is_over = is_over


def no_directory() -> RequestError:
    """Return the error that the working directory, to which a name is relative, was removed."""
    return RequestError("no-directory", "the working directory does not exist any more: change to another one")
