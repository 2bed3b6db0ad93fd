"""How a host that becomes a node proves that it is a head's, with that head's key.

What is started on ``master`` may be meant for nobody else's eyes: no other holder of a token shall draw it to himself.
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from heorot.core.errors import SecurityError
from heorot.core.wire.joining import HEAD_CONTEXT
from heorot.security.authority import Authority, Identity


def prove_head(identity: Identity, nonce: bytes, public_key: bytes) -> bytes:
    """Return a head's word that the host of the node with this key is its own. Raises SecurityError."""
    key = load_pem_private_key(identity.key_pem, None)
    if not isinstance(key, Ed25519PrivateKey):
        raise SecurityError(f"the key of {identity.name} is none of Ed25519")
    return key.sign(HEAD_CONTEXT + nonce + public_key)


def proved_head(authority: Authority, certificate_pem: bytes, proof: bytes, nonce: bytes, public_key: bytes) -> str:
    """Return the name of the head whose word that is. Raises SecurityError if it is nobody's."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certificate.verify_directly_issued_by(authority.certificate)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        key = certificate.public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise SecurityError("its key is none of Ed25519")
        key.verify(proof, HEAD_CONTEXT + nonce + public_key)
    except (ValueError, TypeError, InvalidSignature, SecurityError):
        raise SecurityError("the host did not prove that it is a head's") from None
    if not certificate.not_valid_before_utc <= datetime.datetime.now(datetime.UTC) <= certificate.not_valid_after_utc:
        raise SecurityError("the certificate of the head on this host is not valid now: heorot certificate show")
    kind, colon, name = str(names[0].value).partition(":") if len(names) == 1 else ("", "", "")
    if kind != "head" or not colon:
        raise SecurityError("the host did not prove that it is a head's: its certificate is another one's")
    return name
