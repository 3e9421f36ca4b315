"""Giving a Secure Boot role another key, in a file or in a token, with a certificate.

Rules: the certificate is a new file and the old ones stay, because hosts that enrolled them still need what they
signed; the keyring names the new key last, and one in a token only after a signature of it was verified.
Hosts do not follow by themselves: db is extended with `twinhull keys trust-boot` before the new key signs anything, and
PK and KEK are enrolled anew.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from bedrock.persist import write_atomic, write_new
from keys.certificates import certificate_pem, read_certificate
from keys.errors import BadKeyError
from keys.generate import boot_certificate_for, generated_boot_key
from keys.keyring import KEYRING_FILE, BootKeyEntry, KeyringDocument, keyring_text, read_keyring_document
from keys.passphrase import PassphraseSource, demanded
from keys.private import PRIVATE_MODE, private_pem
from keys.roles import BootRole
from keys.signers import Pkcs11Signer, boot_public
from keys.tokens import PKCS1_SHA256, TokenKey, open_token_key, require_public
from keys.uri import KeyUri

# Nothing that firmware or TUF reads.
_PROBE = b"Twinhull: does this key belong to its certificate?"


class TokenRsaKey(RSAPrivateKey):
    """A private key in a token, as far as making a certificate needs one."""

    def __init__(self, key: TokenKey, public: RSAPublicKey) -> None:
        self._key = key
        self._public = public

    @property
    def key_size(self) -> int:
        """The length of the modulus in bits."""
        return self._public.key_size

    def public_key(self) -> RSAPublicKey:
        """The public half."""
        return self._public

    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:  # noqa: ARG002 - the interface's signature
        """An RSASSA-PKCS1-v1_5 signature with SHA-256, which is what certificates get."""
        return self._key.sign(bytes(data), PKCS1_SHA256)

    def decrypt(self, ciphertext: Any, padding: Any) -> bytes:
        """Never."""
        raise NotImplementedError

    def private_numbers(self) -> Any:
        """Never: they do not leave the token."""
        raise NotImplementedError

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:  # noqa: A002 - the interface's name
        """Never: they do not leave the token."""
        raise NotImplementedError

    def __copy__(self) -> TokenRsaKey:
        return self

    def __deepcopy__(self, memo: Any) -> TokenRsaKey:
        return self


def new_boot_key(folder: Path, role: BootRole, passphrase: PassphraseSource, *, now: datetime) -> Path:
    """Give a Secure Boot role a new key in a file (writes to the disk); returns its certificate.

    Args:
        folder: The keys folder.
        role: The role.
        passphrase: Encrypts the private file; it stays unencrypted when it has none.
        now: When the certificate begins.

    Raises:
        MissingKeyError: There is no keyring.
        PassphraseError: There is a passphrase, but it is unusable.
        FileExistsError: Somebody else makes one at this moment.
    """
    document = read_keyring_document(folder)
    path = _new_file(folder, role)
    private, certificate = generated_boot_key(document.profile, role, now=now)
    key = path.with_suffix(".pem")
    write_new(key, private_pem(private, passphrase.passphrase(f"the new key {key}")), mode=PRIVATE_MODE)
    write_new(path, certificate_pem(certificate))
    _write(folder, document, role, BootKeyEntry(KeyUri.of_path(Path(key.name)), path.name))
    return path


def use_token(
    folder: Path,
    role: BootRole,
    uri: KeyUri,
    passphrase: PassphraseSource,
    *,
    now: datetime,
    certificate: Path | None = None,
) -> Path:
    """Let a Secure Boot role sign with a key in a token (writes to the disk); returns its certificate.

    Args:
        folder: The keys folder.
        role: The role.
        uri: The key, a `pkcs11:` URI.
        passphrase: The PIN.
        now: When a certificate made here begins.
        certificate: The key's certificate, in PEM; one is made and signed by the key itself when None.

    Raises:
        MissingKeyError: The keyring, the token, the key or the certificate is not here.
        BadKeyError: The key is not RSA, or not the certificate's.
        PassphraseError: The PIN is missing or wrong.
        KeyUriError: Several keys match, or the URI names no token.
        TokenError: The token failed.
    """
    document = read_keyring_document(folder)
    given = read_certificate(certificate) if certificate is not None else None
    expected = given.public_key() if given is not None else None
    key, found = open_token_key(str(uri), uri.token, expected, demanded(passphrase))
    public = expected or require_public(str(uri), found)
    if not isinstance(public, RSAPublicKey):
        raise BadKeyError(f"{uri} is not an RSA key, and Secure Boot takes no other")
    private = TokenRsaKey(key, public)
    if given is None:
        given = boot_certificate_for(private, document.profile, role, now=now)
    # It verifies what it signs, for a token may not show its public half.
    Pkcs11Signer(key, boot_public(given)).sign(_PROBE)
    path = _new_file(folder, role)
    write_new(path, certificate_pem(given))
    _write(folder, document, role, BootKeyEntry(uri, path.name))
    return path


def _new_file(folder: Path, role: BootRole) -> Path:
    names = (f"{role.value}-{number}.crt" for number in itertools.count(2))
    paths = map(folder.joinpath, names)
    return next(path for path in paths if not path.exists() and not path.with_suffix(".pem").exists())


def _write(folder: Path, document: KeyringDocument, role: BootRole, entry: BootKeyEntry) -> None:
    boot = replace(document.boot, **{role.value: entry})
    write_atomic(folder / KEYRING_FILE, keyring_text(replace(document, boot=boot)))
