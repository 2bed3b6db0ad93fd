"""Whether a head's identity can be used at all: said before the head stands for election, and not when it is needed."""

from __future__ import annotations

import datetime
import os
import ssl
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.x509 import load_pem_x509_certificate

from heorot.core.errors import SecurityError
from heorot.security import tls
from heorot.security.authority import Identity
from heorot.security.signing import Signer, Verifier

SECRETS = ("key.pem", "signing.key")
HOW_TO_GET_ONE = "'heorot head add' on a head's host and 'heorot head join' here make an identity"


def check_head_identity(directory: Path, cluster: str, name: str) -> None:
    """See that `directory` holds a valid identity of the head `name` of this cluster.

    Raises
    ------
    SecurityError
        Names the file and says what to do.
    """
    try:
        identity = Identity.load(directory)
        signer = Signer.load(directory / "signing.key")
        verifier = Verifier.load(directory / "signing.pub")
    except SecurityError as error:
        raise SecurityError(f"{error}; {HOW_TO_GET_ONE}") from error
    for secret in SECRETS:
        path = directory / secret
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & 0o077:
            raise SecurityError(f"others may read {path} (mode {mode:o}); use: chmod 600 {path}")
    path = directory / "cert.pem"
    try:
        certificate = identity.certificate
        authority = load_pem_x509_certificate(identity.ca_pem)
    except (SecurityError, ValueError):
        raise SecurityError(f"{path} or ca.pem beside it is not a certificate in PEM; {HOW_TO_GET_ONE}") from None
    if identity.cluster != cluster:
        raise SecurityError(f"{path} is of the cluster {identity.cluster!r}, not of {cluster!r}; {HOW_TO_GET_ONE}")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise SecurityError(f"{path} was not issued by the authority in ca.pem beside it; {HOW_TO_GET_ONE}") from None
    if identity.name != f"head:{name}":
        raise SecurityError(f"{path} is of {identity.name}, not of head:{name}; {HOW_TO_GET_ONE}")
    now = datetime.datetime.now(datetime.UTC)
    if now > certificate.not_valid_after_utc:
        raise SecurityError(
            f"{path} has expired on {certificate.not_valid_after_utc:%Y-%m-%d}: use 'heorot certificate renew' "
            "(and look whether this host's clock is right)"
        )
    if now < certificate.not_valid_before_utc:
        raise SecurityError(
            f"{path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, and this host's clock "
            f"shows {now:%Y-%m-%d %H:%M}: set the clock right"
        )
    if not verifier.verify(b"head", signer.sign(b"head")):
        raise SecurityError(f"{directory / 'signing.key'} and signing.pub do not belong together; {HOW_TO_GET_ONE}")
    try:
        tls.client_context(directory)
    except (SecurityError, ssl.SSLError) as error:
        raise SecurityError(f"{error}: do {directory / 'key.pem'} and cert.pem belong together?") from error
