"""The coordination store of real clusters: etcd, version 3.

Everything lies below ``/heorot/CLUSTER/``:

- ``identity``: whose cluster this is (the fingerprint of its authority);
- ``epoch``: the highest epoch that was given out, in decimal digits; it only grows;
- ``leader``: who leads, in which epoch; it vanishes with the leader's lease;
- ``candidates/NAME``: one for each head that is alive, each below a lease of its own; a nonce, and the host's name;
- ``preferred``: who shall lead next, below a short lease;
- ``~records``: nodes and tokens, signed (`heorot.security.shared`), and ``stamp``, their SHA-256: who has these already
  need not read them.

A head is elected by one transaction, which holds only if nobody leads and the epoch is still the one that was read: it
writes leader and epoch together. Leases and locks of etcd are no fence; the epoch at the nodes is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import select
import socket
import time
import urllib.parse
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from heorot.coord.etcd_client import EtcdClient, EtcdSettings, decode64, encode64, number
from heorot.coord.port import Shared
from heorot.core.errors import HeorotError
from heorot.core.keeper.election import (
    HOLD_BACK_S,
    Leadership,
    LeaseLost,
    StoreForeign,
    StoreRefused,
    StoreUnavailable,
    Term,
)

MAX_KEYS = 256
RECORDS = "~records"
"""Behind all other keys, so that these are read without it."""
CALL_BUDGET_S = 3.0


class _Key(Struct, frozen=True):
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int


class EtcdStore:
    """One candidate's view of the store.

    `cluster` names the cluster, `authority` is the fingerprint of its authority; a leader that is not heard of for
    `lease_s` (whole seconds, rounded up; etcd's own limit may be higher) is replaced. `shared` are the
    records of nodes and tokens that the hosts of all heads are to have. Raises StoreRefused.
    """

    kind = "etcd"

    def __init__(
        self,
        settings: EtcdSettings,
        cluster: str,
        authority: str,
        name: str,
        lease_s: float = 3.0,
        shared: Shared | None = None,
    ) -> None:
        self._shared = shared
        self._records = self._stamp = b""
        """What this head and etcd agreed on last, and its SHA-256 in hex."""
        self._client = EtcdClient(settings)
        self._prefix = f"/heorot/{urllib.parse.quote(cluster, safe='')}/"
        self._authority = authority
        self._name = name
        self._nonce = os.urandom(8).hex()
        self._candidate_value = f"{self._nonce} {socket.gethostname()}".encode()
        self._ttl_s = math.ceil(lease_s)
        self.lease_s = float(self._ttl_s)
        self.renew_every_s = self._ttl_s / 3
        self.look_every_s = self._ttl_s / 3
        self._candidate_lease = 0
        self._candidate_due_s = 0.0
        self._is_announced = False
        self._leader_lease = 0
        self._leader_value = b""
        self._watch: socket.socket | None = None

    # ------------------------------------------------------------------ the port

    def look(self) -> Leadership:
        """See `heorot.coord.port.Store`."""
        self._hear_watch()
        self._announce(CALL_BUDGET_S)
        # The watch first: what changes after it stands makes it speak, and what changed before is read now.
        self._renew_watch()
        keys = self._read(CALL_BUDGET_S)
        namesake = self._check_announced(keys)
        # First: this refuses the keys of another cluster.
        view = self._view(keys)
        return self._share(replace(view, warning=namesake), keys, CALL_BUDGET_S)

    def hints(self) -> list[int]:
        """The watch, which speaks when a key of this cluster changes."""
        return [self._watch.fileno()] if self._watch is not None else []

    def campaign(self, floor: int) -> Term | None:
        """See `heorot.coord.port.Store`."""
        keys = self._read(CALL_BUDGET_S)
        if self._view(keys).leader:
            return None
        stored = self._epoch(keys)
        epoch = max(stored, floor) + 1
        lease = self._grant(self._ttl_s)
        value = json.dumps({"name": self._name, "epoch": epoch, "term": f"{self._nonce}.{lease}"}).encode()
        wishes = [self._unchanged("leader", keys), self._unchanged("epoch", keys), self._unchanged("identity", keys)]
        puts = [
            self._put("identity", json.dumps({"authority": self._authority}).encode()),
            self._put("epoch", str(epoch).encode()),
            self._put("leader", value, lease),
            {"request_delete_range": {"key": self._key("preferred")}},
        ]
        answer = self._call("/v3/kv/txn", {"compare": wishes, "success": puts})
        # The answer to a first attempt may have been lost: then the second one finds that we lead.
        if not answer.get("succeeded"):
            now = self._read(CALL_BUDGET_S).get("leader")
            if now is None or now.value != value:
                self._revoke(lease)
                return None
        self._leader_lease, self._leader_value = lease, value
        warning = self._take_records()
        if stored < floor:
            warning = f"etcd gives epoch {stored} for this cluster, but {floor} was seen here: going on above that"
        return Term(epoch, warning=warning)

    def handed_over(self, pid: int) -> None:
        """Nothing: the lease is the keeper's."""

    def renew(self) -> Leadership:
        """See `heorot.coord.port.Store`."""
        budget_s = self._ttl_s / 4
        self._hear_watch()
        if not self._keep_alive(self._leader_lease, budget_s):
            raise LeaseLost("its lease in etcd has run out")
        # The lease stands, whatever comes of this.
        with contextlib.suppress(StoreUnavailable, StoreRefused):
            self._announce(budget_s)
            self._renew_watch()
        keys = self._read(budget_s)
        namesake = self._check_announced(keys)
        leader = keys.get("leader")
        if leader is None or leader.value != self._leader_value:
            raise LeaseLost(f"etcd says that {self._view(keys).leader or 'nobody'} leads")
        return self._share(replace(self._view(keys), warning=namesake), keys, budget_s)

    def _share(self, view: Leadership, keys: dict[str, _Key], budget_s: float) -> Leadership:
        """Bring the records of this host and those in etcd together; return `view`, with how that went."""
        if self._shared is None:
            return view
        # It has time until the next look: the lease stands, whatever comes of this.
        try:
            stored = keys["stamp"].value if "stamp" in keys else b""
            theirs = self._records if stored == self._stamp else self._read_records(budget_s)
            ours = self._shared.merge(theirs)
            stamp = hashlib.sha256(ours).hexdigest().encode()
            if stamp != stored:
                # Whoever leads has read what was there when it was elected: nothing is put behind its back.
                wishes = [self._unchanged("stamp", keys), self._unchanged("leader", keys)]
                puts = [self._put("stamp", stamp), self._put(RECORDS, ours)]
                body = {"compare": wishes, "success": puts}
                if not self._call("/v3/kv/txn", body, budget_s).get("succeeded"):
                    return replace(view, shared=False)  # another head was faster; the next look takes its records in
            self._records, self._stamp = ours, stamp
        except StoreUnavailable:
            return replace(view, shared=False)  # that is said where it matters
        except (HeorotError, OSError) as error:
            text = f"nodes and tokens are not shared with the other heads: {error}"
            return replace(view, warning=view.warning or text, shared=False)
        return view

    def _take_records(self) -> str:
        """Take over all that heads have put into etcd before this one was elected; return what is wrong with it.

        Raises
        ------
        StoreUnavailable, StoreRefused
            If that cannot be done. This one does not lead then: it would not know what it has to go by.
        """
        if self._shared is None:
            return ""
        try:
            keys = self._read(CALL_BUDGET_S)
            if "stamp" in keys and keys["stamp"].value != self._stamp:
                self._shared.merge(self._read_records(CALL_BUDGET_S))
        except (StoreUnavailable, StoreRefused, OSError) as error:
            with contextlib.suppress(HeorotError):
                self.resign()
            if isinstance(error, OSError):
                raise StoreRefused(f"cannot write down what the heads share: {error.strerror or error}") from error
            raise
        except HeorotError as error:
            # What is damaged here is repaired by hand; until then somebody has to lead.
            return f"goes by what this host has of what the heads share: {error}"
        return ""

    def _read_records(self, budget_s: float) -> bytes:
        rows = self._call("/v3/kv/range", {"key": self._key(RECORDS)}, budget_s).get("kvs") or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise StoreRefused("etcd does not say what the records are")
        return decode64(rows[0].get("value")) if rows else b""

    def resign(self) -> None:
        """See `heorot.coord.port.Store`: revoking the lease deletes the leader's key."""
        lease, self._leader_lease, self._leader_value = self._leader_lease, 0, b""
        if lease:
            self._call("/v3/lease/revoke", {"ID": str(lease)}, self._ttl_s / 2)

    def prefer(self, name: str) -> None:
        """See `heorot.coord.port.Store`."""
        put = self._put("preferred", name.encode(), self._grant(math.ceil(HOLD_BACK_S)))
        self._call("/v3/kv/put", put["request_put"])

    def close(self) -> None:
        """See `heorot.coord.port.Store`."""
        with contextlib.suppress(HeorotError):
            self.resign()
        self._revoke(self._candidate_lease)
        self._candidate_lease = 0
        self._close_watch()
        self._client.close()

    # ------------------------------------------------------------------ what the keys say

    def _view(self, keys: dict[str, _Key]) -> Leadership:
        identity = keys.get("identity")
        if identity is not None:
            theirs = _object(identity.value, f"{self._prefix}identity").get("authority")
            if theirs != self._authority:
                raise StoreForeign(
                    f"{self._prefix} in etcd belongs to another cluster, with the authority {str(theirs)[:80]!r} "
                    f"(ours is {self._authority!r}): give one of them another id, or delete these keys if that is gone"
                )
        leader = ""
        if "leader" in keys:
            leader = str(_object(keys["leader"].value, f"{self._prefix}leader").get("name", ""))
            if not leader:
                raise StoreRefused(f"{self._prefix}leader in etcd names nobody")
            if not keys["leader"].lease:
                # It would never vanish, and nobody could be elected without a word.
                raise StoreRefused(f"{self._prefix}leader in etcd has no lease, so no head wrote it: delete this key")
        candidates = [name.removeprefix("candidates/") for name in keys if name.startswith("candidates/")]
        preferred = keys["preferred"].value.decode("utf-8", "replace") if "preferred" in keys else ""
        return Leadership(leader, self._epoch(keys), tuple(sorted(candidates)), preferred)

    def _epoch(self, keys: dict[str, _Key]) -> int:
        if "epoch" not in keys:
            return 0
        text = keys["epoch"].value
        if not text.isdigit() or len(text) > 18:
            raise StoreRefused(
                f"{self._prefix}epoch in etcd is no number: {text[:40]!r}; put the cluster's highest epoch there"
            )
        return int(text)

    def _read(self, budget_s: float) -> dict[str, _Key]:
        """Return all keys of this cluster but the records, as a majority knows them."""
        end = self._prefix + RECORDS
        body = {"key": encode64(self._prefix.encode()), "range_end": encode64(end.encode()), "limit": str(MAX_KEYS)}
        answer = self._call("/v3/kv/range", body, budget_s)
        rows = answer.get("kvs") or []
        if not isinstance(rows, list) or not isinstance(answer.get("header"), dict) or answer.get("more"):
            raise StoreRefused(f"etcd does not say what keys there are below {self._prefix}")
        keys: dict[str, _Key] = {}
        for row in rows:
            if not isinstance(row, dict):
                raise StoreRefused(f"etcd does not say what keys there are below {self._prefix}")
            name = decode64(row.get("key")).decode("utf-8", "replace").removeprefix(self._prefix)
            numbers = number(row.get("create_revision")), number(row.get("mod_revision")), number(row.get("lease"))
            keys[name] = _Key(decode64(row.get("value")), *numbers)
        return keys

    # ------------------------------------------------------------------ requests

    def _call(self, path: str, body: dict[str, Any], budget_s: float = CALL_BUDGET_S) -> dict[str, Any]:
        return self._client.call(path, body, budget_s)

    def _key(self, name: str) -> str:
        return encode64((self._prefix + name).encode())

    def _put(self, name: str, value: bytes, lease: int = 0) -> dict[str, Any]:
        return {"request_put": {"key": self._key(name), "value": encode64(value), "lease": str(lease)}}

    def _unchanged(self, name: str, keys: dict[str, _Key]) -> dict[str, Any]:
        known = keys.get(name)
        if known is None:
            return {"key": self._key(name), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        return {"key": self._key(name), "target": "MOD", "result": "EQUAL", "mod_revision": str(known.mod_revision)}

    def _grant(self, ttl_s: int, budget_s: float = CALL_BUDGET_S) -> int:
        lease = number(self._call("/v3/lease/grant", {"TTL": str(ttl_s)}, budget_s).get("ID"))
        if not lease:
            raise StoreRefused("etcd grants no lease")
        return lease

    def _keep_alive(self, lease: int, budget_s: float) -> bool:
        """Say whether the lease goes on."""
        answer = self._call("/v3/lease/keepalive", {"ID": str(lease)}, budget_s)
        # A lease that has run out is one without a TTL: only an answer about this very lease may end a head.
        if not isinstance(answer.get("header"), dict) or number(answer.get("ID")) != lease:
            raise StoreRefused(f"etcd does not say whether a lease goes on: {str(answer)[:60]!r}")
        return number(answer.get("TTL")) > 0

    def _revoke(self, lease: int) -> None:
        """Give a lease up; if that fails, it runs out by itself."""
        if lease:
            with contextlib.suppress(HeorotError):
                self._call("/v3/lease/revoke", {"ID": str(lease)}, 1.0)

    def _announce(self, budget_s: float) -> None:
        """See that our candidate's key is there."""
        now_s = time.monotonic()
        if now_s < self._candidate_due_s:
            return
        if not self._candidate_lease or not self._keep_alive(self._candidate_lease, budget_s):
            self._candidate_lease, self._is_announced = 0, False
            self._candidate_lease = self._grant(self._ttl_s, budget_s)
        if not self._is_announced:
            put = self._put(f"candidates/{self._name}", self._candidate_value, self._candidate_lease)
            self._call("/v3/kv/put", put["request_put"], budget_s)
            self._is_announced = True
        # Counted from before the request: that is when etcd may have begun to count.
        self._candidate_due_s = now_s + self._ttl_s / 3

    def _check_announced(self, keys: dict[str, _Key]) -> str:
        """See that our candidate's key stands; return a warning if a head of the same name has put its own there."""
        key = keys.get(f"candidates/{self._name}")
        if key is None:
            # Somebody has deleted it. Its lease lives all the same: have the key put again.
            self._is_announced, self._candidate_due_s = False, 0.0
        elif key.value != self._candidate_value:
            host = key.value.decode(errors="replace").partition(" ")[2]
            return f"a head on {host!a} is called {self._name}, too: give each head a name of its own"
        return ""

    # ------------------------------------------------------------------ watch

    def _renew_watch(self) -> None:
        """See that a watch stands; without one, what changes is seen a little later."""
        self._hear_watch()
        if self._watch is not None:
            return
        end = self._prefix[:-1] + "0"
        with contextlib.suppress(StoreUnavailable):
            self._watch = self._client.watch(self._prefix.encode(), end.encode(), self._ttl_s / 6)

    def _hear_watch(self) -> None:
        """Close a watch that has spoken, or broken: it would never be silent again, and its owner never wait."""
        if self._watch is not None:
            poll = select.poll()
            poll.register(self._watch, select.POLLIN)
            if poll.poll(0):
                self._close_watch()

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def _object(value: bytes, where: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(value)
        if isinstance(found, dict):
            return found
    raise StoreRefused(f"{where} in etcd holds what no head wrote: {value[:60]!r}")
