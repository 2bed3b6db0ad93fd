"""The configuration of a cluster of many machines: one TOML file for a head, one for a node.

``/etc/heorot/head.toml`` is written by ``heorot head init``, ``/etc/heorot/node.toml`` by ``heorot node join``. Every
key is checked: an unknown one, a wrong type or a value out of range is an error that says where it stands. The embedded
cluster of ``heorot up`` needs none of this.
"""

from __future__ import annotations

import dataclasses
import difflib
import shlex
import tomllib
import typing
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from heorot.config.places import CLIENT_DIRECTORY, HEAD_PATH, NODE_PATH, STATE_DIRECTORY
from heorot.config.site_programs import HealthSection as HealthSection
from heorot.config.site_programs import HookSection as HookSection
from heorot.config.site_programs import NodeUpSection as NodeUpSection
from heorot.config.site_programs import PowerSection as PowerSection
from heorot.config.site_programs import ranged as _ranged
from heorot.core.errors import HeorotError

DEFAULT_HEAD_PATH = Path(HEAD_PATH)
DEFAULT_NODE_PATH = Path(NODE_PATH)
DEFAULT_DIRECTORY = STATE_DIRECTORY
DEFAULT_SOCKET = f"{CLIENT_DIRECTORY}/head.sock"
DEFAULT_HEAD_PORT = 7733
DEFAULT_NODE_PORT = 7734
DEFAULT_CAPACITY = 1023
"""4,096 PIDs for each node."""
MAX_CAPACITY = 8191
"""512 PIDs for each node."""


class ConfigError(HeorotError):
    """A configuration file cannot be used; says which key, why, and what would do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon accepts links."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, default_port: int | None = None) -> Address:
    """Read ``HOST:PORT``, ``[IPV6]:PORT`` or, with a default, ``HOST`` alone.

    Raises
    ------
    ConfigError
        If it is none of these.
    """
    host, port_text = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"{text!r} is not an address: write [IPV6]:PORT")
        port_text = rest[1:]
    elif text.count(":") == 1:
        host, _, port_text = text.partition(":")
    if not host or any(character.isspace() for character in host):
        raise ConfigError(f"{text!r} is not an address: write HOST:PORT")
    if not port_text:
        if default_port is None or text.endswith(":"):
            raise ConfigError(f"{text!r} has no port: write HOST:PORT")
        return Address(host, default_port)
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise ConfigError(f"{text!r} has no usable port: use 1 to 65535")
    return Address(host, int(port_text))


@dataclass(frozen=True, slots=True)
class ClusterSection:
    """``[cluster]``: what all daemons of the host share."""

    id: str
    """The cluster's id, as in its certificates."""
    directory: str = DEFAULT_DIRECTORY
    """Keys, tokens, registry, spools: everything that must outlive a reboot."""
    capacity: int = _ranged(DEFAULT_CAPACITY, 1, MAX_CAPACITY)
    """How many nodes the cluster may have. All PIDs of Linux are divided among them, so all hosts must agree."""
    log_level: str = field(default="info", metadata={"choices": ("debug", "info", "warning", "error")})
    log_format: str = field(default="text", metadata={"choices": ("text", "json")})


@dataclass(frozen=True, slots=True)
class HeadSection:
    """``[head]``."""

    name: str
    listen: Address
    """Where nodes connect to; an address, not a name."""
    addresses: tuple[Address, ...]
    """What joining nodes are told: how they reach every head of the cluster, this one included."""
    socket: str = DEFAULT_SOCKET
    """Where commands connect to."""


@dataclass(frozen=True, slots=True)
class NodeSection:
    """``[node]``."""

    number: int = field(metadata={"range": (0, 65535)})
    listen: Address
    """Where other nodes connect to: an address of this host that they can reach."""
    heads: tuple[Address, ...]
    """Tried in this order, and again for as long as it takes."""
    hosts: bool = True
    """Show processes here a hosts file that knows all nodes, in the place of /etc/hosts."""
    socket: str = ""
    """Where commands on this host connect to, to be passed on to a head; empty: nowhere."""


@dataclass(frozen=True, slots=True)
class TreeSection:
    """``[tree]``."""

    fanout: int = _ranged(32, 2, 1024)
    """Children of the head, and of every node, at most."""


@dataclass(frozen=True, slots=True)
class LimitsSection:
    """``[limits]``."""

    max_processes: int = _ranged(4096, 1, 1 << 22)
    """Processes of one job on one node, unless the job says otherwise."""
    max_jobs: int = _ranged(4096, 1, 1 << 20)
    """Jobs that are not over, or are read. This and what follows `max_finished_jobs` are shared by all users: see
    `heorot.core.quota`."""
    max_finished_jobs: int = _ranged(1024, 0, 1 << 20)
    """Jobs that are over and still listed."""
    max_launch_bytes: int = _ranged(512 << 20, 64 << 20, 1 << 50)
    """What the commands and environments of jobs take, whose output was not collected yet."""
    max_questions: int = _ranged(1024, 16, 1 << 20)
    """Questions to nodes that are on their way, such as those of bpps and bpkill."""
    max_watches: int = _ranged(1024, 16, 1 << 16)
    """What clients watch: bpps --watch and bpstat --update, among others."""
    max_waits: int = _ranged(4096, 16, 1 << 20)
    """Requests that wait for the end of a job."""
    max_stages: int = _ranged(256, 16, 1 << 20)
    """Programs that are being handed over to the head."""
    max_clients: int = _ranged(1024, 16, 1 << 16)
    """Connections of clients."""
    max_client_bytes: int = _ranged(512 << 20, 64 << 20, 1 << 50)
    """Memory of the head for frames that clients have begun, and for answers that they have not read."""


@dataclass(frozen=True, slots=True)
class TimersSection:
    """``[timers]``, all in milliseconds."""

    heartbeat_ms: int = _ranged(10_000, 100, 600_000)
    link_timeout_ms: int = _ranged(30_000, 300, 1_800_000)
    node_grace_ms: int = _ranged(5_000, 0, 3_600_000)
    kill_grace_ms: int = _ranged(2_000, 0, 600_000)
    query_timeout_ms: int = _ranged(10_000, 100, 600_000)
    hang_ms: int = _ranged(10_000, 2_000, 600_000)
    """A head that gives no sign of life for so long, though its host does, is ended and replaced."""


@dataclass(frozen=True, slots=True)
class ImagesSection:
    """``[images]``: programs and data that were sent to this host."""

    cache_bytes: int = _ranged(4 << 30, 1 << 20, 1 << 50)
    """What they may take on the disk, below the cluster's directory; the oldest go first."""
    swarm_gain_ms: int = _ranged(200, 0, 86_400_000)
    """Nodes have an image from each other, not only from above, when all have it sooner by so much."""


@dataclass(frozen=True, slots=True)
class StoreSection:
    """``[store]``: where the heads agree who leads."""

    kind: str = field(default="local", metadata={"choices": ("local", "etcd")})
    """``local``: heads on this host only."""
    endpoints: tuple[str, ...] = ()
    """The members of etcd, as URLs; addresses are better than names, which need a resolver that answers in time."""
    lease_ms: int = _ranged(3_000, 1_000, 60_000)
    """A head whose host is not heard of for so long is replaced; whole seconds, rounded up."""
    ca: str = ""
    """Of etcd's certificates, a PEM file; empty: the host's authorities."""
    cert: str = ""
    key: str = ""
    user: str = ""
    password_file: str = ""
    """Readable by its owner only."""


@dataclass(frozen=True, slots=True)
class HeadFile:
    """All of ``head.toml``."""

    cluster: ClusterSection
    head: HeadSection
    store: StoreSection = StoreSection()
    tree: TreeSection = TreeSection()
    limits: LimitsSection = LimitsSection()
    timers: TimersSection = TimersSection()
    images: ImagesSection = ImagesSection()
    power: PowerSection = field(default_factory=PowerSection)
    node_up: NodeUpSection = field(default_factory=NodeUpSection)
    health: HealthSection = field(default_factory=HealthSection)
    hook: HookSection = field(default_factory=HookSection)
    groups: dict[str, str] = field(default_factory=dict)
    """Named node lists: ``rack1 = "n0-n31"`` is ``@rack1`` in a command."""


@dataclass(frozen=True, slots=True)
class NodeFile:
    """All of ``node.toml``."""

    cluster: ClusterSection
    node: NodeSection
    timers: TimersSection = TimersSection()
    images: ImagesSection = ImagesSection()


F = TypeVar("F", HeadFile, NodeFile)


def load_head(path: Path) -> HeadFile:
    """Read ``head.toml``. Raises ConfigError."""
    return read_head(path, _read(path))


def read_head(path: Path, text: bytes) -> HeadFile:
    """Understand the text of a ``head.toml``; `path` is for errors. Raises ConfigError."""
    config = _parse(path, text, HeadFile)
    _check_timers(path, config.timers)
    check_store(f"{path}: [store]", config.store)
    try:
        config.power.commands()
        shlex.split(config.health.command)
    except ValueError as error:
        raise ConfigError(f"{path}: [power] or [health] has what is no command line: {error}") from error
    return config


def load_node(path: Path) -> NodeFile:
    """Read ``node.toml``. Raises ConfigError."""
    config = _parse(path, _read(path), NodeFile)
    _check_timers(path, config.timers)
    return config


def _check_timers(path: Path, timers: TimersSection) -> None:
    if timers.link_timeout_ms < 2 * timers.heartbeat_ms:
        raise ConfigError(
            f"{path}: [timers] link_timeout_ms ({timers.link_timeout_ms}) must be at least twice heartbeat_ms "
            f"({timers.heartbeat_ms}), or quiet links are taken for dead"
        )


def check_store(where: str, store: StoreSection) -> None:
    """Check what belongs together. Raises ConfigError."""
    if store.kind == "etcd" and not store.endpoints:
        raise ConfigError(f'{where} endpoints is missing: for example ["https://10.0.0.11:2379"]')
    for url in store.endpoints:
        try:
            parts = urllib.parse.urlsplit(url)
            plain = not (parts.path.strip("/") or parts.username or parts.query or parts.fragment)
            usable = plain and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ConfigError(f"{where} endpoints: {url!r} is no URL of a member: write https://HOST:PORT")
    if bool(store.cert) != bool(store.key):
        raise ConfigError(f"{where} cert and key are a pair: give both or none")
    if bool(store.user) != bool(store.password_file):
        raise ConfigError(f"{where} user and password_file are a pair: give both or none")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error


def _parse(path: Path, text: bytes, kind: type[F]) -> F:
    try:
        value = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    sections = typing.get_type_hints(kind)
    _refuse_unknown(f"{path}:", "section", value, sections)
    result: dict[str, Any] = {}
    for name, section in sections.items():
        where = f"{path}: [{name}]"
        given = value.get(name, {})
        if not isinstance(given, dict):
            raise ConfigError(f"{where} must be a section, not {_name_of(given)}")
        if name == "groups":
            for group, nodes in given.items():
                if not isinstance(nodes, str):
                    raise ConfigError(f'{where} {group}: expected a node list such as "n0-n3", found {_name_of(nodes)}')
            result[name] = given
        else:
            result[name] = _read_section(where, section, given)
    return kind(**result)


def _read_section(where: str, section: Any, given: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(section)
    _refuse_unknown(where, "key", given, hints)
    values: dict[str, Any] = {}
    for item in dataclasses.fields(section):
        if item.name in given:
            values[item.name] = _read_value(f"{where} {item.name}", hints[item.name], item.metadata, given[item.name])
        elif item.default is dataclasses.MISSING:
            raise ConfigError(f"{where} {item.name} is missing")
    return section(**values)


def _read_value(where: str, hint: Any, metadata: Any, value: Any) -> Any:
    if hint is int:
        # In Python, true is an int.
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{where}: expected a whole number, found {_name_of(value)}")
        lowest, highest = metadata["range"]
        if not lowest <= value <= highest:
            raise ConfigError(f"{where}: {value} is out of range: use {lowest} to {highest}")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: expected true or false, found {_name_of(value)}")
        return value
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{where}: expected a list of texts, found {_name_of(value)}")
        return tuple(_read_value(where, str, {}, element) for element in value)
    if hint == tuple[Address, ...]:
        if not isinstance(value, list) or not value:
            raise ConfigError(
                f'{where}: expected a list of addresses such as ["10.0.0.1:7733"], found {_name_of(value)}'
            )
        return tuple(_read_value(where, Address, {}, element) for element in value)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: expected a text in quotes, found {_name_of(value)}")
    if hint is Address:
        try:
            return parse_address(value)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    choices = metadata.get("choices")
    if choices and value not in choices:
        raise ConfigError(f"{where}: {value!r} is none of {', '.join(choices)}")
    return value


def _refuse_unknown(where: str, what: str, given: dict[str, Any], known: dict[str, Any]) -> None:
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ConfigError(f"{where} unknown {what} {name!r}; {hint}")


def _name_of(value: Any) -> str:
    if value == [] or value == "":
        return "an empty one"
    return f"{value!r:.60}"
