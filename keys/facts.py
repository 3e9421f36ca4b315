"""Facts about a keys folder, as plain values for `keys.check` to judge.

Reads only; a file that is missing or broken becomes a fact, not an error.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from keys.certificates import read_certificate
from keys.errors import BadKeyError, KeysError, MissingKeyError
from keys.keyring import KEYRING_FILE, Keyring, TufKey
from keys.passphrase import PassphraseSource, demanded
from keys.private import is_encrypted, parse_private, public_bytes, read_pem
from keys.public import crypto_key
from keys.roles import Profile
from keys.uri import parse_uri


@dataclass(frozen=True)
class FolderFacts:
    """A folder: its mode bits and the user it belongs to."""

    path: Path
    mode: int
    owner: int


@dataclass(frozen=True)
class PrivateFacts:
    """A private key file.

    `matches` says whether it belongs to `counterpart`; None: unknown without a passphrase.
    `problem` says why it could not be read; `mode` and `owner` are meaningless when it does not exist.
    """

    role: str
    path: Path
    counterpart: str
    exists: bool
    mode: int = 0
    owner: int = 0
    work_tree: Path | None = None
    encrypted: bool = False
    matches: bool | None = None
    problem: str | None = None


@dataclass(frozen=True)
class CertificateFacts:
    """A certificate file; `problem` says why it could not be read."""

    role: str
    path: Path
    exists: bool
    problem: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True)
class KeyringFacts:
    """All facts about a keys folder, as seen by the user with the id `user`."""

    profile: Profile
    user: int
    folder: FolderFacts
    privates: tuple[PrivateFacts, ...]
    certificates: tuple[CertificateFacts, ...]
    roles_of_key: Mapping[str, tuple[str, ...]]


def gather(keyring: Keyring, passphrase: PassphraseSource) -> KeyringFacts:
    """Examine every file a keyring names; keys behind schemes other than `file:` are skipped.

    Raises:
        OSError: The folder itself cannot be read.
    """
    status = keyring.folder.stat()
    roles: dict[str, tuple[str, ...]] = {}
    for role, keys in keyring.tuf.items():
        for key in keys.signing:
            roles[key.keyid] = (*roles.get(key.keyid, ()), role.value)
    return KeyringFacts(
        profile=keyring.profile,
        user=os.geteuid(),
        folder=FolderFacts(keyring.folder, stat.S_IMODE(status.st_mode), status.st_uid),
        privates=(*_tuf_privates(keyring, passphrase), *_boot_privates(keyring, passphrase)),
        certificates=tuple(_certificate(role.value, key.certificate) for role, key in keyring.boot.items()),
        roles_of_key=roles,
    )


def work_tree_of(path: Path) -> Path | None:
    """The git work tree a path is in; links are followed, because git would add the file itself."""
    return next((parent for parent in path.resolve().parents if (parent / ".git").exists()), None)


def _tuf_privates(keyring: Keyring, passphrase: PassphraseSource) -> Iterator[PrivateFacts]:
    counterpart = f"the public key in {KEYRING_FILE}"
    for role, keys in keyring.tuf.items():
        for key in keys.signing:
            if (uri := parse_uri(key.uri)).is_file:
                yield _private(role.value, uri.path, counterpart, _tuf_public(key), passphrase)


def _boot_privates(keyring: Keyring, passphrase: PassphraseSource) -> Iterator[PrivateFacts]:
    for role, key in keyring.boot.items():
        if (uri := parse_uri(key.uri)).is_file:
            public = _certificate_public(key.certificate)
            yield _private(role.value, uri.path, f"the certificate {key.certificate}", public, passphrase)


def _private(
    role: str, path: Path, counterpart: str, public: bytes | None, passphrase: PassphraseSource
) -> PrivateFacts:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return PrivateFacts(role, path, counterpart, exists=False)
    except OSError as error:
        return PrivateFacts(role, path, counterpart, exists=True, problem=f"cannot be read: {error.strerror}")
    encrypted, matches, problem = _opened(path, public, passphrase)
    return PrivateFacts(
        role,
        path,
        counterpart,
        exists=True,
        mode=stat.S_IMODE(status.st_mode),
        owner=status.st_uid,
        work_tree=work_tree_of(path),
        encrypted=encrypted,
        matches=matches,
        problem=problem,
    )


def _opened(path: Path, public: bytes | None, passphrase: PassphraseSource) -> tuple[bool, bool | None, str | None]:
    encrypted = False
    try:
        pem = read_pem(path)
        encrypted = is_encrypted(pem)
        if encrypted and passphrase.passphrase(str(path)) is None:
            return encrypted, None, None
        private = parse_private(pem, path=path, ask=demanded(passphrase))
    except KeysError as error:
        return encrypted, None, str(error)
    # An unreadable certificate is a finding of its own, not a fault of the key.
    return encrypted, public is None or public_bytes(private.public_key()) == public, None


def _tuf_public(key: TufKey) -> bytes:
    return public_bytes(crypto_key(key.public.keyval["public"]))


def _certificate_public(path: Path) -> bytes | None:
    try:
        return public_bytes(read_certificate(path).public_key())
    except KeysError:
        return None


def _certificate(role: str, path: Path) -> CertificateFacts:
    try:
        found: x509.Certificate = read_certificate(path)
    except MissingKeyError as error:
        return CertificateFacts(role, path, exists=False, problem=str(error))
    except BadKeyError as error:
        return CertificateFacts(role, path, exists=True, problem=str(error))
    return CertificateFacts(
        role, path, exists=True, not_before=found.not_valid_before_utc, not_after=found.not_valid_after_utc
    )
