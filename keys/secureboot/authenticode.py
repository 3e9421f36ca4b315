"""Signatures of programs for Secure Boot: Authenticode.

What is signed are two attributes that stand for the digest of the program, less than a hundred bytes; so the key may be
anywhere, and whoever holds it can be told what it signs by the program's digest.
RSASSA-PKCS1-v1_5 and no time: one key gives one signature for one program.
Source: "Windows Authenticode Portable Executable Signature Format" (Microsoft, 2008); UEFI specification 2.10,
section 32.5.
Pure.
"""

from __future__ import annotations

import hashlib

from cryptography import x509

from keys.secureboot import der, pkcs7

_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
_PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.15"
DIGEST_BYTES = 32
_NO_FLAGS = der.tagged(0x03, b"\0")
# The text that every other signer writes here.
_NO_FILE = der.explicit(0, der.explicit(2, der.tagged(0x80, "<<<Obsolete>>>".encode("utf-16-be"))))


def to_sign(digest: bytes) -> bytes:
    """What a key signs, RSASSA-PKCS1-v1_5 with SHA-256, for a program with this Authenticode digest (SHA-256)."""
    of_content = hashlib.sha256(der.content_of(_indirect_data(digest))).digest()
    return der.set_of(
        (
            pkcs7.attribute(pkcs7.CONTENT_TYPE, der.oid(_INDIRECT_DATA)),
            pkcs7.attribute(pkcs7.MESSAGE_DIGEST, der.octets(of_content)),
        )
    )


def assemble(digest: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
    """The signature for a program's table (PKCS #7, DER), from a key's signature of `to_sign(digest)`."""
    content = pkcs7.content_info(_INDIRECT_DATA, _indirect_data(digest))
    data = pkcs7.signed_data(certificate, signature, content=content, attributes=to_sign(digest))
    return pkcs7.content_info(pkcs7.SIGNED_DATA, data)


def _indirect_data(digest: bytes) -> bytes:
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"a SHA-256 has {DIGEST_BYTES} bytes, not {len(digest)}")
    kind = der.sequence(der.oid(_PE_IMAGE_DATA), der.sequence(_NO_FLAGS, _NO_FILE))
    return der.sequence(kind, der.sequence(pkcs7.SHA256_ALGORITHM, der.octets(digest)))
