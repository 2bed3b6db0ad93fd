"""Mutants of those who watch and of what they are told; see `heorot.sim.mutants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from heorot.core.head.states import WatchState
from heorot.core.machine import ToClient
from heorot.core.wire import clients as c


def _tells_nobody_what_has_gone(head: Any) -> None:
    """Who watches is told what is new, and not what is no more."""
    watches, context = head.clients.watches, head.context
    honest = watches._tell

    def tell(watch: Any) -> bool:
        first = len(context.out)
        is_told = honest(watch)
        for at in range(first, len(context.out)):
            item = context.out[at]
            if isinstance(item, ToClient) and isinstance(item.message, c.Changed):
                context.out[at] = ToClient(item.client, replace(item.message, gone=[]))
        return bool(is_told)

    watches._tell = tell


def _does_not_wait_for_who_watches(head: Any) -> None:
    """The next update is sent although nobody has said that the last one was seen."""
    watches = head.clients.watches
    honest = watches._tell_if_ready

    def tell_if_ready(watch: Any) -> None:
        honest(watch)
        if watch.state is WatchState.TOLD:
            watches.seen(watch.caller.client, watch.ask.request)

    watches._tell_if_ready = tell_if_ready


def _watches_one_head_only(session: Any) -> None:
    """The next head is not asked to tell what its predecessor was watched for."""
    honest = session.connection_lost

    def connection_lost() -> Any:
        for number, request in list(session.unanswered.items()):
            if request.message[0] == "watch":
                del session.unanswered[number]
        return honest()

    session.connection_lost = connection_lost


HEAD: dict[str, Callable[[Any], None]] = {
    "head-tells-nobody-what-has-gone": _tells_nobody_what_has_gone,
    "head-does-not-wait-for-who-watches": _does_not_wait_for_who_watches,
}
SESSION: dict[str, Callable[[Any], None]] = {
    "session-watches-one-head-only": _watches_one_head_only,
}
FOCUS: dict[str, dict[str, Any]] = {
    "head-tells-nobody-what-has-gone": {"watchers": 3, "max_finished_jobs": 4},
    "head-does-not-wait-for-who-watches": {"watchers": 3},
    "session-watches-one-head-only": {"watchers": 3, "head_weight": 4},
}
