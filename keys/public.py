"""Public keys as text: in a keyring, and Ed25519 keys in files of their own.

A keyring has an Ed25519 key as 64 hexadecimal digits, and any other as PEM (SubjectPublicKeyInfo, RFC 5280 and 7468).
The kind of a key decides how it signs, so that no document has to say it: Ed25519, ECDSA on P-256 with SHA-256 or on
P-384 with SHA-384, RSASSA-PSS with SHA-256 from 2048 bits on.  Every client of TUF verifies these.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer import SSlibKey

from keys.errors import BadKeyError

ED25519 = "ed25519"
_HEX_DIGITS = 64
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192
_MAX_TEXT = 1 << 13


def crypto_key(text: str) -> Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey:
    """The public key that a text names.

    Raises:
        ValueError: It is neither 64 hexadecimal digits nor PEM, or a key of a kind that must not sign.
    """
    if len(text) == _HEX_DIGITS and set(text) <= set("0123456789abcdef"):
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    try:
        key = load_pem_public_key(text[:_MAX_TEXT].encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("must be an Ed25519 key of 64 hexadecimal digits, or a public key in PEM form") from error
    return usable_key(key)


def usable_key(key: PublicKeyTypes) -> Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey:
    """`key`, if keys of its kind may sign metadata.

    Raises:
        ValueError: They may not.
    """
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1 | SECP384R1):
        return key
    if isinstance(key, RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
        return key
    found = type(key).__name__.removesuffix("PublicKey")
    curve = f" on {key.curve.name}" if isinstance(key, EllipticCurvePublicKey) else ""
    bits = f" of {key.key_size} bits" if isinstance(key, RSAPublicKey) else ""
    raise ValueError(
        f"must be a key of Ed25519, ECDSA on P-256 or P-384, or RSA from 2048 bits, not {found}{curve}{bits}"
    )


def tuf_public(text: str) -> SSlibKey:
    """The TUF form of a public key, whose key id does not depend on how the text is laid out.

    Raises:
        ValueError: As `crypto_key`.
    """
    return SSlibKey.from_crypto(crypto_key(text))


def public_text(key: PublicKeyTypes) -> str:
    """A public key as a keyring has it.

    Raises:
        ValueError: Keys of this kind may not sign.
    """
    usable = usable_key(key)
    if isinstance(usable, Ed25519PublicKey):
        return hex_of(usable)
    return usable.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_public(path: Path) -> PublicKeyTypes:
    """The public key in a PEM file.

    Raises:
        BadKeyError: The file does not hold one.
        OSError: The file cannot be read.
    """
    try:
        return load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKeyError(f"{path} holds no public key in PEM form") from error


def read_ed25519(path: Path) -> str:
    """The public half of an Ed25519 key in a PEM file, as hexadecimal digits.

    Raises:
        BadKeyError: The file does not hold one.
        OSError: The file cannot be read.
    """
    key = read_public(path)
    if not isinstance(key, Ed25519PublicKey):
        raise BadKeyError(f"{path} is not the public half of an Ed25519 key").with_hint(
            "`twinhull provision key NAME.pem` makes one"
        )
    return hex_of(key)


def hex_of(key: Ed25519PublicKey) -> str:
    """A public key as hexadecimal digits."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
