"""What somebody on a node who is no agent asks a process space, and what that says of itself."""

from __future__ import annotations

from heorot.core.wire.base import Count, JobId, Message
from heorot.core.wire.replies import Process


class Look(Message, tag=59, frozen=True):
    """The first and only message of somebody on the node who is no agent and asks what runs here. Answered by one or
    more `SpaceView`, then the connection is closed."""


class SpaceView(Message, tag=85, frozen=True):
    """What a process space holds, as it says itself: the answer to `Look`."""

    node: Count
    incarnation: Count
    epoch: Count
    """The highest that the space was told of; 0: none yet."""
    agent: bool
    """An agent is connected."""
    headless_ms: Count | None
    """How long there has been no head; None: there is one, as far as the agent knows, or there was never an agent."""
    jobs: list[JobView]
    processes: list[Process]
    more: bool = False
    """Another view with further jobs and processes follows."""


class JobView(Message, frozen=True):
    """What the node holds of one job."""

    job: JobId
    uid: Count
    running: Count
    """Ranks that run or are about to."""
    exited: Count
    """Ranks that have ended; their statuses are kept."""
    failed: Count
    """Ranks that could not be started."""
    kept_bytes: Count
    """What all of its ranks have written and nobody has acknowledged."""
    headless_ms: Count
    """It ends when there has been no head for so long; 0: never."""
