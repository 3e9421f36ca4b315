"""Sources of the signatures of what boots: keys, or signatures that were made before.

A build makes the UKI and the boot loader unsigned, gets a signature for each phase of the UKI's measured boot and then
a detached one for each program from a `SignatureSource`, and puts them in; both sources give the same bytes.  When a
key is somewhere else there are no signatures yet: the build stays unsigned and carries a signing request
(`pipeline.finish`).

Rules: the same bytes always get the same signature, because RSASSA-PKCS1-v1_5 is deterministic and no time is signed.
The keys sign a few bytes that stand for a file or a policy, so they may be in files, in tokens or elsewhere; no
program of the tools tree sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keys.errors import MissingKeyError
from keys.keyring import Keyring
from keys.passphrase import PassphraseSource
from keys.roles import BootRole
from keys.secureboot import authenticode
from keys.secureboot.measured import Measurement
from keys.secureboot.pe import authenticode_digest
from keys.signers import BootSigner, open_boot_signer
from updater.documents.signatures import Signatures


class SignatureSource(Protocol):
    """Returns detached signatures for files."""

    @property
    def certificates(self) -> Mapping[BootRole, str]:
        """The certificates of the boot keys, in PEM."""

    def check(self) -> None:
        """Find out whether signing will be possible, before any work is done.

        Raises:
            KeysError: The key cannot be opened.
        """

    def measured(self, measurements: Iterable[Measurement]) -> dict[str, bytes] | None:
        """Signatures of the policies of a UKI, by phase; None when they are made later.

        Raises:
            KeysError: The key cannot be opened.
        """

    def detached(self, unsigned: Mapping[str, Path]) -> dict[str, bytes] | None:
        """Signatures (PKCS #7, DER) of the files `unsigned`, by the same names; None when they are made later.

        Raises:
            KeysError: The key cannot be opened, or a file is not a program.
        """


@dataclass(frozen=True)
class KeySource:
    """Signs with the keys of the roles pcr and db; `later`: a signature whose key is not here is made later."""

    keyring: Keyring
    passphrase: PassphraseSource
    later: bool = False

    @property
    def certificates(self) -> Mapping[BootRole, str]:
        """The keyring's certificates."""
        return {role: self.keyring.boot_key(role).certificate.read_text() for role in BootRole}

    def check(self) -> None:
        """Open the keys, so that a missing passphrase is reported before the work."""
        self._signer(BootRole.PCR)
        self._signer(BootRole.DB)

    def measured(self, measurements: Iterable[Measurement]) -> dict[str, bytes] | None:
        """Sign the policies."""
        signer = self._signer(BootRole.PCR)
        if signer is None:
            return None
        return {each.phase: signer.sign(each.policy) for each in measurements}

    def detached(self, unsigned: Mapping[str, Path]) -> dict[str, bytes] | None:
        """Sign the digests of the files."""
        signer = self._signer(BootRole.DB)
        if signer is None:
            return None
        digests = {name: authenticode_digest(path) for name, path in unsigned.items()}
        return {
            name: authenticode.assemble(digest, signer.sign(authenticode.to_sign(digest)), signer.certificate)
            for name, digest in digests.items()
        }

    def _signer(self, role: BootRole) -> BootSigner | None:
        try:
            return open_boot_signer(self.keyring, role, self.passphrase)
        except MissingKeyError as error:
            if self.later:
                # The certificate is here: a plan is made from it.
                return None
            raise error.with_hint("to sign where the key is, see docs/secure-boot.md") from None


@dataclass(frozen=True)
class GivenSignatures:
    """Returns signatures that were made before, whatever the files are now; a later step checks whether they fit."""

    signatures: Signatures

    @property
    def certificates(self) -> Mapping[BootRole, str]:
        """The certificates the signatures came with."""
        return {role: self.signatures.certificates[role.value] for role in BootRole}

    def check(self) -> None:
        """They are here."""

    def measured(self, measurements: Iterable[Measurement]) -> dict[str, bytes]:
        """The given signatures of these phases."""
        return {
            each.phase: self.signatures.measured[each.phase].content
            for each in measurements
            if each.phase in self.signatures.measured
        }

    def detached(self, unsigned: Mapping[str, Path]) -> dict[str, bytes]:
        """The given signatures of these names."""
        return {name: self.signatures.files[name].der for name in unsigned}
