"""What a shell of a head and of a node must do: a method for each instruction, and what the machine is told of it.

A shell runs one machine, in the same way whether it is real or simulated; `tests/shells` asks this of each of them:

- It hands over one event at a time, and carries all that the machine answers out, in order, before the next one.
  So what an instruction brings about is never told to the machine in the midst of it.
- Links and clients are numbers that it never uses twice. Of one that is gone, to whichever side's wish, nothing more is
  told; what is still to be sent there is dropped without a word.
- What is *answered* is answered once, unless the machine ends first. Whatever a method says nothing of is not answered.
- What the machine has never been told of by its own contract, it must not ask for: `Dispatch.carry_out`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from heorot.core.dispatch import Dispatch
from heorot.core.machine import (
    CloseClient,
    CloseLink,
    Compare,
    Connect,
    DropCopies,
    Examine,
    Forget,
    HeadInstruction,
    KeepChunks,
    KeepManifest,
    Log,
    MakeView,
    NodeInstruction,
    Remember,
    Send,
    SendChunks,
    SendEncoded,
    SendManifest,
    SetTimer,
    SharedInstruction,
    Stop,
    TakeShared,
    ToClient,
    ToSpace,
)
from heorot.core.wire.events import KeepEvents, TellSite
from heorot.core.wire.wishes import KeepWishes, Prepare


class LinkShell(ABC):
    """Links, timers and the log: what heads and nodes have in common."""

    __slots__ = ()

    @abstractmethod
    def send(self, item: Send) -> None:
        """The neighbour gets the messages of a link in order, except that all others may overtake those of `bulk`."""

    @abstractmethod
    def close_link(self, item: CloseLink) -> None:
        """The neighbour gets what was sent before, then the end. The machine hears nothing of this link any more: no
        `LinkClosed`, and nothing that was on its way to it.
        """

    @abstractmethod
    def connect(self, item: Connect) -> None:
        """Answered by `LinkOpened` or `ConnectFailed`. If the neighbour is gone again, `LinkClosed` follows, after all
        that has come of it.
        """

    @abstractmethod
    def set_timer(self, item: SetTimer) -> None:
        """Answered by `TimerFired`, when it is time and never before. One that is set again fires once."""

    @abstractmethod
    def log(self, item: Log) -> None:
        """Write it down."""

    @abstractmethod
    def stop(self, item: Stop) -> None:
        """The machine gets no further event. What it has sent on links that it has closed still leaves."""


class CacheShell(ABC):
    """The image cache of a host."""

    __slots__ = ()

    @abstractmethod
    def examine(self, item: Examine) -> None:
        """Answered by `Examined`, or `CacheFailed` if the cache cannot be read."""

    @abstractmethod
    def forget(self, item: Forget) -> None:
        """What is here of the image stays as long as there is room."""

    @abstractmethod
    def keep_manifest(self, item: KeepManifest) -> None:
        """Answered by `Examined` or `CacheFailed`."""

    @abstractmethod
    def keep_chunks(self, item: KeepChunks) -> None:
        """They can be sent from now on; answered only if that is not so, by `CacheFailed`."""

    @abstractmethod
    def take_shared(self, item: TakeShared) -> None:
        """Answered by `SharedTaken`, which says what was there and right, or by `CacheFailed` if there is no room. Any
        number of other events may come before: it takes a while.
        """

    @abstractmethod
    def send_manifest(self, item: SendManifest) -> None:
        """As `LinkShell.send` would; answered only if it cannot be read, by `CacheFailed`."""

    @abstractmethod
    def send_chunks(self, item: SendChunks) -> None:
        """As `LinkShell.send` would, as bulk and in one `Piece`; answered only if they cannot be read, by
        `ChunksGone`.
        """

    @abstractmethod
    def drop_copies(self, item: DropCopies) -> None:
        """Answered by `CopiesDropped`."""


class HopShell(LinkShell, CacheShell, Dispatch[SharedInstruction], instructions=SharedInstruction):
    """Runs what heads and nodes have in common: a hop of images (`heorot.core.images.hop`) and nothing else."""

    __slots__ = ()


class NodeCacheShell(CacheShell):
    """The image cache of a host on which processes are started."""

    __slots__ = ()

    @abstractmethod
    def compare(self, item: Compare) -> None:
        """Answered by `Compared`, at once or after any number of others that say that it takes a while."""

    @abstractmethod
    def make_view(self, item: MakeView) -> None:
        """Answered by `ViewMade`."""


class HeadShell(LinkShell, CacheShell, Dispatch[HeadInstruction], instructions=HeadInstruction):
    """Runs the machine of a head."""

    __slots__ = ()

    @abstractmethod
    def to_client(self, item: ToClient) -> None:
        """The client gets its messages in order."""

    @abstractmethod
    def close_client(self, item: CloseClient) -> None:
        """The client gets what was sent before, then the end. The machine hears nothing of it any more: no
        `ClientClosed`, which is for one that has ended by itself or that the shell had to close.
        """

    @abstractmethod
    def keep_wishes(self, item: KeepWishes) -> None:
        """Answered by `WishesKept`, in the order in which they are given. Without an error, whoever leads next is given
        them in its configuration; with one, that is not certain. Any number of other events may come before.
        """

    @abstractmethod
    def prepare(self, item: Prepare) -> None:
        """Answered by `Prepared`, unless another one for the same node comes first. It takes a while."""

    @abstractmethod
    def keep_events(self, item: KeepEvents) -> None:
        """Whoever leads next is given them in its configuration, unless this cannot be done."""

    @abstractmethod
    def tell_site(self, item: TellSite) -> None:
        """The site's program is run for each, if it can be."""


class NodeShell(LinkShell, NodeCacheShell, Dispatch[NodeInstruction], instructions=NodeInstruction):
    """Runs the machine of a node's agent."""

    __slots__ = ()

    @abstractmethod
    def send_encoded(self, item: SendEncoded) -> None:
        """As `send` would, not as bulk."""

    @abstractmethod
    def to_space(self, item: ToSpace) -> None:
        """The process space gets them in order; its answers come as `FromSpace`."""

    @abstractmethod
    def remember(self, item: Remember) -> None:
        """The next machine of this node gets the value. One that is `durable` is answered by `Kept`."""


class CacheByPart(NodeCacheShell):
    """A shell that has another object look after the cache."""

    __slots__ = ()
    cache: NodeCacheShell

    def examine(self, item: Examine) -> None:
        """Left to the cache, as all that follows."""
        self.cache.examine(item)

    def forget(self, item: Forget) -> None:
        """Left to the cache."""
        self.cache.forget(item)

    def keep_manifest(self, item: KeepManifest) -> None:
        """Left to the cache."""
        self.cache.keep_manifest(item)

    def keep_chunks(self, item: KeepChunks) -> None:
        """Left to the cache."""
        self.cache.keep_chunks(item)

    def take_shared(self, item: TakeShared) -> None:
        """Left to the cache."""
        self.cache.take_shared(item)

    def send_manifest(self, item: SendManifest) -> None:
        """Left to the cache."""
        self.cache.send_manifest(item)

    def send_chunks(self, item: SendChunks) -> None:
        """Left to the cache."""
        self.cache.send_chunks(item)

    def drop_copies(self, item: DropCopies) -> None:
        """Left to the cache."""
        self.cache.drop_copies(item)

    def compare(self, item: Compare) -> None:
        """Left to the cache."""
        self.cache.compare(item)

    def make_view(self, item: MakeView) -> None:
        """Left to the cache."""
        self.cache.make_view(item)
