"""Making a keys folder: TUF keys, Secure Boot keys with their certificates, and the keyring that names them.

Rules: nothing that exists is overwritten or changed; private files are created with `O_EXCL` and mode 0600 in a 0700
folder; the keyring is written last, so an unfinished folder never loads.

Secure Boot keys are RSA-2048: every firmware with Secure Boot accepts that size, and some machines in the field refuse
larger keys or other algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509 import Certificate

from bedrock.clock import SYSTEM_CLOCK
from bedrock.persist import sync_folder, write_new
from keys.certificates import certificate_pem, self_signed
from keys.errors import KeyExistsError
from keys.keyring import (
    FORMAT,
    KEYRING_FILE,
    BootKeyEntry,
    BootSection,
    Keyring,
    KeyringDocument,
    TufKeyEntry,
    TufRoleEntry,
    TufSection,
    keyring_text,
)
from keys.passphrase import PassphraseSource
from keys.private import FOLDER_MODE, PRIVATE_MODE, private_pem
from keys.public import hex_of, tuf_public
from keys.roles import BootRole, Profile, TufRole, certificate_lifetime, quorum
from keys.uri import KeyUri

RSA_BITS = 2048
_RSA_EXPONENT = 65537
_PUBLIC_MODE = 0o644


class WriteNew(Protocol):
    """Writes a file that must not exist (`bedrock.persist.write_new`)."""

    def __call__(self, path: Path, data: bytes, /, *, mode: int) -> object:
        """Write it to the disk."""


@dataclass(frozen=True)
class _NewFile:
    name: str
    content: bytes
    mode: int


@dataclass(frozen=True)
class Material:
    """The files of a keys folder before they are written, the keyring last."""

    files: tuple[_NewFile, ...]


def init(folder: Path, profile: Profile, passphrase: PassphraseSource, *, now: datetime | None = None) -> Keyring:
    """Make all keys of `profile` in `folder` (writes to the disk).

    Args:
        folder: Must not exist yet, or be empty; gets mode 0700.
        profile: How many keys, which thresholds, how long certificates last.
        passphrase: Encrypts every private file; they stay unencrypted when it has none.
        now: When certificates begin; the clock's time when None.

    Raises:
        KeyExistsError: The folder is not empty; it is not changed.
        PassphraseError: There is a passphrase, but it is unusable.
        OSError: The folder or a file cannot be written; what was written is removed.
    """
    _refuse_used(folder)
    secret = passphrase.passphrase(f"the keys of {folder}")
    write_material(folder, make_material(profile, secret, now=now or SYSTEM_CLOCK.now()))
    return Keyring.load(folder)


def make_material(profile: Profile, secret: str | None, *, now: datetime) -> Material:
    """Make all keys of `profile`, and what names them; writes nothing.

    Args:
        profile: How many keys, which thresholds, how long certificates last.
        secret: Encrypts every private file; they stay unencrypted when None.
        now: When certificates begin.
    """
    tuf: dict[str, TufRoleEntry] = {}
    boot: dict[str, BootKeyEntry] = {}
    files: list[_NewFile] = []
    for tuf_role in TufRole:
        tuf[tuf_role.value] = _make_tuf(profile, tuf_role, secret, files)
    for boot_role in BootRole:
        boot[boot_role.value] = _make_boot(profile, boot_role, secret, now, files)
    document = KeyringDocument(FORMAT, profile, TufSection(**tuf), BootSection(**boot))
    return Material((*files, _NewFile(KEYRING_FILE, keyring_text(document).encode(), _PUBLIC_MODE)))


def write_material(folder: Path, material: Material, *, write: WriteNew = write_new) -> None:
    """Write a keys folder to the disk.

    Raises:
        KeyExistsError: A file is there already; it is left alone.
        OSError: The folder or a file cannot be written; what was written is removed.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    written: list[Path] = []
    try:
        for file in material.files:
            path = folder / file.name
            _write(path, file, write)
            written.append(path)
    except (OSError, KeyExistsError):
        # Only files that this run made; a key that no keyring names is worthless.
        for path in written:
            path.unlink(missing_ok=True)
        raise
    sync_folder(folder.absolute().parent)


def _refuse_used(folder: Path) -> None:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise KeyExistsError(f"{folder} is a file, so no keys folder can be made there") from error
    if KEYRING_FILE in names:
        message = f"{folder} already holds keys; nothing was changed"
        raise KeyExistsError(message).with_hint(f"twinhull keys show {folder} lists them; choose another folder")
    if names:
        message = f"{folder} is not empty (it holds {names[0]}); nothing was changed"
        hint = "choose another folder; if an earlier init was interrupted there, remove it first"
        raise KeyExistsError(message).with_hint(hint)


def _make_tuf(profile: Profile, role: TufRole, secret: str | None, files: list[_NewFile]) -> TufRoleEntry:
    wanted = quorum(profile, role)
    entries = []
    for number in range(1, wanted.keys + 1):
        private = Ed25519PrivateKey.generate()
        name = f"{role.value}-{number}.pem"
        public = hex_of(private.public_key())
        files.append(_NewFile(name, private_pem(private, secret), PRIVATE_MODE))
        entries.append(TufKeyEntry(tuf_public(public).keyid, public, KeyUri.of_path(Path(name))))
    return TufRoleEntry(wanted.threshold, tuple(entries))


def _make_boot(
    profile: Profile, role: BootRole, secret: str | None, now: datetime, files: list[_NewFile]
) -> BootKeyEntry:
    private, certificate = generated_boot_key(profile, role, now=now)
    key_name, certificate_name = f"{role.value}.pem", f"{role.value}.crt"
    files.append(_NewFile(key_name, private_pem(private, secret), PRIVATE_MODE))
    files.append(_NewFile(certificate_name, certificate_pem(certificate), _PUBLIC_MODE))
    return BootKeyEntry(KeyUri.of_path(Path(key_name)), certificate_name)


def generated_boot_key(profile: Profile, role: BootRole, *, now: datetime) -> tuple[RSAPrivateKey, Certificate]:
    """A new Secure Boot key and its certificate."""
    private = generate_private_key(_RSA_EXPONENT, RSA_BITS)
    return private, boot_certificate_for(private, profile, role, now=now)


def boot_certificate_for(private: RSAPrivateKey, profile: Profile, role: BootRole, *, now: datetime) -> Certificate:
    """A certificate of a Secure Boot key, signed by the key itself."""
    name = f"Twinhull {role.meaning} ({profile.value})"
    return self_signed(private, common_name=name, now=now, lifetime=certificate_lifetime(profile))


def _write(path: Path, file: _NewFile, write: WriteNew) -> None:
    try:
        write(path, file.content, mode=file.mode)
    except FileExistsError as error:
        raise KeyExistsError(f"{path} appeared while keys were made; it was not changed") from error
    except OSError:
        # It is ours (`O_EXCL` made it) and incomplete.
        path.unlink(missing_ok=True)
        raise
