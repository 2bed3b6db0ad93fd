"""Join tokens: the right to become a node of one cluster, for a short time and a number of uses.

A token is one word: ``heorot1.`` and base64url of CA fingerprint (32 bytes), token id (8), secret (24) and a check sum
(4, the begin of a SHA-256, which only catches copying errors). The head's side keeps the SHA-256 of the secret, not the
secret: 192 random bits need no slow hash.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from heorot.core.errors import SecurityError
from heorot.security.files import locked, make_private_directory, write_with_room
from heorot.security.records import Fields, RecordKind

PREFIX = "heorot1."
FINGERPRINT_BYTES = 32
TOKEN_ID_BYTES = 8
SECRET_BYTES = 24
CHECK_BYTES = 4
DEFAULT_TTL_MS = 3_600_000
MAX_TTL_MS = 30 * 24 * 3_600_000
MAX_USES = 65536
MAX_TOKENS = 4096
KEPT_AFTER_EXPIRY_MS = 24 * 3_600_000
"""So long a token that is over is remembered, to tell its holder why it does not work."""

_ID_PATTERN = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Token:
    """What the word says."""

    fingerprint: bytes
    id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Token({self.id.hex()})"

    def to_text(self) -> str:
        """Return the word: a secret."""
        body = self.fingerprint + self.id + self.secret
        return PREFIX + base64.urlsafe_b64encode(body + _check_sum(body)).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Token:
        """Read the word. Raises SecurityError, which does not repeat it."""
        text = text.strip()
        if not text.startswith(PREFIX):
            raise SecurityError(f"this is not a join token: one begins with {PREFIX!r} (see: heorot token create)")
        encoded = text.removeprefix(PREFIX)
        try:
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        body, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
        if len(body) != FINGERPRINT_BYTES + TOKEN_ID_BYTES + SECRET_BYTES or not hmac.compare_digest(
            _check_sum(body), check
        ):
            raise SecurityError("the join token was not copied completely; copy it again")
        rest = body[FINGERPRINT_BYTES:]
        token = cls(body[:FINGERPRINT_BYTES], rest[:TOKEN_ID_BYTES], rest[TOKEN_ID_BYTES:])
        # base64 ignores the last bits of the last character: of several spellings, one is the token's.
        if not hmac.compare_digest(token.to_text(), text):
            raise SecurityError("the join token was not copied completely; copy it again")
        return token


def _check_sum(body: bytes) -> bytes:
    return hashlib.sha256(b"heorot token\0" + body).digest()[:CHECK_BYTES]


def _hash_secret(secret: bytes) -> str:
    return hashlib.sha256(b"heorot token secret\0" + secret).hexdigest()


@dataclass(frozen=True)
class TokenRecord:
    """What the head keeps of a token."""

    id: str
    secret_hash: str
    created_at_ms: int
    expires_at_ms: int
    uses_left: int
    node: int = -1
    """The only number that it gives; -1: any free one."""
    revoked: bool = False
    """It is kept until it would have been forgotten anyway, so that another head does not bring it back."""

    def merged(self, other: TokenRecord) -> TokenRecord:
        """Return what two heads together know of the same token."""
        uses_left = min(self.uses_left, other.uses_left)
        return replace(self, uses_left=uses_left, revoked=self.revoked or other.revoked)

    def is_forgotten(self, now_ms: int) -> bool:
        """Say whether it has been over for so long that nobody asks for it any more."""
        return now_ms >= self.expires_at_ms + KEPT_AFTER_EXPIRY_MS


class TokenRefused(Exception):  # an outcome, not an error of the program
    """A token does not give what is asked for; `code` and `text` are for its holder."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


TokenRecords = dict[str, TokenRecord]
"""By id."""


class TokenStore(RecordKind[TokenRecords]):
    """The tokens of one cluster, ``DIR/tokens/ID.json``. Changes happen under `lock`, one process at a time."""

    def __init__(self, directory: Path) -> None:
        self.path = self.directory = Path(directory) / "tokens"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store, and with it all other records of the cluster, for a change."""
        make_private_directory(self.directory)
        with locked(self.directory / ".lock"):
            yield

    def create(
        self, fingerprint: bytes, now_ms: int, *, ttl_ms: int = DEFAULT_TTL_MS, uses: int = 1, node: int = -1
    ) -> tuple[Token, TokenRecord]:
        """Make a token.

        Parameters
        ----------
        fingerprint
            SHA-256 of the cluster's CA certificate.
        now_ms
            Wall clock.
        ttl_ms
            How long it can be used.
        uses
            How many hosts may join with it.
        node
            The number that the host gets, even if a node with that number exists, which is replaced; -1: any free one.

        Raises
        ------
        SecurityError
            If a value is out of its range, or too many tokens exist.
        """
        if not 0 < ttl_ms <= MAX_TTL_MS:
            raise SecurityError(f"a token lives for at most {MAX_TTL_MS // 86_400_000} days and more than nothing")
        if not 0 < uses <= MAX_USES:
            raise SecurityError(f"a token has 1 to {MAX_USES} uses")
        if node >= 0 and uses != 1:
            raise SecurityError("a token for one node number has one use")
        token = Token(fingerprint, secrets.token_bytes(TOKEN_ID_BYTES), secrets.token_bytes(SECRET_BYTES))
        record = TokenRecord(token.id.hex(), _hash_secret(token.secret), now_ms, now_ms + ttl_ms, uses, node)
        with self.lock():
            self._forget_old(now_ms)
            if len(self.all()) >= MAX_TOKENS:
                raise SecurityError(
                    f"{MAX_TOKENS} tokens were made already; each is forgotten a day after it has expired: use fewer"
                )
            self._write(record)
        return token, record

    # ------------------------------------------------------------------ as a kind of records

    def content(self) -> TokenRecords:
        """See `heorot.security.records.RecordKind`."""
        return {record.id: record for record in self.all()}

    def take(self, content: TokenRecords) -> None:
        """See `heorot.security.records.RecordKind`. What is not in it stays until it is forgotten."""
        ours = self.content()
        for token_id, record in content.items():
            if not _ID_PATTERN.fullmatch(token_id):
                raise SecurityError(f"{token_id[:40]!r} is no token's id")
            if record != ours.get(token_id):
                self._write(record)

    def merge(self, ours: TokenRecords, theirs: TokenRecords) -> TokenRecords:
        """See `heorot.security.records.RecordKind`."""
        found = dict(ours)
        for token_id, record in theirs.items():
            found[token_id] = found[token_id].merged(record) if token_id in found else record
        return found

    def fields(self, content: TokenRecords) -> dict[str, Any]:
        """See `heorot.security.records.RecordKind`."""
        return {"tokens": [asdict(content[token_id]) for token_id in sorted(content)]}

    def parse(self, fields: Fields) -> TokenRecords:
        """See `heorot.security.records.RecordKind`."""
        records = [TokenRecord(**record) for record in fields["tokens"]]
        return {record.id: record for record in records}

    def without_old(self, content: TokenRecords, now_ms: int) -> TokenRecords:
        """See `heorot.security.records.RecordKind`."""
        return {token_id: record for token_id, record in content.items() if not record.is_forgotten(now_ms)}

    # ------------------------------------------------------------------ for who makes, lists and uses them

    def list(self) -> list[TokenRecord]:
        """Return all that were not revoked, oldest first."""
        return [record for record in self.all() if not record.revoked]

    def all(self) -> tuple[TokenRecord, ...]:
        """Return all records, oldest first."""
        if not self.directory.is_dir():
            return ()
        ids = sorted(path.stem for path in self.directory.glob("*.json"))
        records = [record for record in map(self._read, ids) if record is not None]
        return tuple(sorted(records, key=lambda record: (record.created_at_ms, record.id)))

    def revoke(self, token_id: str) -> bool:
        """Make a token useless at once; say whether there was one."""
        if not _ID_PATTERN.fullmatch(token_id):
            return False
        with self.lock():
            record = self._read(token_id)
            if record is None or record.revoked:
                return False
            self._write(replace(record, revoked=True))
            return True

    def check(self, token_id: bytes, secret: bytes, now_ms: int) -> TokenRecord:
        """Return the record of a token whose secret was shown; `lock` is held.

        Raises
        ------
        TokenRefused
            Unknown and wrong tokens get the same answer; only who has the secret learns that it expired or was used up.
            A record with ``uses_left == 0`` is returned as it is: a repeated request of the same host is answered.
        """
        record = self._read(token_id.hex())
        # Compare in any case: the time taken must not tell whether the id exists.
        matches = hmac.compare_digest(_hash_secret(secret), record.secret_hash if record is not None else "0" * 64)
        if record is None or not matches or record.revoked:
            raise TokenRefused(
                "token-unknown", "the head does not accept this token: it is wrong, withdrawn or long over"
            )
        if now_ms >= record.expires_at_ms:
            raise TokenRefused("token-expired", "this token has expired; ask for a new one (heorot token create)")
        return record

    def use(self, record: TokenRecord) -> None:
        """Take one use off; `lock` is held."""
        if record.uses_left <= 0:
            raise TokenRefused("token-used", "this token was used up; ask for a new one (heorot token create)")
        self._write(replace(record, uses_left=record.uses_left - 1))

    def _forget_old(self, now_ms: int) -> None:
        for record in self.all():
            if record.is_forgotten(now_ms):
                with contextlib.suppress(FileNotFoundError):
                    (self.directory / f"{record.id}.json").unlink()

    def _write(self, record: TokenRecord) -> None:
        path = self.directory / f"{record.id}.json"
        write_with_room(self.directory.parent, path, json.dumps(asdict(record)).encode())

    def _read(self, token_id: str) -> TokenRecord | None:
        path = self.directory / f"{token_id}.json"
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise SecurityError(f"the token record {path} is damaged; remove it") from error
        try:
            record = TokenRecord(**value)
        except TypeError as error:
            raise SecurityError(f"the token record {path} is damaged; remove it") from error
        return record
