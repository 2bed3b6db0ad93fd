"""bphead and bpnode on hosts of their own, under a service manager: the configuration file becomes settings."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from heorot import __version__
from heorot.config import DEFAULT_HEAD_PATH, DEFAULT_NODE_PATH, Address, HeadFile, load_head, load_node
from heorot.core.errors import HeorotError
from heorot.daemons.layout import Layout
from heorot.trusted_path import check_directory, check_file, make_directory


def _arguments(name: str, default: Path, arguments: list[str]) -> Path:
    about = {"bphead": "Run the head of a cluster, under a service manager.", "bpnode": "Run the agent of a node."}
    parser = argparse.ArgumentParser(prog=name, description=about[name])
    parser.add_argument("-v", "-V", "--version", action="version", version=f"{name} (Heorot) {__version__}")
    parser.add_argument(
        "--config", type=Path, default=default, metavar="PATH", help=f"the configuration (default: {default})"
    )
    parsed = parser.parse_args(arguments)
    return Path(parsed.config)


def head_main(arguments: list[str]) -> int:
    """Run a head from its configuration file; return the exit status."""
    from heorot.daemons import bphead
    from heorot.daemons.listed_heads import open_registry
    from heorot.daemons.stores import open_store
    from heorot.procs.namespace import pid_range
    from heorot.runtime.process import raise_descriptor_limit, set_name
    from heorot.security.authority import Authority
    from heorot.security.head_identity import check_head_identity
    from heorot.security.join import JoinServer
    from heorot.security.registry import Registry
    from heorot.security.shared import SharedRecords
    from heorot.security.signing import Signer

    path = _arguments("bphead", DEFAULT_HEAD_PATH, arguments)
    set_name("bphead-keeper")
    raise_descriptor_limit()
    try:
        check_file(path)
        config = load_head(path)
        layout = Layout(config.cluster.directory)
        root = Path(layout.root)
        check_directory(root)
        (root / "log").mkdir(exist_ok=True)
        make_directory(Path(config.head.socket).parent, 0o755)
        heads = open_registry(config)
        join = None
        if (root / "ca").exists():
            tell = lambda: [str(Address(host, port)) for host, port in heads.addresses()]  # noqa: E731
            join = JoinServer(Authority.load(root / "ca"), root, tell, config.tree.fanout, config.cluster.capacity)
        settings = bphead.HeadSettings(
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
            hang_ms=config.timers.hang_ms,
            log_level=config.cluster.log_level,
            image_cache_bytes=config.images.cache_bytes,
            # With the local store all heads are on this host, and the active one serves its clients.
            passes_on=config.store.kind == "etcd",
            heads=heads,
        )
        name = config.head.name
        check_head_identity(settings.directory, config.cluster.id, name)
        shared = SharedRecords(root, Signer.load(settings.directory / "signing.key"))
        bphead.run(
            settings,
            lambda make_room: open_store(
                config.store, root / "coord", config.cluster.id, settings.directory, name, shared, make_room
            ),
        )
    except (HeorotError, OSError) as error:
        return _failed("bphead", error)
    return 0


def _others(config: HeadFile) -> tuple[tuple[str, int], ...]:
    """Return where heads on other hosts are."""
    if config.store.kind == "local":
        return ()
    return tuple((other.host, other.port) for other in config.head.addresses if other != config.head.listen)


def node_main(arguments: list[str]) -> int:
    """Run an agent from its configuration file; return the exit status."""
    from heorot.daemons import bpnode
    from heorot.runtime.process import raise_descriptor_limit, set_name

    path = _arguments("bpnode", DEFAULT_NODE_PATH, arguments)
    raise_descriptor_limit()
    try:
        check_file(path)
        config = load_node(path)
        number = config.node.number
        set_name(f"bpnode n{number}")
        layout = Layout(config.cluster.directory)
        directory = Path(layout.node(number))
        check_directory(directory)
        (Path(layout.root) / "log").mkdir(exist_ok=True)
        (directory / "state").mkdir(mode=0o700, exist_ok=True)
        settings = bpnode.NodeSettings(
            directory=directory,
            log_path=Path(layout.log(f"n{number}")),
            cluster=config.cluster.id,
            node=number,
            host=config.node.listen.host,
            port=config.node.listen.port,
            heads=tuple((address.host, address.port) for address in config.node.heads),
            machine={
                "heartbeat_ms": config.timers.heartbeat_ms,
                "link_timeout_ms": config.timers.link_timeout_ms,
                "swarm_gain_ms": config.images.swarm_gain_ms,
            },
            log_level=config.cluster.log_level,
            image_cache_bytes=config.images.cache_bytes,
        )
        bpnode.run(settings)
    except (HeorotError, OSError) as error:
        return _failed("bpnode", error)
    return 0


def _failed(name: str, error: Exception) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    print(f"{name}: {text}", file=sys.stderr)
    return 1
