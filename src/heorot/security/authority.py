"""The cluster's certificate authority, and the identities of heads and nodes that it issues.

An authority is a directory (0700) on one head host: ``ca.pem`` and ``ca.key`` (Ed25519, self-signed, 10 years) and
``signing.key`` and ``signing.pub`` (the cluster's signature for tickets and placements, shared by all heads).

An identity is a directory (0700) with ``ca.pem``, ``cert.pem``, ``key.pem`` and ``signing.pub``, for heads also
``signing.key``. Certificates say ``O=CLUSTER, CN=node:7`` or ``O=CLUSTER, CN=head:h0``.
"""

from __future__ import annotations

import datetime
import re
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from heorot.core.errors import SecurityError
from heorot.security.files import make_private_directory, read_file, write_atomically
from heorot.security.signing import Signer

CA_LIFETIME = datetime.timedelta(days=3652)
LEAF_LIFETIME = datetime.timedelta(days=365)
CLOCK_SKEW = datetime.timedelta(hours=1)
"""Certificates begin this long before they are made: the clock of a new node need not be exact."""
MAX_NODE_NUMBER = 65535

_CLUSTER_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HEAD_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True)
class Identity:
    """What a head or node needs to prove who it is and to check others."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes
    signing_public_pem: bytes
    signing_key_pem: bytes | None = None
    """Heads only."""

    def __repr__(self) -> str:
        return f"Identity({self.name})"

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The certificate, decoded."""
        try:
            return x509.load_pem_x509_certificate(self.certificate_pem)
        except ValueError:
            raise SecurityError("cert.pem is not a certificate in PEM") from None

    @property
    def name(self) -> str:
        """``node:7`` or ``head:h0``."""
        return _subject(self.certificate, NameOID.COMMON_NAME)

    @property
    def cluster(self) -> str:
        """The cluster's id."""
        return _subject(self.certificate, NameOID.ORGANIZATION_NAME)

    def write(self, directory: Path, *, durable: bool = False) -> None:
        """Write the files of an identity: each is replaced as a whole, readable by its owner only."""
        directory = Path(directory)
        make_private_directory(directory)
        for name, data in (
            ("ca.pem", self.ca_pem),
            ("signing.pub", self.signing_public_pem),
            ("key.pem", self.key_pem),
            ("signing.key", self.signing_key_pem),
            ("cert.pem", self.certificate_pem),
        ):
            if data is not None:
                write_atomically(directory / name, data, durable=durable)

    @classmethod
    def load(cls, directory: Path) -> Identity:
        """Read an identity. Raises SecurityError if a file is missing."""
        directory = Path(directory)
        signing_key = directory / "signing.key"
        return cls(
            ca_pem=read_file(directory / "ca.pem", "cluster's CA certificate"),
            certificate_pem=read_file(directory / "cert.pem", "certificate"),
            key_pem=read_file(directory / "key.pem", "private key"),
            signing_public_pem=read_file(directory / "signing.pub", "signing public key"),
            signing_key_pem=read_file(signing_key, "signing key") if signing_key.exists() else None,
        )


class Authority:
    """Issues certificates for one cluster. Whoever can read its directory is the cluster."""

    def __init__(self, certificate: x509.Certificate, key: Ed25519PrivateKey, signer: Signer) -> None:
        self.certificate = certificate
        self.cluster = _subject(certificate, NameOID.ORGANIZATION_NAME)
        self._key = key
        self.signer = signer
        self.ca_pem = certificate.public_bytes(Encoding.PEM)
        self.ca_der = certificate.public_bytes(Encoding.DER)
        self.fingerprint = certificate.fingerprint(hashes.SHA256())
        """SHA-256 of the CA certificate: what a join token pins."""
        self._authority_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())

    @classmethod
    def create(cls, directory: Path, cluster: str | None = None) -> Authority:
        """Make a new cluster's keys in a directory that has none yet.

        Parameters
        ----------
        directory
            Where; it is created, for its owner only.
        cluster
            The cluster's id, at most 63 letters, digits, dots, dashes and underscores; by default 16 random hex digits.

        Raises
        ------
        SecurityError
            If the directory already holds an authority, or the id cannot be used.
        """
        directory = Path(directory)
        cluster = secrets.token_hex(8) if cluster is None else cluster
        if not _CLUSTER_PATTERN.fullmatch(cluster):
            raise SecurityError(
                f"{cluster!r} cannot be a cluster's id: use at most 63 letters, digits, dots, dashes and underscores"
            )
        if (directory / "ca.key").exists() or (directory / "ca.pem").exists():
            raise SecurityError(
                f"{directory} already holds a cluster's authority; remove it only to abandon that cluster"
            )
        key = Ed25519PrivateKey.generate()
        subject = _name(cluster, "heorot authority")
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, None)
        )
        authority = cls(certificate, key, Signer.generate())
        authority.write(directory)
        return authority

    def write(self, directory: Path) -> None:
        """Write the files of the authority into a directory of its own, which must not hold another one."""
        make_private_directory(directory)
        for name, data in self.secret_files().items():
            write_atomically(directory / name, data, durable=True)

    def secret_files(self) -> dict[str, bytes]:
        """Return the content of the files by name: who has this is the cluster."""
        return {
            "signing.key": self.signer.to_pem(),
            "signing.pub": self.signer.verifier().to_pem(),
            "ca.key": _private_pem(self._key),
            "ca.pem": self.ca_pem,
        }

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """Read an authority. Raises SecurityError if a file is missing or not what it should be."""
        directory = Path(directory)
        ca_pem = read_file(directory / "ca.pem", "cluster's CA certificate")
        key_pem = read_file(directory / "ca.key", "cluster's CA key")
        return cls.from_pem(ca_pem, key_pem, Signer.load(directory / "signing.key"), str(directory))

    @classmethod
    def from_pem(cls, ca_pem: bytes, key_pem: bytes, signer: Signer, where: str) -> Authority:
        """Make it from the content of its files; `where` is for errors. Raises SecurityError."""
        try:
            certificate = x509.load_pem_x509_certificate(ca_pem)
            key = load_pem_private_key(key_pem, None)
        except (ValueError, TypeError):
            raise SecurityError(f"{where} does not hold a CA certificate and key in PEM") from None
        if not isinstance(key, Ed25519PrivateKey) or certificate.public_key() != key.public_key():
            raise SecurityError(f"ca.pem and ca.key in {where} do not belong together")
        return cls(certificate, key, signer)

    def issue_head(self, name: str, lifetime: datetime.timedelta = LEAF_LIFETIME) -> Identity:
        """Return a new head's identity, with the cluster's signing key. Raises SecurityError for an unusable name."""
        check_head_name(name)
        key = Ed25519PrivateKey.generate()
        return Identity(
            ca_pem=self.ca_pem,
            certificate_pem=self._sign(f"head:{name}", key.public_key(), lifetime),
            key_pem=_private_pem(key),
            signing_public_pem=self.signer.verifier().to_pem(),
            signing_key_pem=self.signer.to_pem(),
        )

    def issue_node(self, number: int, lifetime: datetime.timedelta = LEAF_LIFETIME) -> Identity:
        """Return a new node's identity. Raises SecurityError for an impossible number."""
        key = Ed25519PrivateKey.generate()
        return Identity(
            ca_pem=self.ca_pem,
            certificate_pem=self.certify_node(number, key.public_key(), lifetime),
            key_pem=_private_pem(key),
            signing_public_pem=self.signer.verifier().to_pem(),
        )

    def certify_node(
        self, number: int, public_key: Ed25519PublicKey, lifetime: datetime.timedelta = LEAF_LIFETIME
    ) -> bytes:
        """Return a node's certificate (PEM) for a key that only the node has."""
        check_node_number(number)
        return self._sign(f"node:{number}", public_key, lifetime)

    def renew(self, identity: Identity, lifetime: datetime.timedelta = LEAF_LIFETIME) -> Identity:
        """Return the identity with a certificate that begins now, for the same key and name.

        Raises
        ------
        SecurityError
            If the certificate is not of this authority.
        """
        try:
            identity.certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise SecurityError(f"the certificate of {identity.name} is not of the cluster {self.cluster}") from error
        public_key = identity.certificate.public_key()
        if not isinstance(public_key, Ed25519PublicKey):
            raise SecurityError(f"the certificate of {identity.name} has no Ed25519 key")
        return Identity(
            ca_pem=self.ca_pem,
            certificate_pem=self._sign(identity.name, public_key, lifetime),
            key_pem=identity.key_pem,
            signing_public_pem=identity.signing_public_pem,
            signing_key_pem=identity.signing_key_pem,
        )

    def _sign(self, common_name: str, public_key: Ed25519PublicKey, lifetime: datetime.timedelta) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(self.cluster, common_name))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - CLOCK_SKEW, self.certificate.not_valid_before_utc))
            .not_valid_after(min(now + lifetime, self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(_PURPOSES, critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(f"{common_name.replace(':', '-')}.heorot")]), critical=False
            )
            .add_extension(self._authority_key_id, critical=False)
            .sign(self._key, None)
            .public_bytes(Encoding.PEM)
        )


_PURPOSES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])


def check_head_name(name: str) -> None:
    """Raise SecurityError unless `name` can be a head's name."""
    if not _HEAD_PATTERN.fullmatch(name):
        raise SecurityError(
            f"{name!r} cannot be a head's name: use at most 32 letters, digits, dots, dashes and underscores"
        )


def check_node_number(number: int) -> None:
    """Raise SecurityError unless `number` can be a node's number."""
    if not 0 <= number <= MAX_NODE_NUMBER:
        raise SecurityError(f"{number} cannot be a node's number: use 0 to {MAX_NODE_NUMBER}")


def _name(cluster: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _subject(certificate: x509.Certificate, attribute: x509.ObjectIdentifier) -> str:
    values = certificate.subject.get_attributes_for_oid(attribute)
    if len(values) != 1 or not isinstance(values[0].value, str):
        raise SecurityError("the certificate does not name one cluster and one owner")
    return values[0].value


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
