"""The roles keys are made for, and what a profile requires of each.

TUF roles are those of the TUF specification (section 2.1) and our two delegations; boot roles are the variables of
UEFI Secure Boot (UEFI specification, section 32.3), and the key for what a TPM measures of a boot.
Pure: no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum


class TufRole(Enum):
    """Who signs which part of the update metadata."""

    ROOT = "root"
    TARGETS = "targets"
    SNAPSHOT = "snapshot"
    TIMESTAMP = "timestamp"
    RELEASES = "releases"
    CHANNELS = "channels"

    @property
    def online(self) -> bool:
        """Whether the key lives on a machine that signs by itself (short-lived metadata)."""
        return self in (TufRole.SNAPSHOT, TufRole.TIMESTAMP)


class BootRole(Enum):
    """The keys of a boot: those whose certificates a host is enrolled with, by the names of their variables, and `pcr`.

    `pcr` signs what PCR 11 of a TPM holds when a UKI boots (`keys.secureboot.measured`).
    """

    PK = "PK"
    KEK = "KEK"
    DB = "db"
    PCR = "pcr"

    @property
    def enrolled(self) -> bool:
        """Whether a host's firmware holds its certificate."""
        return self is not BootRole.PCR

    @property
    def meaning(self) -> str:
        """The role in words, as in the certificate's name."""
        return _BOOT_MEANING[self]


class Profile(Enum):
    """How strictly the keys are protected."""

    DEV = "dev"
    PRODUCTION = "production"


@dataclass(frozen=True)
class Quorum:
    """How many keys a role has and how many of them must sign."""

    keys: int
    threshold: int


_BOOT_MEANING = {
    BootRole.PK: "Platform Key",
    BootRole.KEK: "Key Exchange Key",
    BootRole.DB: "Image Signing Key",
    BootRole.PCR: "Measured Boot Key",
}
_SINGLE = Quorum(keys=1, threshold=1)
_PRODUCTION_ROOT = Quorum(keys=3, threshold=2)

# Exchanging PK or db on a fleet means touching every machine's firmware, so production certificates outlive hardware.
_CERTIFICATE_LIFETIME = {Profile.DEV: timedelta(days=730), Profile.PRODUCTION: timedelta(days=3650)}


def quorum(profile: Profile, role: TufRole) -> Quorum:
    """How many keys `role` gets in `profile`, and its threshold."""
    if profile is Profile.PRODUCTION and role is TufRole.ROOT:
        return _PRODUCTION_ROOT
    return _SINGLE


def certificate_lifetime(profile: Profile) -> timedelta:
    """How long the Secure Boot certificates of `profile` are valid."""
    return _CERTIFICATE_LIFETIME[profile]


def must_be_encrypted(profile: Profile) -> bool:
    """Whether an unencrypted private file is an error in `profile`."""
    return profile is Profile.PRODUCTION
