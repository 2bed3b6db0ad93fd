"""What the registry of heads says, for a keeper: its host's disk may be damaged, and the lease goes on all the same."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

from heorot.config.files import Address, HeadFile
from heorot.core.errors import HeorotError
from heorot.core.wire.heads import HeadAddress
from heorot.security.head_registry import HeadRegistry
from heorot.security.tokens import TokenStore


class ListedHeads:
    """The registry of heads as it was read last."""

    def __init__(self, registry: HeadRegistry, log: Callable[[str, str], None]) -> None:
        self._registry = registry
        self._log = log
        self._heads: tuple[HeadAddress, ...] = ()
        self._said = ""

    def read(self) -> tuple[HeadAddress, ...]:
        """Return all heads that the cluster is to have; empty: that cannot be read."""
        try:
            self._heads = self._registry.listed()
            self._said = ""
        except HeorotError as error:
            if str(error) != self._said:
                self._said = str(error)
                self._log("error", self._said)
        return self._heads

    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Return host and port of each of them."""
        return tuple((head.host, head.port) for head in self.read())

    def address_of(self, name: str) -> tuple[str, int] | None:
        """Return host and port of the head of this name; None: it is not listed."""
        return next(((head.host, head.port) for head in self.read() if name and head.name == name), None)

    def removed(self) -> frozenset[str]:
        """Return the names of the heads that were removed from the cluster; empty: that cannot be read."""
        try:
            return self._registry.removed()
        except HeorotError:
            return frozenset()  # `read` says what is wrong


def open_registry(config: HeadFile) -> HeadRegistry:
    """Return the registry of heads, with what the configuration says in it. Raises HeorotError or OSError."""
    root = Path(config.cluster.directory)
    registry = HeadRegistry(root)
    with TokenStore(root).lock():
        registry.seed(config.head.addresses, own_address(config), config.head.name)
    return registry


def own_address(config: HeadFile) -> Address | None:
    """Return which of the heads' addresses is that of the head on this host; None: that cannot be told."""
    listen, addresses = config.head.listen, config.head.addresses
    if listen in addresses or len(addresses) == 1:
        return listen if listen in addresses else addresses[0]
    own = [one for one in addresses if one.port == listen.port and _is_local(one.host)]
    return own[0] if len(own) == 1 else None


def _is_local(host: str) -> bool:
    """Say whether this is an address of this host; a name is not looked up."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
        return True
    except (OSError, ValueError):
        return False
