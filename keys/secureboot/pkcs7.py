"""PKCS #7 SignedData by one RSA key with SHA-256, put together around a signature that was made somewhere else.

The same content gives the same bytes: there is no time of signing, which firmware does not check anyway.
Source: RFC 2315; Authenticode and the UEFI specification require version 1 and name the certificate by issuer and
serial number.
Pure.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keys.secureboot import der

SIGNED_DATA = "1.2.840.113549.1.7.2"
DATA = "1.2.840.113549.1.7.1"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SHA256_ALGORITHM = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), der.NULL)
_RSA = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.NULL)


def signed_data(
    certificate: x509.Certificate, signature: bytes, *, content: bytes, attributes: bytes | None = None
) -> bytes:
    """SignedData without the ContentInfo around it, which an EFI variable has none of.

    Args:
        certificate: Whose key signed.
        signature: Its signature of `attributes` or, without them, of the content itself.
        content: The inner ContentInfo: a type, and what is signed unless it is kept apart.
        attributes: The authenticated attributes as they were signed, a SET OF.
    """
    signer = der.sequence(
        der.integer(1),
        der.sequence(certificate.issuer.public_bytes(), der.integer(certificate.serial_number)),
        SHA256_ALGORITHM,
        der.retagged(0, attributes) if attributes is not None else b"",
        _RSA,
        der.octets(signature),
    )
    return der.sequence(
        der.integer(1),
        der.set_of([SHA256_ALGORITHM]),
        content,
        der.explicit(0, certificate.public_bytes(Encoding.DER)),
        der.set_of([signer]),
    )


def content_info(kind: str, content: bytes) -> bytes:
    """ContentInfo: a type and its content."""
    return der.sequence(der.oid(kind), der.explicit(0, content))


def attribute(kind: str, value: bytes) -> bytes:
    """An attribute with one value."""
    return der.sequence(der.oid(kind), der.set_of([value]))
