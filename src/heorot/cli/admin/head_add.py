"""``heorot head add`` and ``heorot head join``: further heads, on hosts of their own."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from heorot.cli.admin.shared import CLUSTER_DIRECTORY_MODE, PLACE, SOCKET, Subcommand, configuration, place, run_group
from heorot.cli.arguments import NO_DIRECTORY, Command, Option, Parsed, UsageError
from heorot.config.files import (
    DEFAULT_HEAD_PATH,
    DEFAULT_HEAD_PORT,
    DEFAULT_SOCKET,
    Address,
    ConfigError,
    HeadFile,
    load_head,
    parse_address,
    read_head,
)
from heorot.config.text import render_head, shared_settings
from heorot.core.errors import HeorotError
from heorot.linux.trusted_path import check_directory, make_directory

if TYPE_CHECKING:
    from heorot.security.bundle import HeadBundle

CONFIG_MODE = 0o644


def main(argv: list[str]) -> int:
    """Run ``heorot head ARGUMENTS`` (it begins with ``add`` or ``join``) and return its exit status."""
    return run_group("head", SUBCOMMANDS, argv)


# ---------------------------------------------------------------------- add


def _add(parsed: Parsed) -> int:
    from heorot.daemons.listed_heads import open_registry
    from heorot.security.authority import Authority, check_head_name
    from heorot.security.bundle import HeadBundle
    from heorot.security.registry import FILE_NAME
    from heorot.security.tokens import TokenStore

    name, address_text = parsed.operands[0], parsed.get("address")
    if not address_text:
        raise UsageError("--address is missing: say how nodes reach the new head")
    path = Path(parsed.get("config") or DEFAULT_HEAD_PATH)
    config = load_head(path)
    check_directory(config.cluster.directory)
    check_head_name(name)
    address = parse_address(address_text, DEFAULT_HEAD_PORT)
    if config.store.kind != "etcd":
        raise HeorotError(f"heads on several hosts need etcd to agree who leads: fill in [store] of {path} first")
    directory = Path(config.cluster.directory)
    if name == config.head.name or (directory / "heads" / name).exists():
        raise HeorotError(f"the head on this host is called {name} itself; give the new one another name")
    heads = open_registry(config)
    addresses = [str(Address(host, port)) for host, port in heads.addresses()]
    registry = directory / FILE_NAME
    bundle = HeadBundle(
        authority=Authority.load(directory / "ca"),
        name=name,
        address=str(address),
        addresses=list(dict.fromkeys([*addresses, str(address)])),
        capacity=config.cluster.capacity,
        settings=shared_settings(config),
        registry=registry.read_text() if registry.exists() else "",
    )
    output = Path(parsed.get("output") or f"{name}.heorot-head")
    try:
        bundle.write(output)
    except FileExistsError:
        raise HeorotError(f"{output} exists already; remove it, or name another file with --output") from None
    try:
        with TokenStore(directory).lock():
            heads.add(name, address, int(time.time() * 1000))
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    print(f"{output} makes a host the head {name} of cluster {config.cluster.id}.")
    print("Whoever has it is the cluster: move it safely, and delete it when the host has joined.")
    _say_who_is_told(config, path, address)
    print("Next:")
    print(f"  heorot head join {output.name}      # on the new host")
    print(f"  rm {output}      # here and there")
    return 0


def _say_who_is_told(config: HeadFile, path: Path, address: Address) -> None:
    """Say how the nodes learn of the new head, as things are now."""
    from heorot.embedded import control

    try:
        keeper = control.ask_keeper(str(Path(config.cluster.directory) / "heads" / config.head.name), {"do": "status"})
    except HeorotError:
        print(f"The nodes are told of {address} as soon as a head is active: no head runs on this host now.")
        return
    if keeper["store"]["kind"] != config.store.kind:
        print(f"The head on this host does not use the store of {path} yet: systemctl restart heorot-head")
    print(f"The active head tells the nodes of {address} now; 'heorot status' names those that do not know it.")


# ---------------------------------------------------------------------- join


def _join(parsed: Parsed) -> int:
    from heorot.security.bundle import read_bundle
    from heorot.security.files import write_atomically
    from heorot.security.head_registry import HeadRegistry
    from heorot.security.registry import FILE_NAME
    from heorot.security.tokens import TokenStore

    directory = place(parsed)
    path = Path(parsed.get("config") or DEFAULT_HEAD_PATH).absolute()
    bundle_path = Path(parsed.operands[0])
    bundle = read_bundle(bundle_path)
    address = parse_address(bundle.address)
    listen = parse_address(parsed.get("listen") or f"0.0.0.0:{address.port}", DEFAULT_HEAD_PORT)
    text = render_head(
        cluster=bundle.authority.cluster,
        directory=str(directory),
        name=bundle.name,
        listen=listen,
        addresses=[parse_address(one) for one in bundle.addresses],
        socket=parsed.get("socket", DEFAULT_SOCKET),
        capacity=bundle.capacity,
        settings=bundle.settings,
    )
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise HeorotError("a path or name is not valid UTF-8 and cannot be written into a configuration") from None
    # All that can be wrong is found before anything is written.
    config = read_head(path, data)
    identity = bundle.authority.issue_head(bundle.name)
    if path.exists():
        raise ConfigError(f"{path} exists already; remove it, or name another with --config")
    for present in _foreign(directory, bundle):
        raise HeorotError(f"{directory} holds a head already: {present} exists; remove it, or give another --dir")
    make_directory(path.parent, 0o755, parents=True)
    make_directory(directory, CLUSTER_DIRECTORY_MODE, parents=True)
    bundle.authority.write(directory / "ca")
    identity.write(directory / "heads" / bundle.name, durable=True)
    with TokenStore(directory).lock():
        HeadRegistry(directory).seed(config.head.addresses, address, bundle.name)
    if bundle.registry:
        write_atomically(directory / FILE_NAME, bundle.registry.encode(), durable=True)
    write_atomically(path, data, mode=CONFIG_MODE, durable=True)
    print(f"This host is the head {bundle.name} of cluster {bundle.authority.cluster}.")
    print(f"Configuration: {path}")
    store = config.store
    missing = [
        name for name in (store.ca, store.cert, store.key, store.password_file) if name and not Path(name).exists()
    ]
    print("Next:")
    if missing:
        print(f"  copy from the first head's host, for etcd: {', '.join(missing)}")
    print(f"  rm {bundle_path}      # it holds the cluster's keys; also where it was made")
    print("  systemctl enable --now heorot-head heorot-renew.timer")
    return 0


def _foreign(directory: Path, bundle: HeadBundle) -> list[Path]:
    """Return what is there already and was not put there by an attempt with this bundle that was interrupted."""
    from heorot.security.registry import FILE_NAME

    own = {directory / "ca" / name: data for name, data in bundle.authority.secret_files().items()}
    own[directory / FILE_NAME] = bundle.registry.encode()
    present = [path for path, data in own.items() if path.exists() and path.read_bytes() != data]
    heads = directory / "heads"
    return present + [path for path in sorted(heads.glob("*")) if path.name != bundle.name]


SUBCOMMANDS = {
    "add": Subcommand(
        Command(
            "heorot head add",
            "[OPTION]... --address HOST[:PORT] NAME",
            "Write a bundle that makes another host a head of this cluster, NAME, and tell all nodes its address.\n"
            "Whoever has the bundle is the cluster: move it safely, and delete it when the host has joined.",
            [
                Option("--address", "how nodes reach the new head", "HOST[:PORT]"),
                Option("--output", "the file to write (default: NAME.heorot-head)", "PATH"),
                configuration("of the head on this host", DEFAULT_HEAD_PATH),
            ],
            common=NO_DIRECTORY,
        ),
        _add,
        ("NAME",),
    ),
    "join": Subcommand(
        Command(
            "heorot head join",
            "[OPTION]... BUNDLE",
            "Make this host a further head, from the bundle that `heorot head add` wrote: the head gets a key of its\n"
            "own, made here. Nothing is overwritten.",
            [
                Option("--listen", "where to accept nodes (default: 0.0.0.0 and the port of its address)", "HOST:PORT"),
                PLACE,
                SOCKET,
                configuration("to write", DEFAULT_HEAD_PATH),
            ],
        ),
        _join,
        ("BUNDLE",),
    ),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
