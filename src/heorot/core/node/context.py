"""What the parts of a node's machine share: configuration, time, the way up, and the instructions to give."""

from __future__ import annotations

from heorot.core.context import MachineContext
from heorot.core.machine import CloseLink, Log, NodeInstruction, Send, SetTimer
from heorot.core.node.config import NodeConfig
from heorot.core.node.timers import LookPastDue
from heorot.core.node.uplink import Uplink
from heorot.core.tickets import Verify
from heorot.core.tree.below import NodesBelow
from heorot.core.tree.below_attachments import NodeBelow
from heorot.core.tree.outcasts import Outcasts
from heorot.core.wire import tree as m


class NodeContext(MachineContext[NodeInstruction]):
    """Shared by the parts of one `heorot.core.node.machine.NodeMachine`."""

    def __init__(self, config: NodeConfig, verify: Verify) -> None:
        super().__init__()
        self.config = config
        self.verify = verify
        self.uplink = Uplink(config)
        self.epoch = config.epoch
        """The highest that a head is obeyed in; see `heorot.core.node.epoch`."""
        self.headless = True
        """The word on the head that bpinit and the children were told last."""
        self.below = NodesBelow(self.emit)
        self.records: dict[int, NodeBelow] = {}
        """What is known of the ways to the nodes below: of each that has attached here, whether it is here or not."""
        self.outcasts = Outcasts()
        """Whom the head has told this node not to let in."""

    def look_past_later(self) -> None:
        """There is no way to a head: wait for the parent to find one, but not without end."""
        patience_ms = self.config.headless_patience_ms
        wait_ms = patience_ms + self.uplink.spread(4 * patience_ms)
        self.emit(SetTimer(LookPastDue(), self.now_ms + wait_ms))

    def send_up(self, message: m.LinkMessage, bulk: bool = False) -> None:
        """Send to the parent, if there is a way up; what is dropped without one is said again over the next."""
        if self.uplink.attached:
            assert self.uplink.link is not None
            self.out.append(Send(self.uplink.link, message, bulk))

    def refuse(self, link: int, code: str, text: str, level: str = "warning") -> None:
        """Tell a neighbour why it is not wanted, and close its link."""
        self.out.append(Log(level, text, link, code))
        self.out += (Send(link, m.Refused(code, text)), CloseLink(link, text))

    def give_up_parent(self, why: str) -> None:
        """Close the link upward, and look for another parent."""
        if self.uplink.link is not None:
            self.out.append(CloseLink(self.uplink.link, why))
            self.out += self.uplink.given_up(why, self.now_ms)

    def hello(self, peer: bool = False) -> m.Hello:
        """Return the greeting of this node; `peer`: of one that comes for images only."""
        return m.Hello(
            m.PROTOCOL_VERSION,
            m.OLDEST_PROTOCOL_VERSION,
            self.config.cluster,
            self.config.node,
            self.epoch,
            self.config.release,
            self.headless,
            peer=peer,
        )
