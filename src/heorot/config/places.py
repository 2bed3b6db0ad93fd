"""Where things are on a host of a cluster of many machines, unless somebody says otherwise."""

from __future__ import annotations

HEAD_PATH = "/etc/heorot/head.toml"
NODE_PATH = "/etc/heorot/node.toml"
CLIENT_DIRECTORY = "/run/heorot"
"""Where commands look for a head."""
STATE_DIRECTORY = "/var/lib/heorot"
"""Where daemons keep their keys and their state."""
