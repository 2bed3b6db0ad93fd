"""What an agent is told when it starts."""

from __future__ import annotations

from msgspec import Struct

from heorot.core.images.swarms import GAIN_MS


class NodeConfig(Struct, frozen=True):
    """What an agent knows when it starts.

    `wall_offset_ms` is the wall clock minus the monotonic clock that `handle` is given. `heads` is the
    seed: where to look for a head before one has told all of them. `placement`, `epoch` and `head_list` are what an
    earlier agent of this node was told to `Remember`.
    """

    cluster: str
    node: int
    release: str
    host: str
    port: int
    heads: tuple[tuple[str, int], ...]
    placement: bytes = b""
    epoch: int = 0
    agent_pid: int = 0
    init_pid: int = 0
    wall_offset_ms: int = 0
    jitter_seed: int = 0
    heartbeat_ms: int = 10_000
    link_timeout_ms: int = 30_000
    connect_timeout_ms: int = 2_000
    merge_ms: int = 50
    swarm_gain_ms: int = GAIN_MS
    head_list: bytes = b""
    host_name: str = ""
    """What the node's host calls itself; empty: a head need not know."""
    hears_names: bool = False
    """Whether the node wants to be told the names and addresses of all nodes."""
    headless_patience_ms: int = 60_000
    """When a parent has known no way to a head for so long, or for up to five times as long, a head is asked beside."""
