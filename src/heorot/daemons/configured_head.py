"""A head's settings, from its configuration file, which may change while its keeper runs."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

from heorot.bpinit.namespace import pid_range
from heorot.config.changes import changed_keys, fixed_keys
from heorot.config.files import Address, ConfigError, HeadFile, load_head
from heorot.config.layout import Layout
from heorot.core.errors import HeorotError
from heorot.daemons.head import HeadSettings
from heorot.daemons.listed_heads import open_registry
from heorot.linux.trusted_path import check_file
from heorot.security.authority import Authority
from heorot.security.join import JoinServer
from heorot.security.registry import Registry
from heorot.security.wishes import WishFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from heorot.daemons.health import HealthSettings
    from heorot.daemons.hooks import HookSettings
    from heorot.daemons.node_up import NodeUpSettings


class ConfiguredHead:
    """What stands in a configuration file. Raises HeorotError, OSError if it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.config = self._read()
        """As it was used last."""

    def _read(self) -> HeadFile:
        check_file(self._path)
        return load_head(self._path)

    def read_again(self) -> tuple[HeadSettings, tuple[str, ...]]:
        """Return the settings as they are now, and which keys have changed.

        Raises
        ------
        HeorotError
            If the file cannot be used, or if a key has changed that holds as long as the keeper runs; all stays then as
            it was.
        """
        try:
            config = self._read()
            fixed = fixed_keys(self.config, config)
            if fixed:
                raise ConfigError(
                    f"{self._path}: {', '.join(fixed)} cannot change while the head runs: systemctl restart heorot-head"
                )
            changed = changed_keys(self.config, config)
            former, self.config = self.config, config
            try:
                return self.settings(), changed
            except BaseException:
                self.config = former
                raise
        except OSError as error:
            raise HeorotError(f"{error.filename or self._path}: {error.strerror or error}") from error

    def settings(self) -> HeadSettings:
        """Return what a head begins with. Raises HeorotError, OSError."""
        config = self.config
        layout = Layout(config.cluster.directory)
        root = Path(layout.root)
        heads = open_registry(config)
        join = None
        if (root / "ca").exists():
            tell = lambda: [str(Address(host, port)) for host, port in heads.addresses()]  # noqa: E731
            join = JoinServer(Authority.load(root / "ca"), root, tell, config.tree.fanout, config.cluster.capacity)
        return HeadSettings(
            directory=Path(layout.head(config.head.name)),
            socket_path=Path(config.head.socket),
            log_path=Path(layout.log(config.head.name)),
            cluster=config.cluster.id,
            name=config.head.name,
            host=config.head.listen.host,
            port=config.head.listen.port,
            nodes=lambda: tuple(Registry(root).nodes()),
            fanout=config.tree.fanout,
            machine={
                "others": _others(config),
                "groups": config.groups,
                "power": config.power.commands(),
                # Without root, nodes hold plain processes, and a PID does not tell its node.
                "pid_range": pid_range(0, config.cluster.capacity)[1] if os.geteuid() == 0 else 0,
                **dataclasses.asdict(config.limits),
                "heartbeat_ms": config.timers.heartbeat_ms,
                "link_timeout_ms": config.timers.link_timeout_ms,
                # Heads on one host share its fate: only a host can vanish without a word.
                "lease_ms": config.store.lease_ms if config.store.kind == "etcd" else 0,
                "node_grace_ms": config.timers.node_grace_ms,
                "kill_grace_ms": config.timers.kill_grace_ms,
                "query_timeout_ms": config.timers.query_timeout_ms,
                "swarm_gain_ms": config.images.swarm_gain_ms,
            },
            join=join.session if join else None,
            registry=Registry(root),
            configuration=self._path.absolute(),
            wishes=WishFile(root),
            asks_keeper=config.store.kind == "etcd",
            node_up=_node_up(config, layout),
            hook=_hook(config, layout),
            health=_health(config),
            hang_ms=config.timers.hang_ms,
            log_level=config.cluster.log_level,
            log_in_json=config.cluster.log_format == "json",
            image_cache_bytes=config.images.cache_bytes,
            # With the local store all heads are on this host, and the active one serves its clients.
            passes_on=config.store.kind == "etcd",
            heads=heads,
        )


def _node_up(config: HeadFile, layout: Layout) -> NodeUpSettings | None:
    """Return the site's script, if it has one. Raises HeorotError if somebody else could change it."""
    if not config.node_up.command:
        return None
    from heorot.daemons.node_up import NodeUpSettings

    command = Path(config.node_up.command)
    check_file(command)
    return NodeUpSettings(
        command,
        Path(layout.root) / "log" / "node_up",
        Path(config.head.socket).parent,
        config.node_up.at_once,
        config.node_up.limit_ms,
    )


def _hook(config: HeadFile, layout: Layout) -> HookSettings | None:
    """Return the site's hook, if it has one. Raises HeorotError if somebody else could change it."""
    if not config.hook.command:
        return None
    from heorot.daemons.hooks import HookSettings

    command = Path(config.hook.command)
    check_file(command)
    log = Path(layout.root) / "log" / "node_up" / "hook.log"
    return HookSettings(command, log, Path(config.head.socket).parent, config.hook.limit_ms)


def _health(config: HeadFile) -> HealthSettings | None:
    if not config.health.command:
        return None
    from heorot.daemons.health import HealthSettings

    words = tuple(shlex.split(config.health.command))
    return HealthSettings(words, Path(config.head.socket).parent, config.health.every_ms, config.health.limit_ms)


def _others(config: HeadFile) -> tuple[tuple[str, int], ...]:
    """Return where heads on other hosts are."""
    if config.store.kind == "local":
        return ()
    return tuple((other.host, other.port) for other in config.head.addresses if other != config.head.listen)
