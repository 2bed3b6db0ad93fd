"""Writes the first version of a configuration file, with a comment for every setting; see `heorot.config.files`."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from heorot.config.files import (
    DEFAULT_CAPACITY,
    DEFAULT_SOCKET,
    Address,
    HeadFile,
    HealthSection,
    HookSection,
    LimitsSection,
    NodeUpSection,
    PowerSection,
    StoreSection,
    TimersSection,
    TreeSection,
)

Settings = dict[str, dict[str, Any]]
"""Values by section and key."""
SHARED_SECTIONS = ("store", "tree", "limits", "timers", "power", "node_up", "health", "hook")

_HEAD_TEMPLATE = """\
# The configuration of this head. After a change: heorot config check && systemctl reload heorot-head
# (restart in place of reload for [cluster], [head], [store] and hang_ms).
# Running jobs do not notice: their processes live on the nodes.

[cluster]
id = "{cluster}"
directory = "{directory}"
# How many nodes there may be; sets the PIDs of each. To change it, stop all daemons and change it everywhere.
capacity = {capacity}
# log_level = "info"                    # debug, info, warning, error
# log_format = "text"                   # or "json": an object a line

[head]
name = "{name}"
listen = "{listen}"
# How nodes reach the heads of the cluster: those that it begins with. 'heorot head add' and 'heorot head remove' change
# that, and every head and node is told of it: this line stays as it is.
addresses = [{addresses}]
socket = "{socket}"

[store]
# Where the heads agree who leads. Heads on several hosts need etcd (version 3.4 or newer).
# kind = "local"                        # or "etcd"
# endpoints = ["https://10.0.0.11:2379", "https://10.0.0.12:2379", "https://10.0.0.13:2379"]
# lease_ms = {store.lease_ms}                       # a head that is not heard of for so long is replaced
# ca = "/etc/heorot/etcd-ca.pem"
# cert = "/etc/heorot/etcd-client.pem"  # if etcd asks for one
# key = "/etc/heorot/etcd-client.key"
# user = "heorot"
# password_file = "/etc/heorot/etcd-password"   # readable by root only

[tree]
# fanout = {tree.fanout}                           # children of the head, and of every node, at most

[limits]
# max_processes = {limits.max_processes}                  # of one job on one node, unless the job says otherwise
# max_finished_jobs = {limits.max_finished_jobs}              # jobs that are over and still listed
# All users share what follows: none may have more than is left for others; a sixteenth is for root and the head's user.
# max_jobs = {limits.max_jobs}                       # jobs that run or are read
# max_launch_bytes = {limits.max_launch_bytes}          # of commands and environments of jobs
# max_questions = {limits.max_questions}                  # of bpps and bpkill, on their way to nodes
# max_watches = {limits.max_watches}                    # of bpps --watch, bpstat --update, and programs
# max_waits = {limits.max_waits}                      # requests that wait for the end of a job
# max_stages = {limits.max_stages}                      # programs that are being handed over to the head
# max_clients = {limits.max_clients}                    # connections to head.sock
# max_client_bytes = {limits.max_client_bytes}          # memory for frames begun and answers not read

[timers]
# heartbeat_ms = {timers.heartbeat_ms}                  # a quiet link says so this often
# link_timeout_ms = {timers.link_timeout_ms}               # a link that is silent for so long is dead
# node_grace_ms = {timers.node_grace_ms}                  # so long may a lost node come back before its ranks are lost
# kill_grace_ms = {timers.kill_grace_ms}                  # between a hang-up and the kill
# query_timeout_ms = {timers.query_timeout_ms}
# hang_ms = {timers.hang_ms}                       # a head that gives no sign of life for so long is replaced

[power]
# What bpctl -R, -H and -P run on nodes, as root.
# reboot = "{power.reboot}"
# halt = "{power.halt}"
# pwroff = "{power.pwroff}"

[node_up]
# A program of this host that runs for each node that comes, with its number; the node is up when it has ended well.
# command = "/etc/heorot/node_up"
# at_once = {node_up.at_once}                           # for so many nodes at a time
# limit_ms = {node_up.limit_ms}

[health]
# A command that the active head runs on all nodes that it reaches, as root: a node on which it fails is set to error.
# command = "/usr/local/sbin/check"
# every_ms = {health.every_ms}
# limit_ms = {health.limit_ms}

[hook]
# A program of this host that runs with a node list, what these nodes were shown as, and what they are shown as now.
# command = "/etc/heorot/changed"
# limit_ms = {hook.limit_ms}

[groups]
# A change here, and in files of groups.d/ beside this file, is seen within seconds, without a restart.
# rack1 = "n0-n31"                      # bpsh @rack1 uptime
"""

_NODE_TEMPLATE = """\
# The configuration of this node. After a change: heorot config check && systemctl reload heorot-node
# Running processes do not notice: heorot-init holds them.

[cluster]
id = "{cluster}"
directory = "{directory}"
# How many nodes there may be; sets the PIDs of each. To change it, stop all daemons and change it everywhere.
capacity = {capacity}
# log_level = "info"                    # debug, info, warning, error
# log_format = "text"                   # or "json": an object a line

[node]
number = {number}
# An address of this host that other nodes reach.
listen = "{listen}"
heads = [{heads}]
# hosts = true                          # show processes the names of all nodes in /etc/hosts; takes heorot-init, too
# Commands on this host are passed on to a head, for users of whom a job runs here.
{mark}socket = "{socket}"

[timers]
# heartbeat_ms = {timers.heartbeat_ms}                  # a quiet link says so this often
# link_timeout_ms = {timers.link_timeout_ms}               # a link that is silent for so long is dead
"""


def render_head(
    *,
    cluster: str,
    directory: str,
    name: str,
    listen: Address,
    addresses: list[Address],
    socket: str = DEFAULT_SOCKET,
    capacity: int = DEFAULT_CAPACITY,
    settings: Settings | None = None,
) -> str:
    """Return a commented ``head.toml`` in which every default is shown; `settings` differ from the defaults."""
    text = _HEAD_TEMPLATE.format(
        cluster=_escape(cluster),
        directory=_escape(directory),
        capacity=capacity,
        name=_escape(name),
        listen=_escape(str(listen)),
        addresses=", ".join(f'"{_escape(str(address))}"' for address in addresses),
        socket=_escape(socket),
        store=StoreSection(),
        tree=TreeSection(),
        limits=LimitsSection(),
        power=PowerSection(),
        node_up=NodeUpSection(),
        health=HealthSection(),
        hook=HookSection(),
        timers=TimersSection(),
    )
    for section, values in (settings or {}).items():
        lines = "".join(f"{_key(key)} = {_value(value)}\n" for key, value in values.items())
        text = text.replace(f"\n[{section}]\n", f"\n[{section}]\n{lines}", 1)
    return text


def shared_settings(config: HeadFile) -> Settings:
    """Return what all heads of a cluster must have alike and what is not as by default."""
    found: Settings = {"groups": dict(config.groups)}
    for section in SHARED_SECTIONS:
        values = getattr(config, section)
        found[section] = {
            item.name: list(value) if isinstance(value, tuple) else value
            for item in dataclasses.fields(values)
            if (value := getattr(values, item.name)) != item.default
        }
    return {section: values for section, values in found.items() if values}


def render_node(
    *,
    cluster: str,
    directory: str,
    number: int,
    listen: Address,
    heads: list[Address],
    capacity: int = DEFAULT_CAPACITY,
    socket: str = DEFAULT_SOCKET,
) -> str:
    """Return a commented ``node.toml``; `socket` empty: commands on the host are passed on by nobody."""
    return _NODE_TEMPLATE.format(
        cluster=_escape(cluster),
        directory=_escape(directory),
        capacity=capacity,
        number=number,
        listen=_escape(str(listen)),
        heads=", ".join(f'"{_escape(str(address))}"' for address in heads),
        socket=_escape(socket or DEFAULT_SOCKET),
        mark="" if socket else "# ",
        timers=TimersSection(),
    )


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{_escape(name)}"'


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value) if isinstance(value, int) else f'"{_escape(str(value))}"'


def _escape(text: str) -> str:
    """Return `text` for a basic string of TOML."""
    return "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
