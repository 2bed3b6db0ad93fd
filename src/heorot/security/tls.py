"""TLS of every link between heads and nodes: version 1.3, and a certificate of the cluster's own CA on both sides.

The certificate's subject says who the peer is; host names and addresses play no part in it.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from heorot.core.errors import SecurityError


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a link, as its certificate says."""

    kind: str
    """``head``, ``node`` or ``anonymous`` (no certificate: may only ask to join)."""
    name: str
    """``h0`` for a head, ``n7`` for a node, empty for an anonymous peer."""
    number: int
    """The node's number; -1 otherwise."""
    serial: str = ""
    """The certificate's serial number, in hex."""
    holder: bytes = b""
    """Of a node: a digest of the key that the certificate is for (`holder_of`); renewals keep it."""


PASS_ON = "heorot-pass"
"""Offered as the application protocol (ALPN, in the clear) by who wants a head on standby to pass it on to the active
one; see `heorot.runtime.standby_port`."""
FOR_A_CLIENT = "heorot-client"
"""Offered likewise by a node that connects for a client of its host, and chosen by a head."""
HOLDER_BYTES = 16
_ED25519_KEY = bytes.fromhex("302a300506032b6570032100")
"""What stands before an Ed25519 key in a certificate (RFC 8410)."""
ANONYMOUS = Peer("anonymous", "", -1)


def server_context(
    identity_directory: Path | str, *, allow_anonymous: bool = False, takes_clients: bool = False
) -> ssl.SSLContext:
    """Return the context of an accepting side. It costs 25 kB and about a millisecond: make it when it is first needed.

    Parameters
    ----------
    identity_directory
        Holds ca.pem, cert.pem and key.pem.
    allow_anonymous
        Let peers without any certificate in (`peer_of` tells). Only a head does, and only for joining; a certificate
        that is shown must be valid in any case.
    takes_clients
        Let nodes connect for clients of their hosts (`is_for_a_client` tells).
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, Path(identity_directory))
    context.verify_mode = ssl.CERT_OPTIONAL if allow_anonymous else ssl.CERT_REQUIRED
    # Links live for days and are never resumed; a ticket would be two more messages and a key to keep.
    context.num_tickets = 0
    if takes_clients:
        # Who offers nothing of it is served as ever.
        context.set_alpn_protocols([FOR_A_CLIENT])
    return context


def client_context(
    identity_directory: Path | str, *, passed_on: bool = False, for_a_client: bool = False
) -> ssl.SSLContext:
    """Return the context of a connecting side, which shows a certificate and requires one.

    Parameters
    ----------
    passed_on
        A head on standby is to pass the connection on to the active one.
    for_a_client
        A node connects for a client of its host.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, Path(identity_directory))
    offers = [FOR_A_CLIENT] * for_a_client + [PASS_ON] * passed_on
    if offers:
        context.set_alpn_protocols(offers)
    return context


def is_for_a_client(connection: ssl.SSLObject) -> bool:
    """Say whether both sides of an established connection know that it is for a client of the connecting node."""
    return connection.selected_alpn_protocol() == FOR_A_CLIENT


def joining_context() -> ssl.SSLContext:
    """Return the context of a node that has no identity yet.

    It verifies nothing by itself: `heorot.security.join` compares the head's certificate with the token before any
    secret is sent.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([PASS_ON])
    return context


def _context(protocol: int, directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(directory / "ca.pem")
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    except OSError as error:  # ssl.SSLError is one
        raise SecurityError(f"cannot use the identity in {directory}: {error.strerror or error}") from error
    return context


def peer_of(connection: ssl.SSLObject | ssl.SSLSocket, cluster: str) -> Peer:
    """Return who the peer of an established connection is.

    Parameters
    ----------
    connection
        After its handshake, made with a context of this module.
    cluster
        The id that the peer's certificate must name.

    Raises
    ------
    SecurityError
        If the certificate is of another cluster or names neither a head nor a node.
    """
    certificate = connection.getpeercert()
    if certificate is None:
        return ANONYMOUS
    names: dict[str, str] = {}
    for part in certificate.get("subject", ()):
        for key, value in cast("tuple[tuple[str, str], ...]", part):
            if key in names:
                raise SecurityError(f"the peer's certificate has more than one {key}")
            names[key] = value
    organization = names.get("organizationName", "")
    common_name = names.get("commonName", "")
    if organization != cluster:
        raise SecurityError(f"the peer's certificate is of cluster {organization!r}, this is {cluster!r}")
    kind, _, name = common_name.partition(":")
    serial = str(certificate.get("serialNumber", ""))
    if kind == "head" and name:
        return Peer("head", name, -1, serial)
    # The only spelling of a number is the one that we issue: "node:07" is nobody.
    if kind == "node" and name.isascii() and name.isdigit() and len(name) <= 5 and str(int(name)) == name:
        return Peer("node", f"n{name}", int(name), serial, _holder_of(connection.getpeercert(binary_form=True) or b""))
    raise SecurityError(f"the peer's certificate names {common_name!r}, which is neither a head nor a node")


def holder_of(public_key: bytes) -> bytes:
    """Return a digest that tells one holder of a number from another. `public_key`: raw Ed25519."""
    return hashlib.sha256(b"heorot holder\0" + public_key).digest()[:HOLDER_BYTES]


def _holder_of(certificate: bytes) -> bytes:
    # The library that reads certificates would take 3 MB of each agent. The cluster's authority has signed this one,
    # and nothing in it but its key is of this kind.
    start = certificate.find(_ED25519_KEY)
    return holder_of(certificate[start + len(_ED25519_KEY) :][:32]) if start >= 0 else b""


_EXPLANATIONS = (
    # What OpenSSL says, and what it means for a cluster. Alerts are the other side's verdict on our certificate.
    ("ALERT_CERTIFICATE_EXPIRED", "the peer refused our certificate because it has expired: renew it"),
    ("ALERT_CERTIFICATE_REQUIRED", "the peer requires a certificate and we showed none: join the cluster first"),
    ("CERTIFICATE_REQUIRED", "the peer requires a certificate and we showed none: join the cluster first"),
    ("ALERT_UNKNOWN_CA", "the peer refused our certificate: it is not of the peer's cluster"),
    ("ALERT_DECRYPT_ERROR", "the peer refused our certificate: it is not of the peer's cluster"),
    ("ALERT_BAD_CERTIFICATE", "the peer refused our certificate"),
    ("ALERT_PROTOCOL_VERSION", "the peer accepts TLS 1.3 only"),
    ("UNSUPPORTED_PROTOCOL", "the peer offers no TLS 1.3"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "the peer showed no certificate"),
    ("WRONG_VERSION_NUMBER", "the peer does not speak TLS"),
    ("HTTP_REQUEST", "the peer speaks HTTP"),
)


def explain(error: BaseException) -> str:
    """Return one sentence for people about a failed handshake or link."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if "expired" in error.verify_message:
            return "the peer's certificate has expired: renew it (and compare the clocks of both hosts)"
        if "not yet valid" in error.verify_message:
            return "the peer's certificate is not valid yet: compare the clocks of both hosts"
        return f"the peer's certificate is not of this cluster ({error.verify_message})"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "the peer closed the connection without a reason"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        for key, text in _EXPLANATIONS:
            if key in reason:
                return text
        return f"TLS failed: {reason or error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
