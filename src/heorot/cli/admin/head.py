"""``heorot head``: make a cluster of many machines, on the host of its first head; hand over to another head; read the
configuration again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from heorot.cli.admin.shared import (
    CLUSTER,
    MAX_NUMBER,
    PLACE,
    SOCKET,
    Subcommand,
    configuration,
    heads_directory,
    make_places,
    place,
    run_group,
)
from heorot.cli.arguments import Command, Option, Parsed
from heorot.config.files import (
    DEFAULT_CAPACITY,
    DEFAULT_HEAD_PATH,
    DEFAULT_HEAD_PORT,
    DEFAULT_SOCKET,
    MAX_CAPACITY,
    Address,
    ConfigError,
    load_head,
    parse_address,
)
from heorot.config.text import render_head
from heorot.core.errors import HeorotError
from heorot.embedded import control
from heorot.linux.addresses import own_addresses

CONFIG_MODE = 0o644
SWITCH_TIMEOUT_S = 10.0
SWITCH_POLL_S = 0.005


def main(argv: list[str]) -> int:
    """Run ``heorot head ARGUMENTS`` and return its exit status."""
    return run_group("head", SUBCOMMANDS, argv)


def _init(parsed: Parsed) -> int:
    from heorot.security.authority import Authority, check_head_name

    directory = place(parsed)
    config = Path(parsed.get("config") or DEFAULT_HEAD_PATH).absolute()
    listen = parse_address(parsed.get("listen", f"0.0.0.0:{DEFAULT_HEAD_PORT}"), DEFAULT_HEAD_PORT)
    name = parsed.get("name", "h0")
    check_head_name(name)
    capacity = parsed.integer("capacity", DEFAULT_CAPACITY, 0, MAX_NUMBER)
    if not 1 <= capacity <= MAX_CAPACITY:
        raise ConfigError(f"--capacity {capacity} is out of range: use 1 to {MAX_CAPACITY}")
    addresses = [parse_address(text, listen.port) for text in parsed.all("address")] or [_own_address(listen)]
    if config.exists():
        raise ConfigError(f"{config} exists already; remove it, or name another with --config")
    make_places(config, directory)
    authority = Authority.create(directory / "ca", parsed.values.get("cluster"))
    authority.issue_head(name).write(directory / "heads" / name, durable=True)
    _write_config(
        config,
        render_head(
            cluster=authority.cluster,
            directory=str(directory),
            name=name,
            listen=listen,
            addresses=addresses,
            socket=parsed.get("socket", DEFAULT_SOCKET),
            capacity=capacity,
        ),
    )
    load_head(config)
    print(f"Cluster {authority.cluster} is made. Keep a safe copy of its authority, {directory / 'ca'}.")
    print(f"Configuration: {config}")
    print("Next:")
    print("  systemctl enable --now heorot-head heorot-renew.timer")
    join = f"heorot node join {addresses[0]}"
    print(f"  {'heorot token create --uses 16':<{len(join)}}   # here")
    print(f"  {join:<29}   # on each node; asks for the token")
    return 0


def _switch(parsed: Parsed) -> int:
    began_s = time.monotonic()
    directory = heads_directory(parsed)
    keepers = _keepers(directory)
    active = [name for name, status in keepers.items() if status["role"] == "active"]
    if not active:
        others = [head["name"] for head in next(iter(keepers.values()))["heads"] if head["role"] == "active"]
        where = f"the active head is {others[0]}: run this command on its host" if others else "no head is active now"
        raise HeorotError(f"no head on this host is active; {where}")
    wish = {"do": "switch", "name": "".join(parsed.operands)}
    answer = control.ask_keeper(str(directory / "heads" / active[0]), wish)
    while time.monotonic() < began_s + SWITCH_TIMEOUT_S:
        for status in _keepers(directory).values():
            now = [head["name"] for head in status["heads"] if head["role"] == "active"]
            if now and status["epoch"] > answer["epoch"]:
                print(f"{now[0]} is the active head, epoch {status['epoch']}, {_since(began_s)}")
                return 0 if now[0] == answer["to"] else 1
        time.sleep(SWITCH_POLL_S)
    raise HeorotError(f"{answer['to']} was asked to take over, and no head is active after {SWITCH_TIMEOUT_S:g} s")


def _reload(parsed: Parsed) -> int:
    directory = heads_directory(parsed)
    status = 0
    for name in _keepers(directory):
        try:
            changed = control.ask_keeper(str(directory / "heads" / name), {"do": "reload"})["changed"]
        except HeorotError as error:
            print(f"heorot: {name}: {error}", file=sys.stderr)
            status = 1
        else:
            print(f"{name}: {'changed: ' + ', '.join(changed) if changed else 'nothing has changed'}")
    return status


def _since(began_s: float) -> str:
    return f"after {(time.monotonic() - began_s) * 1000:.0f} ms"


def _keepers(directory: Path) -> dict[str, dict[str, Any]]:
    """Return what the keepers of this host's heads say. Raises HeorotError if there is none."""
    found: dict[str, dict[str, Any]] = {}
    try:
        names = sorted(os.listdir(directory / "heads"))
    except FileNotFoundError:
        names = []
    for name in names:
        with contextlib.suppress(control.NoKeeper):
            found[name] = control.ask_keeper(str(directory / "heads" / name), {"do": "status"})
    if not found:
        raise HeorotError(f"no head of the cluster in {directory} runs on this host")
    return found


def _write_config(path: Path, text: str) -> None:
    from heorot.security.files import write_atomically

    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise HeorotError("a path or name is not valid UTF-8 and cannot be written into a configuration") from None
    write_atomically(path, data, mode=CONFIG_MODE, durable=True)


def _own_address(listen: Address) -> Address:
    """Return how others probably reach this host."""
    if listen.host not in ("0.0.0.0", "::"):
        return listen
    # Connecting a datagram socket sends nothing; the kernel says which of our addresses it would use.
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                return Address(str(probe.getsockname()[0]), listen.port)
        except OSError:
            continue
    # A network without a way out has no default route.
    found = own_addresses()
    if len(found) == 1:
        return Address(found[0], listen.port)
    which = f"which of {', '.join(found)} nodes reach" if found else "under which address nodes reach it"
    raise ConfigError(f"this host has no default route from which to tell {which}; say it with --address HOST")


SUBCOMMANDS = {
    "init": Subcommand(
        Command(
            "heorot head init",
            "[OPTION]...",
            "Make a new cluster: its certificate authority, its first head's identity, and a configuration.",
            [
                PLACE,
                Option("--name", "the head's name (default: h0)", "NAME"),
                Option("--listen", f"where to accept nodes (default: 0.0.0.0:{DEFAULT_HEAD_PORT})", "HOST:PORT"),
                Option(
                    "--address",
                    "how nodes reach a head; repeat it for several heads (default: the address of this host)",
                    "HOST[:PORT]",
                ),
                Option(
                    "--capacity",
                    "how many nodes there may be; the PIDs of Linux are divided among them"
                    f" (default: {DEFAULT_CAPACITY})",
                    "N",
                ),
                Option("--cluster", "the cluster's id (default: 16 random hex digits)", "ID"),
                SOCKET,
                configuration("to write", DEFAULT_HEAD_PATH),
            ],
        ),
        _init,
    ),
    "switch": Subcommand(
        Command(
            "heorot head switch",
            "[OPTION]... [NAME]",
            "Hand over on purpose from the active head, which runs on this host, to the standby head NAME or to any.\n"
            "Running jobs do not notice.",
            [CLUSTER],
        ),
        _switch,
        ("NAME",),
        optional=True,
    ),
    "reload": Subcommand(
        Command(
            "heorot head reload",
            "[OPTION]...",
            "Have the heads on this host read their configuration again. If it has changed, the active head begins a\n"
            "new term with it, of which jobs notice nothing. If it cannot be used, it says why, and nothing changes.",
            [CLUSTER],
        ),
        _reload,
    ),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
