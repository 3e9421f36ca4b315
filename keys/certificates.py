"""X.509 certificates of the Secure Boot keys: made self-signed, read from PEM.

Their shape is that of `openssl req -x509` (a CA certificate that may sign), because a self-signed certificate whose key
usage lacks keyCertSign does not verify its own signature in OpenSSL, which firmware and sbverify are built on.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from keys.errors import BadKeyError, MissingKeyError

# The certificate must already be valid for a machine whose clock is a little slow.
_BACKDATED = timedelta(days=1)
MAX_CERTIFICATE_BYTES = 1 << 16


def self_signed(key: RSAPrivateKey, *, common_name: str, now: datetime, lifetime: timedelta) -> x509.Certificate:
    """A self-signed certificate (RFC 5280) for `key`, valid from a day before `now`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return builder.sign(key, SHA256())


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a PEM file.

    Raises:
        MissingKeyError: The file does not exist or cannot be read.
        BadKeyError: It holds no certificate.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_CERTIFICATE_BYTES)
    except OSError as error:
        raise MissingKeyError(f"the certificate {path} cannot be read: {error.strerror}") from error
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise BadKeyError(f"{path} holds no certificate in PEM form") from error


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
