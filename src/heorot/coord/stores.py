"""Opens the coordination store that a configuration names."""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

from heorot.config.files import ConfigError, StoreSection
from heorot.coord.etcd import EtcdStore
from heorot.coord.etcd_client import EtcdSettings
from heorot.coord.local import LocalStore
from heorot.coord.port import Shared, Store
from heorot.core.keeper.election import StoreRefused
from heorot.linux.slot_file import no_room

MAX_PASSWORD_BYTES = 1024


def open_store(
    section: StoreSection,
    local: Path,
    cluster: str,
    identity: Path,
    name: str,
    shared: Shared | None = None,
    make_room: Callable[[], bool] = no_room,
) -> Store:
    """Return the store for the head `name`, whose identity lies in `identity`; `local` is the local store's directory.

    `shared` are the records of nodes and tokens, which heads on other hosts are to have, too; `make_room` is asked when
    the local store's disk has no room. Nothing is connected yet.

    Raises
    ------
    HeorotError
        If a file that it needs cannot be used.
    """
    if section.kind == "local":
        return LocalStore(local, name, make_room)
    settings = EtcdSettings(
        endpoints=section.endpoints,
        ca=section.ca,
        certificate=section.cert,
        key=section.key,
        user=section.user,
        password=_read_password(section.password_file) if section.user else "",
    )
    return EtcdStore(settings, cluster, _fingerprint(identity / "ca.pem"), name, section.lease_ms / 1000, shared)


def _read_password(path: str) -> str:
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(f"others may read {path} (mode {mode:o}); use: chmod 600 {path}")
            return file.read(MAX_PASSWORD_BYTES).decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"cannot read the password for etcd from {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"the password for etcd in {path} is not valid UTF-8") from None


def _fingerprint(path: Path) -> str:
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(path.read_text("ascii"))).hexdigest()
    except (OSError, ValueError) as error:
        raise StoreRefused(f"cannot read the authority's certificate {path}: {error}") from error
