"""What a job's or a cluster's method does, written once for both forms of the library.

It is a generator: it speaks to the session, and where it has to wait it yields what for. `heorot.client.runner` waits
by reading the connection itself, `heorot.client.aio_runner` lets an event loop do so. Between two steps nobody else
touches the session.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

from heorot.core.client.conversation import Request


class Until(NamedTuple):
    """Wait until `condition` holds. The answer is whether it does; False: the time is over.

    If the connection ends before, the RequestError that says why is raised where this is yielded.
    """

    condition: Callable[[], bool]
    timeout_s: float | None = None
    """None: for ever; 0: what has arrived already is looked at once."""


class Aside(NamedTuple):
    """Do this, which takes time or may use the connection itself, while others may go on."""

    action: Callable[[], object]


T = TypeVar("T")
Step: TypeAlias = Until | Aside
Flow: TypeAlias = Generator[Step, bool, T]

NOTICE = Until(lambda: False, 0.0)
"""Take in what has arrived already, the end of the connection above all."""


def answer(request: Request, timeout_s: float | None = None) -> Flow[list[Any]]:
    """Wait for the answer to a request.

    Raises
    ------
    RequestError
        What the head refused it with.
    TimeoutError
        If the head says nothing for so long.
    """
    if not (yield Until(lambda: request.finished, timeout_s)):
        raise TimeoutError("the head did not answer in time")
    if request.error is not None:
        raise request.error
    return request.value
