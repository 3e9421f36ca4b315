"""Private keys in files: reading them with care for their modes, and opening encrypted ones.

Rules: modes are checked on the opened file, not by its name; key material goes to the caller and nowhere else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from keys.errors import BadKeyError, MissingKeyError, PassphraseError, WrongModeError

PRIVATE_MODE = 0o600
FOLDER_MODE = 0o700
OTHERS = 0o077
MAX_KEY_BYTES = 1 << 16
_ENCRYPTED_MARKS = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")


def read_private(path: Path) -> bytes:
    """The content of a private key file that nobody else may use.

    Raises:
        MissingKeyError: There is no such file, it is no regular file, or this user may not read it.
        WrongModeError: Others than the owner have rights on it.
    """
    return _read(path, others_allowed=False)


def read_pem(path: Path) -> bytes:
    """The content of a private key file whatever its mode, only to examine it; to sign, use `read_private`.

    Raises:
        MissingKeyError: There is no such file, it is no regular file, or this user may not read it.
    """
    return _read(path, others_allowed=True)


def _read(path: Path, *, others_allowed: bool) -> bytes:
    try:
        # Not blocking, so that a pipe with that name is an error instead of an endless wait.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise MissingKeyError(f"the private key {path} cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise MissingKeyError(f"the private key {path} is not a regular file")
        mode = stat.S_IMODE(status.st_mode)
        if mode & OTHERS and not others_allowed:
            message = f"the private key {path} has mode {mode:04o}, so others may use it; it must be {PRIVATE_MODE:04o}"
            raise WrongModeError(message).with_hint(f"chmod 600 {path}, and replace the key if others could read it")
        return os.read(handle, MAX_KEY_BYTES)
    finally:
        os.close(handle)


def is_encrypted(pem: bytes) -> bool:
    """Whether a PEM private key needs a passphrase."""
    return any(mark in pem for mark in _ENCRYPTED_MARKS)


def parse_private(pem: bytes, *, path: Path, ask: Callable[[str], str]) -> PrivateKeyTypes:
    """A PEM private key, decrypted with the passphrase that `ask` gives for `path` if it needs one.

    Raises:
        PassphraseError: The passphrase is missing or wrong.
        BadKeyError: The text is not a private key.
    """
    encrypted = is_encrypted(pem)
    secret = ask(str(path)).encode() if encrypted else None
    try:
        return load_pem_private_key(pem, password=secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise PassphraseError(f"the passphrase does not open {path} (wrong passphrase or damaged file)") from error
        raise BadKeyError(f"{path} holds no private key in PEM form") from error


def private_pem(key: PrivateKeyTypes, passphrase: str | None) -> bytes:
    """A private key as PKCS#8 PEM (RFC 5958), encrypted when a passphrase is given."""
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        encryption = BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def public_bytes(key: PublicKeyTypes) -> bytes:
    """A public key in a form that can be compared (DER SubjectPublicKeyInfo, RFC 5280)."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
