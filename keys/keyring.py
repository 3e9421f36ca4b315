"""The public side of a keys folder: `keyring.yaml`, which names every key and holds no secret.

    format: 1
    profile: dev
    tuf:
      root:
        threshold: 1
        keys:
        - keyid: 6c1f…      # SHA-256 of the key's TUF form
          public: 9a03…     # Ed25519: 64 hexadecimal digits; other kinds: PEM (keys.public)
          uri: file:root-1.pem
        retiring: []        # keys of the same form that still sign along (`twinhull keys rotate`)
        revoked: []         # ids of keys that must not sign any more (`twinhull keys revoke`)
    boot:
      db: {uri: 'file:db.pem', certificate: db.crt}

Roles may be absent, and so may private files: roles are separate because different people hold the private halves.
Relative paths are relative to the folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import yaml
from securesystemslib.signer import SSlibKey

from bedrock import strict
from keys.certificates import read_certificate
from keys.errors import MissingKeyError
from keys.private import public_bytes
from keys.public import crypto_key, tuf_public
from keys.roles import BootRole, Profile, TufRole
from keys.uri import KeyUri

FORMAT = 1
KEYRING_FILE = "keyring.yaml"
MAX_KEYS = 64

_Hex32 = Annotated[str, strict.Pattern(r"[0-9a-f]{64}", "64 hexadecimal digits")]


@dataclass(frozen=True)
class TufKey:
    """One key of a TUF role; `uri` leads to its private half."""

    keyid: str
    uri: str
    public: SSlibKey


@dataclass(frozen=True)
class RoleKeys:
    """The keys of a TUF role, and how many of them must sign.

    Attributes:
        threshold: How many.
        keys: The keys that the role is to have.
        retiring: Keys that a repository may still trust; they sign along until it does not any more.
        revoked: The ids of keys that must not sign any more.
    """

    threshold: int
    keys: tuple[TufKey, ...]
    retiring: tuple[TufKey, ...] = ()
    revoked: tuple[str, ...] = ()

    @property
    def signing(self) -> tuple[TufKey, ...]:
        """The keys that sign."""
        return (*self.keys, *self.retiring)


@dataclass(frozen=True)
class BootKey:
    """A Secure Boot key: where its private half is, and its X.509 certificate (PEM)."""

    uri: str
    certificate: Path


@dataclass(frozen=True)
class Keyring:
    """What a keys folder holds; every path and `file:` URI in it is absolute."""

    folder: Path
    profile: Profile
    tuf: Mapping[TufRole, RoleKeys]
    boot: Mapping[BootRole, BootKey]

    @classmethod
    def load(cls, folder: Path) -> Keyring:
        """Read the public side of a keys folder; no private file is opened.

        Raises:
            MissingKeyError: The folder has no keyring.
            DocumentError: `keyring.yaml` has errors.
            OSError: It cannot be read.
        """
        return read_keyring_document(folder).anchored(folder.absolute())

    def role(self, role: TufRole) -> RoleKeys:
        """The keys of a TUF role.

        Raises:
            MissingKeyError: The keyring does not name the role.
        """
        if role not in self.tuf:
            raise MissingKeyError(f"the keyring {self.folder / KEYRING_FILE} has no keys for the role {role.value}")
        return self.tuf[role]

    def signing_keys(self) -> Iterator[tuple[str, bytes]]:
        """Every key by the URI of its private half, with its public half as `private.public_bytes` gives it.

        A Secure Boot key whose certificate is not here is left out: folders are split among people.

        Raises:
            BadKeyError: A certificate is not one.
        """
        for keys in self.tuf.values():
            for key in keys.signing:
                yield key.uri, tuf_identity(key.public)
        for boot in self.boot.values():
            with suppress(MissingKeyError):
                yield boot.uri, public_bytes(read_certificate(boot.certificate).public_key())

    def boot_key(self, role: BootRole) -> BootKey:
        """The key of a Secure Boot role.

        Raises:
            MissingKeyError: The keyring does not name the role.
        """
        if role not in self.boot:
            message = f"the keyring {self.folder / KEYRING_FILE} has no boot key {role.value}"
            raise MissingKeyError(message).with_hint(f"make one: twinhull keys boot-key {self.folder} {role.value}")
        return self.boot[role]


@dataclass(frozen=True)
class TufKeyEntry:
    """A TUF key as it is in the document."""

    keyid: _Hex32
    public: str
    uri: KeyUri

    def __post_init__(self) -> None:
        try:
            expected = tuf_public(self.public).keyid
        except ValueError as error:
            raise ValueError(f"public: {error}") from error
        if self.keyid != expected:
            raise ValueError(f"keyid {self.keyid} does not belong to this public key, {expected} does")


@dataclass(frozen=True)
class TufRoleEntry:
    """A TUF role as it is in the document."""

    threshold: Annotated[int, strict.Range(1, MAX_KEYS)]
    keys: tuple[TufKeyEntry, ...]
    retiring: tuple[TufKeyEntry, ...] = ()
    revoked: tuple[_Hex32, ...] = ()

    def __post_init__(self) -> None:
        ids = [*(key.keyid for key in (*self.keys, *self.retiring)), *self.revoked]
        if len(set(ids)) < len(ids):
            raise ValueError("a key is listed twice, but it can sign only once")
        if len(self.keys) > MAX_KEYS:
            raise ValueError(f"more than {MAX_KEYS} keys")
        if self.threshold > len(self.keys):
            raise ValueError(f"threshold {self.threshold} can never be reached with {len(self.keys)} keys")


@dataclass(frozen=True)
class BootKeyEntry:
    """A Secure Boot key as it is in the document."""

    uri: KeyUri
    certificate: Annotated[str, strict.Pattern(r"[^\0]+", "a path")]


@dataclass(frozen=True)
class TufSection:
    """The TUF roles; the names are those of `TufRole`."""

    root: TufRoleEntry | None = None
    targets: TufRoleEntry | None = None
    snapshot: TufRoleEntry | None = None
    timestamp: TufRoleEntry | None = None
    releases: TufRoleEntry | None = None
    channels: TufRoleEntry | None = None


@dataclass(frozen=True)
class BootSection:
    """The Secure Boot roles; the names are those of `BootRole`."""

    PK: BootKeyEntry | None = None
    KEK: BootKeyEntry | None = None
    db: BootKeyEntry | None = None
    pcr: BootKeyEntry | None = None


@dataclass(frozen=True)
class KeyringDocument:
    """`keyring.yaml` as it is written."""

    format: Annotated[int, strict.Range(FORMAT, FORMAT)]
    profile: Profile
    tuf: TufSection = TufSection()
    boot: BootSection = BootSection()

    def anchored(self, folder: Path) -> Keyring:
        """The keyring of this document when it is in `folder` (an absolute path)."""
        return Keyring(
            folder=folder,
            profile=self.profile,
            tuf=MappingProxyType({TufRole(name): _role_keys(entry, folder) for name, entry in _given(self.tuf)}),
            boot=MappingProxyType({BootRole(name): _boot_key(entry, folder) for name, entry in _given(self.boot)}),
        )


def read_keyring_document(folder: Path) -> KeyringDocument:
    """The public side of a keys folder as it is written, relative paths and all.

    Raises:
        MissingKeyError: The folder has no keyring.
        DocumentError: `keyring.yaml` has errors.
        OSError: It cannot be read.
    """
    path = folder / KEYRING_FILE
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        message = f"there is no keyring at {path}"
        raise MissingKeyError(message).with_hint(f"make one: twinhull keys init {folder} --profile dev") from error
    return strict.read_yaml(KeyringDocument, text, source=str(path))


def tuf_identity(key: SSlibKey) -> bytes:
    """The public half of a key, whatever it is called."""
    return public_bytes(crypto_key(key.keyval["public"]))


def keyring_text(document: KeyringDocument) -> str:
    """`keyring.yaml` for a document; absent roles are left out."""
    value = strict.plain(document)
    for section in ("tuf", "boot"):
        value[section] = {name: _brief(entry) for name, entry in value[section].items() if entry is not None}
    heading = "# The public side of this keys folder; it holds no secrets.\n"
    return heading + yaml.dump(value, Dumper=_LineDumper, sort_keys=False)


def _brief(entry: dict[str, Any]) -> dict[str, Any]:
    """A role's entry without empty lists."""
    return {name: value for name, value in entry.items() if value != []}


class _LineDumper(yaml.SafeDumper):
    """Writes text of several lines, such as PEM, as lines."""


def _lines(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_LineDumper.add_representer(str, _lines)


def _given(section: TufSection | BootSection) -> list[tuple[str, Any]]:
    values = [(field.name, getattr(section, field.name)) for field in fields(section)]
    return [(name, entry) for name, entry in values if entry is not None]


def _role_keys(entry: TufRoleEntry, folder: Path) -> RoleKeys:
    keys, retiring = (
        tuple(TufKey(key.keyid, str(key.uri.anchored(folder)), tuf_public(key.public)) for key in group)
        for group in (entry.keys, entry.retiring)
    )
    return RoleKeys(entry.threshold, keys, retiring, entry.revoked)


def _boot_key(entry: BootKeyEntry, folder: Path) -> BootKey:
    return BootKey(str(entry.uri.anchored(folder)), folder / entry.certificate)
