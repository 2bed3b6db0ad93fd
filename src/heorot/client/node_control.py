"""What the library sets of nodes, in both of its forms: their states, and who may use them."""

from __future__ import annotations

from heorot.core.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:  # commands load this, and not what is only for checkers
    from typing import Any

    from heorot.client.launch import Nodes


class NodeControl:
    """The methods of a blocking `Cluster`. Each returns ``nodes``, the numbers of the nodes that were set, and
    ``late``, those of them on which something may be started yet that was launched before.

    All raise RequestError, besides what any question may be refused with: ``not-permitted``; ``not-kept`` if the store
    does not have it, so that the next head might not know; ``bad-request``, ``bad-nodes``.
    """

    def _change(self, nodes: Nodes, fields: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def set_node_state(self, nodes: Nodes, state: str, reason: str = "") -> dict[str, Any]:
        """Set nodes to a state, for all heads to come; only root and the cluster's owner may.

        Parameters
        ----------
        state:
            ``drain``: nothing is started there any more, and what runs goes on. ``error``, ``unavailable``, or a word
            of your own: only root and the owner may start anything there. ``up``: nothing of all this.
        reason:
            For people, at most 255 characters.
        """
        return self._change(nodes, state_fields(state, reason))

    def set_node_mode(self, nodes: Nodes, mode: int) -> dict[str, Any]:
        """Say who may start processes there: the x bits of chmod(1), 0o111 at most, for user, group and others."""
        return self._change(nodes, {"mode": mode})

    def set_node_owner(self, nodes: Nodes, user: str | int) -> dict[str, Any]:
        """Give nodes to a user, by name on this host or by number; only root and the cluster's owner may."""
        return self._change(nodes, {"uid": number_of_user(user)})

    def set_node_group(self, nodes: Nodes, group: str | int) -> dict[str, Any]:
        """Give nodes to a group, by name on this host or by number; their user may, to one of his own groups."""
        return self._change(nodes, {"gid": number_of_group(group)})

    def end_nodes(self, nodes: Nodes, how: str, reason: str = "") -> dict[str, Any]:
        """``reboot``, ``halt`` or ``pwroff`` nodes by the command that the site has for it; only root may.

        The nodes are set to that state until they come back, and then to what they were set to before. The answer has
        also ``job``, in which the command runs there. RequestError: ``no-power`` if there is none, as in an embedded
        cluster; ``node-down``.
        """
        return self._change(nodes, {**state_fields(how, reason), "power": True})


class AsyncNodeControl:
    """The methods of an asynchronous `Cluster`; see `NodeControl`."""

    async def _change(self, nodes: Nodes, fields: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    async def set_node_state(self, nodes: Nodes, state: str, reason: str = "") -> dict[str, Any]:
        """Set nodes to a state, for all heads to come. See `NodeControl.set_node_state`."""
        return await self._change(nodes, state_fields(state, reason))

    async def set_node_mode(self, nodes: Nodes, mode: int) -> dict[str, Any]:
        """Say who may start processes there. See `NodeControl.set_node_mode`."""
        return await self._change(nodes, {"mode": mode})

    async def set_node_owner(self, nodes: Nodes, user: str | int) -> dict[str, Any]:
        """Give nodes to a user, by name on this host or by number."""
        return await self._change(nodes, {"uid": number_of_user(user)})

    async def set_node_group(self, nodes: Nodes, group: str | int) -> dict[str, Any]:
        """Give nodes to a group, by name on this host or by number."""
        return await self._change(nodes, {"gid": number_of_group(group)})

    async def end_nodes(self, nodes: Nodes, how: str, reason: str = "") -> dict[str, Any]:
        """``reboot``, ``halt`` or ``pwroff`` nodes. See `NodeControl.end_nodes`."""
        return await self._change(nodes, {**state_fields(how, reason), "power": True})


def state_fields(state: str, reason: str) -> dict[str, Any]:
    """Return what of a request says this. Raises RequestError: ``bad-request``."""
    if not state:
        raise RequestError("bad-request", "no state is given; 'up' takes back what nodes are set to")
    return {"state": state, "reason": reason}


def number_of_user(user: str | int) -> int:
    """Return the number of a user of this host. Raises RequestError: ``bad-request``."""
    import pwd

    try:
        return _number(user) if is_number_of_id(user) else pwd.getpwnam(str(user)).pw_uid
    except KeyError:
        raise RequestError("bad-request", f"there is no user {user!r} on this host; give a number") from None


def number_of_group(group: str | int) -> int:
    """Return the number of a group of this host. Raises RequestError: ``bad-request``."""
    import grp

    try:
        return _number(group) if is_number_of_id(group) else grp.getgrnam(str(group)).gr_gid
    except KeyError:
        raise RequestError("bad-request", f"there is no group {group!r} on this host; give a number") from None


def is_number_of_id(name: str | int) -> bool:
    """Say whether a user or group is given by its number."""
    return isinstance(name, int) or (name.isascii() and name.isdecimal() and len(name) <= 10)


def _number(name: str | int) -> int:
    number = int(name)
    if not 0 <= number <= 0xFFFF_FFFE:
        raise RequestError("bad-request", f"{number} is no number of a user or group")
    return number
