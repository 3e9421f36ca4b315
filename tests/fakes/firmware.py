"""Firmware variables in memory: what is appended is added to the lists, as firmware does after it checked KEK."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import BootRole
from keys.secureboot.siglist import BootVariable, certificate_list, hash_list, lists_of
from keys.secureboot.variable import Addition
from keys.signers import BootSigner, open_boot_signer
from tests.fakes.keyrings import dev_folder
from updater.documents.boot_trust import FORMAT, BootTrust, BootTrustUpdate
from updater.documents.release import Architecture
from updater.errors import FirmwareError

MADE = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class MemoryDatabases:
    """db and dbx.

    Attributes:
        contents: What they hold.
        refuses: Why it takes no append, if it does not.
        forgets: It says yes and keeps nothing.
        written: What was appended.
    """

    contents: dict[BootVariable, bytes | None] = field(default_factory=lambda: dict.fromkeys(BootVariable, b""))
    refuses: str | None = None
    forgets: bool = False
    written: list[tuple[BootVariable, bytes]] = field(default_factory=list)

    def read(self, variable: BootVariable) -> bytes | None:
        return self.contents[variable]

    def append(self, variable: BootVariable, payload: bytes) -> None:
        if self.refuses is not None:
            raise FirmwareError(self.refuses)
        self.written.append((variable, payload))
        if not self.forgets:
            self.contents[variable] = (self.contents[variable] or b"") + lists_of(payload)


def revoking(*digests: bytes, reason: str = "a hole") -> BootTrustUpdate:
    """An update that revokes programs, signed by a KEK."""
    return _update(BootVariable.DBX, hash_list(digests), reason)


def trusting_certificate(certificate: bytes = b"certificate", reason: str = "db is renewed") -> BootTrustUpdate:
    """An update that has a certificate trusted."""
    return _update(BootVariable.DB, certificate_list(certificate), reason)


def revoking_certificate(certificate: bytes = b"certificate") -> BootTrustUpdate:
    """An update that revokes everything that a certificate signed."""
    return _update(BootVariable.DBX, certificate_list(certificate), "a stolen key")


def trust_of(*updates: BootTrustUpdate) -> BootTrust:
    """A document."""
    return BootTrust(FORMAT, "host", Architecture.X86_64, updates)


def payloads(updates: Sequence[BootTrustUpdate]) -> list[bytes]:
    """What the updates append."""
    return [base64.b64decode(update.payload) for update in updates]


def _update(variable: BootVariable, lists: bytes, reason: str) -> BootTrustUpdate:
    addition, signer = Addition(variable, MADE, lists), _kek()
    payload = addition.payload(signer.sign(addition.to_sign()), signer.certificate)
    return BootTrustUpdate.of(payload, variable=variable, reason=reason)


@cache
def _kek() -> BootSigner:
    with TemporaryDirectory() as folder:
        return open_boot_signer(Keyring.load(dev_folder(Path(folder))), BootRole.KEK, NoPassphrase())
