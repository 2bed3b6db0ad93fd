"""A node's process space as its agent knows it."""

from __future__ import annotations

from heorot.core.machine import ToSpace
from heorot.core.node.context import NodeContext
from heorot.core.wire import tree as m


class KnownSpace:
    """Which incarnation of bpinit is here; it is the only one for as long as the agent runs."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self.incarnation: int | None = None
        """None: it has not said so yet."""
        self.admitted_after = ""
        """The last job before the head knew this incarnation; empty: it does not know it yet."""

    def introduced(self, inventory: m.Inventory) -> None:
        """The first inventory has come."""
        self.incarnation = inventory.incarnation
        self.admitted_after = inventory.after

    def give(self, payload: bytes, newest_of: str = "") -> None:
        """Hand over a command as it has come; `newest_of` as in `Send`."""
        self._context.emit(ToSpace(payload, newest_of))

    def inventorize(self) -> None:
        """Ask for all that it holds."""
        self.give(m.encode(m.Inventorize(self._context.headless, self._context.epoch)))

    def tell_of_head(self) -> None:
        """Pass on whether there is a head, and its epoch."""
        if self.incarnation is not None:
            self.give(m.encode(m.Alone(self._context.headless, self._context.epoch)))

    def admit(self, payload: bytes) -> None:
        """The head knows an incarnation; of this one, the first word counts."""
        admit = m.decode_head_command(payload)
        assert isinstance(admit, m.Admit)
        if admit.incarnation == self.incarnation and not self.admitted_after:
            self.admitted_after = admit.after
            self.give(payload)
