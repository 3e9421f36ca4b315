"""A keyring as shown to people and programs: names, thresholds, locations and dates, no secrets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.hashes import SHA256

from keys.certificates import read_certificate
from keys.keyring import BootKey, Keyring, TufKey
from keys.roles import BootRole, Profile
from keys.uri import parse_uri


@dataclass(frozen=True)
class ListedKey:
    """One TUF key; `here` says whether its private file is there (None: it is not in a file)."""

    keyid: str
    uri: str
    public: str
    here: bool | None


@dataclass(frozen=True)
class ListedRole:
    """One TUF role."""

    role: str
    online: bool
    threshold: int
    keys: tuple[ListedKey, ...]
    retiring: tuple[ListedKey, ...]
    revoked: tuple[str, ...]


@dataclass(frozen=True)
class ListedBootKey:
    """One Secure Boot key; `not_after` is in UTC (ISO 8601), `sha256` is the certificate's fingerprint."""

    role: str
    uri: str
    here: bool | None
    certificate: str
    subject: str
    sha256: str
    not_after: str


@dataclass(frozen=True)
class Listing:
    """What a keys folder holds."""

    folder: str
    profile: Profile
    tuf: tuple[ListedRole, ...]
    boot: tuple[ListedBootKey, ...]


def listing(keyring: Keyring) -> Listing:
    """The keyring for showing; reads the certificates.

    Raises:
        MissingKeyError: A certificate is missing.
        BadKeyError: A file that should be a certificate is not one.
    """
    roles = tuple(
        ListedRole(
            role.value,
            role.online,
            keys.threshold,
            tuple(map(_listed, keys.keys)),
            tuple(map(_listed, keys.retiring)),
            keys.revoked,
        )
        for role, keys in keyring.tuf.items()
    )
    boot = tuple(_listed_boot(role, key) for role, key in keyring.boot.items())
    return Listing(str(keyring.folder), keyring.profile, roles, boot)


def lines(shown: Listing) -> Iterator[str]:
    """The listing as lines for a terminal."""
    yield f"{shown.folder}  (profile {shown.profile.value})"
    for role in shown.tuf:
        kind = ", online" if role.online else ""
        yield f"{role.role:<10} {role.threshold} of {len(role.keys)} must sign{kind}"
        for key in role.keys:
            yield f"  {key.keyid}  {key.uri}{_absence(key.here)}"
        for key in role.retiring:
            yield f"  {key.keyid}  {key.uri}{_absence(key.here)}  (retiring)"
        yield from (f"  {keyid}  (revoked)" for keyid in role.revoked)
    for boot in shown.boot:
        yield f"{boot.role:<10} {boot.subject}, certificate until {boot.not_after[:10]}"
        yield f"  {boot.sha256}  {boot.uri}{_absence(boot.here)}"


def _listed(key: TufKey) -> ListedKey:
    return ListedKey(key.keyid, key.uri, key.public.keyval["public"], _here(key.uri))


def _listed_boot(role: BootRole, key: BootKey) -> ListedBootKey:
    found = read_certificate(key.certificate)
    return ListedBootKey(
        role=role.value,
        uri=key.uri,
        here=_here(key.uri),
        certificate=str(key.certificate),
        subject=found.subject.rfc4514_string(),
        sha256=found.fingerprint(SHA256()).hex(),
        not_after=_instant(found.not_valid_after_utc),
    )


def _here(uri: str) -> bool | None:
    parsed = parse_uri(uri)
    return parsed.path.exists() if parsed.is_file else None


def _absence(here: bool | None) -> str:  # noqa: FBT001 - a fact handed on, not a switch
    return "  (not here)" if here is False else ""


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
