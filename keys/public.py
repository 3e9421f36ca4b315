"""Public Ed25519 keys in files of their own, outside a keyring."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from keys.errors import BadKeyError


def read_ed25519(path: Path) -> str:
    """The public half of an Ed25519 key in a PEM file, as hexadecimal digits.

    Raises:
        BadKeyError: The file does not hold one.
        OSError: The file cannot be read.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKeyError(f"{path} holds no public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadKeyError(f"{path} is not the public half of an Ed25519 key").with_hint(
            "`twinhull provision key NAME.pem` makes one"
        )
    return hex_of(key)


def hex_of(key: Ed25519PublicKey) -> str:
    """A public key as hexadecimal digits."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
