"""What a pure machine takes and gives: events and instructions, shared by the head's and the node's machine.

A machine has one method, ``handle(event, now_ms) -> list[Instruction]``. `now_ms` is a monotonic clock of the shell's,
which carries the instructions out and feeds the results back (`heorot.core.shells`); no number of a link comes twice.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from heorot.core.timers import Due
from heorot.core.wire.base import Chunk
from heorot.core.wire.clients import ClientMessage, HeadMessage
from heorot.core.wire.events import KeepEvents, TellSite
from heorot.core.wire.heads import HeadAddress
from heorot.core.wire.tree import LinkMessage
from heorot.core.wire.wishes import HealthFound, KeepWishes, Prepare, Prepared, WishesKept


class LinkOpened(Struct, frozen=True, gc=False):
    """A neighbour is connected and its certificate was verified: it is node `peer` (-1: a head)."""

    link: int
    peer: int
    connected_for: str = ""
    """The `key` of the `Connect` that this answers; empty if the neighbour connected to us."""
    holder: bytes = b""
    """Which key its certificate is for, of a node; see `NodesRemoved.given_to`."""


class LinkClosed(Struct, frozen=True, gc=False):
    """The link is gone (never sent for a link that the machine itself closed)."""

    link: int
    reason: str


class ConnectFailed(Struct, frozen=True, gc=False):
    """The `Connect` with this key failed."""

    key: str
    reason: str


class Received(Struct, frozen=True, gc=False):
    """A neighbour's message."""

    link: int
    message: LinkMessage


class TimerFired(Struct, frozen=True, gc=False):
    """A timer that was set is due; it is not set any more."""

    key: Due


class SpaceConnected(Struct, frozen=True, gc=False):
    """The agent is connected to its bpinit."""


class SpaceClosed(Struct, frozen=True, gc=False):
    """The connection to bpinit is gone: bpinit has ended, and its processes with it."""


class FromSpace(Struct, frozen=True, gc=False):
    """An encoded answer of the process space (`heorot.core.wire.tree.SpaceAnswer`)."""

    payload: Chunk


class Kept(Struct, frozen=True, gc=False):
    """The answer to a durable `Remember`."""

    name: str
    value: bytes
    error: str  # empty: it is on disk


class Compared(Struct, frozen=True, gc=False):
    """The answer to `Compare`."""

    job: str
    same: bool | None
    """None: it takes a while, and another answer follows."""


class Examined(Struct, frozen=True, gc=False):
    """The answer to `Examine` and to `KeepManifest`."""

    image: bytes
    manifest: bytes
    """Empty: it is not here."""
    chunks: list[int]
    """Those that are here, as flat ranges: first, count."""
    store: bytes = b""
    """The store that this cache shares with others of its host; empty: none."""


class SharedTaken(Struct, frozen=True, gc=False):
    """The answer to `TakeShared`."""

    image: bytes
    chunks: list[int]
    """Those that were to be taken, as flat ranges: first, count."""
    found: list[int]
    """Those of them that are here now, and right."""


class ChunksGone(Struct, frozen=True, gc=False):
    """Chunks that were to be sent cannot be read, or are not any more what they were."""

    image: bytes
    link: int
    first: int
    count: int
    chunks: list[int]
    """All that have to be fetched anew, as flat ranges: first, count."""


class CacheFailed(Struct, frozen=True, gc=False):
    """The cache cannot keep what it was given of this image."""

    image: bytes
    error: str


class CopiesFound(Struct, frozen=True, gc=False):
    """The cache holds copies of a former daemon."""


class CopiesDropped(Struct, frozen=True, gc=False):
    """The cache has dropped the copies that nobody needs."""

    used: bool
    """A process of this host reads from one that was to go."""


class ViewMade(Struct, frozen=True, gc=False):
    """The answer to `MakeView`."""

    image: bytes
    path: bytes
    error: str
    """Empty: `path` is a directory that holds every file of the image."""


class ClientOpened(Struct, frozen=True, gc=False):
    """A client has connected; the kernel says who it is: a head's, or that of `node` (`holder`: as of `LinkOpened`)."""

    client: int
    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    node: int = -1
    holder: bytes = b""


class ClientClosed(Struct, frozen=True, gc=False):
    """The client is gone (never sent for a client that the machine itself closed)."""

    client: int
    lost: bool = False
    """Only the connection to the head on standby is gone that it came through: it may be alive."""


class FromClient(Struct, frozen=True, gc=False):
    """A client's message."""

    client: int
    message: ClientMessage


class HeadsKnown(Struct, frozen=True, gc=False):
    """What the head's keeper says: all heads that are alive, how the store (its kind) is, how long we lead."""

    heads: tuple[tuple[str, str], ...]
    """Name and role (``active``, ``standby``)."""
    store: str
    reachable: bool
    since_ms: int
    """Since when that is so, on the machine's clock."""
    lease_until_ms: int | None = None
    """Until then, on the machine's clock, no other head is elected; None: not as long as this one lives."""
    problem: str = ""  # of the store, for people; empty while it is reachable
    listed: tuple[HeadAddress, ...] = ()
    """All heads that the cluster is to have, alive or not; empty: not known."""


class NodesJoined(Struct, frozen=True, gc=False):
    """The registry says which nodes have joined, up or not, as which hosts, in order, and on which heads'; all."""

    nodes: tuple[int, ...]
    hosts: tuple[tuple[int, str], ...] = ()
    masters: tuple[tuple[int, str], ...] = ()


class NodesRemoved(Struct, frozen=True, gc=False):
    """The registry of nodes says which were removed from the cluster, and who has which number; all, each time."""

    nodes: tuple[int, ...]
    given_to: tuple[tuple[int, bytes], ...] = ()
    """Each number that is given, and a digest of the key that it was given to: no other certificate is good for it."""
    former: tuple[tuple[int, bytes], ...] = ()
    """Numbers that were given anew, and the keys that they were given to before."""


class GroupsKnown(Struct, frozen=True, gc=False):
    """The files of groups of nodes say which there are: names without ``@``, and node lists; all, each time."""

    groups: dict[str, str]


class HeadHeard(Struct, frozen=True, gc=False):
    """Another head of the cluster, with its certificate, says in which epoch it leads."""

    epoch: int


class Send(Struct, frozen=True, gc=False):
    """Send on a link; `bulk` messages wait for all others."""

    link: int
    message: LinkMessage
    bulk: bool = False
    newest_of: str = ""
    """Take the place of what waits on this link under the same name; empty: of nothing."""


class SendEncoded(Struct, frozen=True, gc=False):
    """Send a link message on a link that is encoded already."""

    link: int
    payload: bytes


class CloseLink(Struct, frozen=True, gc=False):
    """Send what is queued, then close."""

    link: int
    reason: str


class Connect(Struct, frozen=True, gc=False):
    """Open a link; answered by `LinkOpened` or `ConnectFailed`, within `timeout_ms`."""

    key: str
    host: str
    port: int
    timeout_ms: int
    passed_on: bool = False
    """If a head on standby is there, it is to pass the connection on to the active one."""


class SetTimer(Struct, frozen=True, gc=False):
    """Set (or move) the timer for this; answered by `TimerFired`."""

    key: Due
    at_ms: int


class ToSpace(Struct, frozen=True, gc=False):
    """Hand an encoded command to the node's process space."""

    payload: bytes
    newest_of: str = ""
    """As in `Send`."""


class Remember(Struct, frozen=True, gc=False):
    """Keep this value on disk under this name; it is given back to the next machine of this node."""

    name: str
    value: bytes
    durable: bool = False
    """It must survive a power cut, and is answered by `Kept`."""


class ToClient(Struct, frozen=True, gc=False):
    """Send to a client."""

    client: int
    message: HeadMessage


class CloseClient(Struct, frozen=True, gc=False):
    """Send what is queued, then close. To the machine it is gone at once: no event says so."""

    client: int


class Log(Struct, frozen=True, gc=False):
    """One line for the daemon's log."""

    level: str
    """``debug``, ``info``, ``warning`` or ``error``."""
    text: str
    link: int = 0
    """A warning of what the neighbour at this link can bring about as often as it likes: told once in a while."""
    why: str = ""
    """What kind of thing that is, in words that are ours: one of few."""


class Stop(Struct, frozen=True, gc=False):
    """The daemon's work is over: end it, with this reason."""

    reason: str


class Compare(Struct, frozen=True, gc=False):
    """See whether a file has this content (`heorot.core.images.manifest.file_id`); answered by `Compared`."""

    job: str
    path: bytes
    file_id: bytes


class Examine(Struct, frozen=True, gc=False):
    """Look up what the cache has of an image, and keep it until `Forget`; answered by `Examined`."""

    image: bytes


class Forget(Struct, frozen=True, gc=False):
    """The cache may evict what it has of this image."""

    image: bytes


class KeepManifest(Struct, frozen=True, gc=False):
    """Put an image's manifest into the cache; answered by `Examined` or `CacheFailed`."""

    image: bytes
    data: bytes


class KeepChunks(Struct, frozen=True, gc=False):
    """Put consecutive chunks, which were checked, into the cache; `CacheFailed` says if that did not work."""

    image: bytes
    first: int
    chunks: list[Chunk]


class TakeShared(Struct, frozen=True, gc=False):
    """Take chunks, flat ranges, into the cache from the store that it shares; answered by `SharedTaken`."""

    image: bytes
    chunks: list[int]


class SendManifest(Struct, frozen=True, gc=False):
    """Send an image's manifest from the cache on a link."""

    image: bytes
    link: int


class SendChunks(Struct, frozen=True, gc=False):
    """Send consecutive chunks from the cache on a link, as bulk; `ChunksGone` says if they cannot be read."""

    image: bytes
    link: int
    first: int
    count: int
    check: bool
    """See first whether they still are what they should be."""


class DropCopies(Struct, frozen=True, gc=False):
    """Drop every copy (`heorot.core.images.manifest.Manifest.is_copy`) from the cache, but for these, those between
    `Examine` and `Forget`, and those that a process of this host reads from; answered by `CopiesDropped`."""

    keep: list[bytes]


class MakeView(Struct, frozen=True, gc=False):
    """Lay out the files of an image for the process space; answered by `ViewMade`."""

    image: bytes


LinkEvent: TypeAlias = LinkOpened | LinkClosed | ConnectFailed | Received | TimerFired
CacheEvent: TypeAlias = Examined | SharedTaken | ChunksGone | CacheFailed | CopiesFound | CopiesDropped
NodeEvent: TypeAlias = LinkEvent | SpaceConnected | SpaceClosed | FromSpace | Kept | CacheEvent | Compared | ViewMade
ClientEvent: TypeAlias = ClientOpened | ClientClosed | FromClient
RecordEvent: TypeAlias = HeadsKnown | NodesJoined | NodesRemoved | GroupsKnown | WishesKept | Prepared | HealthFound
HeadEvent: TypeAlias = LinkEvent | ClientEvent | RecordEvent | HeadHeard | CacheEvent
LinkInstruction: TypeAlias = Send | CloseLink | Connect | SetTimer | Log | Stop
CacheInstruction: TypeAlias = (
    Examine | Forget | KeepManifest | KeepChunks | TakeShared | SendManifest | SendChunks | DropCopies
)
SharedInstruction: TypeAlias = LinkInstruction | CacheInstruction
"""What heads and nodes have in common."""
HeadInstruction: TypeAlias = SharedInstruction | ToClient | CloseClient | KeepWishes | Prepare | KeepEvents | TellSite
NodeInstruction: TypeAlias = SharedInstruction | SendEncoded | ToSpace | Remember | Compare | MakeView
Instruction: TypeAlias = HeadInstruction | NodeInstruction
