"""Mitogen: an interpreter for each node, called from one program."""

from __future__ import annotations

from bench.peers.peer import DrivenPeer


class Mitogen(DrivenPeer):
    """Local connections: no TLS, no signature, output as the result of a call."""

    key, name = "mitogen", "Mitogen"
    how = "`call_async` over local connections, without encryption, signatures or streams"
    wheels = (("mitogen", "mitogen"),)
    driver = "mitogen"
