"""The cluster's Ed25519 signature: heads sign launch tickets and placements with it, every node verifies.

The files are ordinary PEM (PKCS #8 and SubjectPublicKeyInfo, RFC 8410). For Ed25519 both are a fixed prefix and 32
bytes, so they are read here without the X.509 machinery: a process space loads this module and wants it small.
"""

from __future__ import annotations

import binascii
import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from heorot.core.errors import SecurityError
from heorot.security.files import read_file

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
SODIUM_NAMES = ("libsodium.so.26", "libsodium.so.23")

_PRIVATE_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC_PREFIX = bytes.fromhex("302a300506032b6570032100")


def _pem(label: str, der: bytes) -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), binascii.b2a_base64(der), label.encode())


def _read_pem(path: Path, label: str, prefix: bytes) -> bytes:
    return _parse_pem(read_file(path, _what(label)), str(path), label, prefix)


def _what(label: str) -> str:
    return "signing key" if label == "PRIVATE KEY" else "signing public key"


def _parse_pem(data: bytes, where: str, label: str, prefix: bytes) -> bytes:
    lines = data.split()
    begin, end = f"-----BEGIN {label}-----".encode().split(), f"-----END {label}-----".encode().split()
    try:
        if lines[: len(begin)] != begin or lines[-len(end) :] != end:
            raise ValueError
        der = binascii.a2b_base64(b"".join(lines[len(begin) : -len(end)]), strict_mode=True)
        if len(der) != len(prefix) + PUBLIC_KEY_BYTES or der[: len(prefix)] != prefix:
            raise ValueError
    except ValueError:
        # Not chained: the error must never carry a piece of a private key.
        raise SecurityError(f"{where} is not an Ed25519 {_what(label)} in PEM") from None
    return der[len(prefix) :]


@functools.cache
def fast_verify() -> Callable[[bytes, bytes, int, bytes], int] | None:
    """Return libsodium's verification (signature, data, length of the data, public key; 0 if it is right).

    None if this host has no libsodium. It takes half the time of OpenSSL's, and each node verifies each launch
    (docs/decisions/cryptography.md).
    """
    for name in SODIUM_NAMES:
        try:
            library = ctypes.CDLL(name)
            if library.sodium_init() < 0:
                continue
            verify = library.crypto_sign_ed25519_verify_detached
        except (OSError, AttributeError):
            continue
        verify.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_char_p]
        verify.restype = ctypes.c_int
        return verify
    return None


class Verifier:
    """Checks signatures with the cluster's public key."""

    def __init__(self, public_key: bytes) -> None:
        if len(public_key) != PUBLIC_KEY_BYTES:
            raise SecurityError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}")
        self.public_key = public_key
        self._key = Ed25519PublicKey.from_public_bytes(public_key)
        self._fast = fast_verify()

    @classmethod
    def load(cls, path: Path) -> Verifier:
        """Read ``signing.pub``. Raises SecurityError."""
        return cls(_read_pem(Path(path), "PUBLIC KEY", _PUBLIC_PREFIX))

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Say whether `signature` was made over `data` with the cluster's key."""
        if self._fast is not None and len(signature) == SIGNATURE_BYTES:
            return self._fast(signature, data, len(data), self.public_key) == 0
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """Return the content of ``signing.pub``."""
        return _pem("PUBLIC KEY", _PUBLIC_PREFIX + self.public_key)


class Signer:
    """Makes signatures with the cluster's private key."""

    def __init__(self, private_key: bytes) -> None:
        if len(private_key) != PUBLIC_KEY_BYTES:
            raise SecurityError(f"an Ed25519 private key has {PUBLIC_KEY_BYTES} bytes, not {len(private_key)}")
        self._key = Ed25519PrivateKey.from_private_bytes(private_key)

    @classmethod
    def generate(cls) -> Signer:
        """Return a signer with a new key."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Read ``signing.key``. Raises SecurityError."""
        return cls(_read_pem(Path(path), "PRIVATE KEY", _PRIVATE_PREFIX))

    @classmethod
    def from_pem(cls, data: bytes, where: str) -> Signer:
        """Make it from the content of ``signing.key``; `where` is for errors. Raises SecurityError."""
        return cls(_parse_pem(data, where, "PRIVATE KEY", _PRIVATE_PREFIX))

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature over `data`."""
        return self._key.sign(data)

    def verifier(self) -> Verifier:
        """Return what checks this signer's signatures."""
        return Verifier(self._key.public_key().public_bytes_raw())

    def to_pem(self) -> bytes:
        """Return the content of ``signing.key``: a secret."""
        return _pem("PRIVATE KEY", _PRIVATE_PREFIX + self._key.private_bytes_raw())
