"""The addresses of this host's network interfaces."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from pathlib import Path

_SIOCGIFCONF = 0x8912
_NAME_BYTES = 16
_ENTRY_BYTES = _NAME_BYTES + (24 if struct.calcsize("P") == 8 else 16)
"""Of ``struct ifreq``: a name, and a union whose largest member is ``struct ifmap`` (netdevice(7))."""
_MAX_ENTRIES = 1024
_IPV6_PATH = Path("/proc/net/if_inet6")
_GLOBAL_SCOPE = "00"


def own_addresses() -> list[str]:
    """Return under which addresses others may reach this host: of interfaces that are up, neither loopback's nor those
    that are good on one link only; first those of IPv4. Raises OSError.
    """
    return [*_ipv4(), *_ipv6()]


def _ipv4() -> list[str]:
    room = array.array("B", bytes(_ENTRY_BYTES * _MAX_ENTRIES))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("iP", len(room), room.buffer_info()[0])
        size = struct.unpack("iP", fcntl.ioctl(probe.fileno(), _SIOCGIFCONF, request))[0]
    found = []
    for at in range(0, size, _ENTRY_BYTES):
        # Behind the name there is a struct sockaddr_in: family, port, address.
        begin = at + _NAME_BYTES + 4
        address = socket.inet_ntoa(bytes(room[begin : begin + 4]))
        if not address.startswith(("127.", "169.254.")):
            found.append(address)
    return found


def _ipv6() -> list[str]:
    found = []
    # No such file: the kernel has no IPv6.
    with contextlib.suppress(FileNotFoundError):
        for line in _IPV6_PATH.read_text().splitlines():
            digits, _, _, scope, _, name = line.split()
            if scope == _GLOBAL_SCOPE and name != "lo":
                found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)))
    return found
