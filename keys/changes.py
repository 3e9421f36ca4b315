"""Changing the keys of a role: rotated, added, revoked, and how many must sign.

A keys folder says which keys a role is to have; a repository follows on request (`twinhull repo refresh`, or
`twinhull root` where the keys are apart).
Rules: keys that leave a role by rotation sign along until they are revoked, so that nothing is invalid in between; a
revoked key never comes back; a new private file is on the disk before the keyring names it, and no file is removed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from bedrock.persist import write_atomic, write_new
from keys.errors import KeysError, MissingKeyError, UnfitKeyChangeError
from keys.keyring import (
    KEYRING_FILE,
    KeyringDocument,
    TufKeyEntry,
    TufRoleEntry,
    keyring_text,
    read_keyring_document,
)
from keys.passphrase import PassphraseSource
from keys.private import PRIVATE_MODE, private_pem
from keys.public import hex_of, public_text, tuf_public
from keys.roles import TufRole
from keys.uri import KeyUri, parse_uri

RoleChange = Callable[[TufRoleEntry], TufRoleEntry]
# Of the beginning of an id that names a key.
_SHORTEST_ID = 4
_BY_ROOT = (TufRole.ROOT, TufRole.TARGETS, TufRole.SNAPSHOT, TufRole.TIMESTAMP)


@dataclass(frozen=True)
class ForeignKey:
    """A key that was made elsewhere: its public half, and the URI of its private one."""

    public: PublicKeyTypes
    uri: str


def rotated(entry: TufRoleEntry, new: tuple[TufKeyEntry, ...]) -> TufRoleEntry:
    """The role with new keys; the ones before sign along. Pure."""
    return replace(entry, keys=new, retiring=(*entry.keys, *entry.retiring))


def with_key(entry: TufRoleEntry, key: TufKeyEntry) -> TufRoleEntry:
    """The role with one more key. Pure.

    Raises:
        UnfitKeyChangeError: It was revoked.
    """
    if key.keyid in entry.revoked:
        raise UnfitKeyChangeError(f"the key {key.keyid} was revoked and cannot come back")
    return replace(entry, keys=(*entry.keys, key), retiring=tuple(k for k in entry.retiring if k.keyid != key.keyid))


def without_key(entry: TufRoleEntry, keyid: str) -> TufRoleEntry:
    """The role without a key. Pure.

    Raises:
        UnfitKeyChangeError: Too few keys would be left.
    """
    keys = tuple(key for key in entry.keys if key.keyid != keyid)
    if len(keys) < entry.threshold:
        message = f"{entry.threshold} keys must sign, and only {len(keys)} would be left"
        raise UnfitKeyChangeError(message).with_hint("first add another one: twinhull keys add DIR ROLE")
    retiring = tuple(key for key in entry.retiring if key.keyid != keyid)
    return replace(entry, keys=keys, retiring=retiring, revoked=(*entry.revoked, keyid))


def with_threshold(entry: TufRoleEntry, threshold: int) -> TufRoleEntry:
    """The role with another threshold. Pure.

    Raises:
        UnfitKeyChangeError: It has too few keys for that.
    """
    if not 1 <= threshold <= len(entry.keys):
        raise UnfitKeyChangeError(f"{threshold} of {len(entry.keys)} keys cannot sign")
    return replace(entry, threshold=threshold)


def rotate(folder: Path, role: TufRole, passphrase: PassphraseSource, *, foreign: ForeignKey | None = None) -> None:
    """Give a role new keys, as many as it has, or one made elsewhere (writes to the disk).

    Raises:
        UnfitKeyChangeError: One key cannot replace several, or it is in the keyring already.
        MissingKeyError: The keyring does not name the role.
    """
    document = read_keyring_document(folder)
    entry = _entry(document, role)
    if foreign is not None and len(entry.keys) > 1:
        raise UnfitKeyChangeError(f"{role.value} has {len(entry.keys)} keys, and one cannot replace them").with_hint(
            "twinhull keys add, then twinhull keys revoke"
        )
    count = len(entry.keys)
    new = tuple(_new_keys(folder, document, role, passphrase, foreign=foreign, count=count))
    _write(folder, document, role, lambda before: rotated(before, new))


def add(folder: Path, role: TufRole, passphrase: PassphraseSource, *, foreign: ForeignKey | None = None) -> None:
    """Give a role one more key, a new one or one made elsewhere (writes to the disk).

    Raises:
        UnfitKeyChangeError: It was revoked, or it is in the keyring already.
        MissingKeyError: The keyring does not name the role.
    """
    document = read_keyring_document(folder)
    _entry(document, role)
    (key,) = _new_keys(folder, document, role, passphrase, foreign=foreign, count=1)
    _write(folder, document, role, lambda entry: with_key(entry, key))


def revoke(folder: Path, name: str) -> TufRole:
    """Take a key out of its role for good (writes to the disk); its private file is left alone.

    Args:
        folder: The keys folder.
        name: The beginning of the key's id, or the last part of its URI.

    Raises:
        MissingKeyError: No key has this name, or several have.
        UnfitKeyChangeError: Too few keys would be left.
    """
    document = read_keyring_document(folder)
    found = [(role, key.keyid) for role in TufRole for key in _all_keys(document, role) if _is_named(key, name)]
    if len(found) != 1:
        raise MissingKeyError(f"{len(found)} keys of {folder / KEYRING_FILE} are called {name!r}").with_hint(
            f"twinhull keys show {folder} lists their ids"
        )
    role, keyid = found[0]
    _write(folder, document, role, lambda entry: without_key(entry, keyid))
    return role


def revoke_retiring(folder: Path) -> tuple[TufRole, ...]:
    """Take out every key that was rotated out before (writes to the disk); returns their roles.

    Raises:
        MissingKeyError: The folder has no keyring.
    """
    document = read_keyring_document(folder)
    changed: dict[str, TufRoleEntry] = {}
    for role in TufRole:
        entry: TufRoleEntry | None = getattr(document.tuf, role.value)
        if entry is not None and entry.retiring:
            gone = (*entry.revoked, *(key.keyid for key in entry.retiring))
            changed[role.value] = replace(entry, retiring=(), revoked=gone)
    if changed:
        write_atomic(folder / KEYRING_FILE, keyring_text(replace(document, tuf=replace(document.tuf, **changed))))
    return tuple(map(TufRole, changed))


def set_threshold(folder: Path, role: TufRole, threshold: int) -> None:
    """Change how many keys of a role must sign (writes to the disk).

    Raises:
        UnfitKeyChangeError: It has too few keys for that.
        MissingKeyError: The keyring does not name the role.
    """
    document = read_keyring_document(folder)
    _write(folder, document, role, lambda entry: with_threshold(entry, threshold))


def what_follows(role: TufRole) -> str:
    """What must be signed for a repository to follow a change of a role's keys. Pure."""
    signs = "a new root" if role in _BY_ROOT else "a new targets"
    return (
        f"{signs} must be signed: twinhull repo refresh REPO does it where all keys are at hand, "
        "else begin with twinhull root sign-request REPO --out FILE"
    )


def _write(folder: Path, document: KeyringDocument, role: TufRole, change: RoleChange) -> None:
    try:
        tuf = replace(document.tuf, **{role.value: change(_entry(document, role))})
    except ValueError as error:
        raise UnfitKeyChangeError(f"{role.value}: {error}") from error
    write_atomic(folder / KEYRING_FILE, keyring_text(replace(document, tuf=tuf)))


def _entry(document: KeyringDocument, role: TufRole) -> TufRoleEntry:
    entry: TufRoleEntry | None = getattr(document.tuf, role.value)
    if entry is None:
        raise MissingKeyError(f"the keyring has no keys for the role {role.value}")
    return entry


def _is_named(key: TufKeyEntry, name: str) -> bool:
    by_id = len(name) >= _SHORTEST_ID and key.keyid.startswith(name)
    return by_id or Path(str(key.uri).partition(":")[2]).name == name


def _all_keys(document: KeyringDocument, role: TufRole) -> tuple[TufKeyEntry, ...]:
    entry: TufRoleEntry | None = getattr(document.tuf, role.value)
    return (*entry.keys, *entry.retiring) if entry else ()


def _new_keys(
    folder: Path,
    document: KeyringDocument,
    role: TufRole,
    passphrase: PassphraseSource,
    *,
    foreign: ForeignKey | None,
    count: int,
) -> list[TufKeyEntry]:
    if foreign is None:
        taken = {str(key.uri) for each in TufRole for key in _all_keys(document, each)}
        return [_generated(folder, role, passphrase, taken) for _ in range(count)]
    try:
        text = public_text(foreign.public)
    except ValueError as error:
        raise UnfitKeyChangeError(f"the public key {error}") from error
    key = TufKeyEntry(tuf_public(text).keyid, text, parse_uri(foreign.uri))
    for field in fields(document.tuf):
        if key.keyid in {known.keyid for known in _all_keys(document, TufRole(field.name))}:
            raise UnfitKeyChangeError(f"the key {key.keyid} is a key of {field.name} already, and counts once")
    return [key]


def _generated(folder: Path, role: TufRole, passphrase: PassphraseSource, taken: Collection[str]) -> TufKeyEntry:
    """A new key in a file of its own (writes to the disk), whose name no key has that is elsewhere now."""
    names = (f"{role.value}-{number}.pem" for number in itertools.count(1))
    path = next(folder / name for name in names if f"file:{name}" not in taken and not (folder / name).exists())
    private = Ed25519PrivateKey.generate()
    try:
        write_new(path, private_pem(private, passphrase.passphrase(f"the new key {path}")), mode=PRIVATE_MODE)
    except FileExistsError as error:
        raise KeysError(f"{path} appeared while a key was made; it was not changed") from error
    public = hex_of(private.public_key())
    return TufKeyEntry(tuf_public(public).keyid, public, KeyUri.of_path(Path(path.name)))
