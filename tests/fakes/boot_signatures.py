"""Checks a Secure Boot key's signature the way firmware does, with no code of ours."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256


def boot_signature_holds(certificate: x509.Certificate, signature: bytes, message: bytes) -> bool:
    """Whether the certificate's key made this RSASSA-PKCS1-v1_5 signature with SHA-256."""
    public = certificate.public_key()
    assert isinstance(public, RSAPublicKey)
    try:
        public.verify(signature, message, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
