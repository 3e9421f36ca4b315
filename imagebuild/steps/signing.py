"""Sources of Secure Boot signatures: a key, or signatures that were made before.

A build makes the UKI and the boot loader unsigned, gets a detached signature for each from a `SignatureSource`, and
attaches it; both sources give the same bytes.  When the key is somewhere else there are no signatures yet: the build
stays unsigned and carries a signing request (`pipeline.finish`).

Rules: the same bytes always get the same signature, because RSASSA-PKCS1-v1_5 is deterministic and no time is signed.
The key signs two attributes that stand for the digest of a file, so it may be in a file, in a token or elsewhere; no
program of the tools tree sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keys.errors import MissingKeyError
from keys.keyring import Keyring
from keys.passphrase import PassphraseSource
from keys.roles import BootRole
from keys.secureboot import authenticode
from keys.secureboot.pe import authenticode_digest
from keys.signers import BootSigner, open_boot_signer
from updater.documents.signatures import Signatures


class SignatureSource(Protocol):
    """Returns detached signatures for files."""

    @property
    def certificates(self) -> Mapping[BootRole, str]:
        """The certificates of the Secure Boot keys, in PEM."""

    def check(self) -> None:
        """Find out whether signing will be possible, before any work is done.

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
    """Signs with the key of the role db; `later`: if its private half is not here, the signatures are made later."""

    keyring: Keyring
    passphrase: PassphraseSource
    later: bool = False

    @property
    def certificates(self) -> Mapping[BootRole, str]:
        """The keyring's certificates."""
        return {role: self.keyring.boot_key(role).certificate.read_text() for role in BootRole}

    def check(self) -> None:
        """Open the key, so that a missing passphrase is reported before the work."""
        self._signer()

    def detached(self, unsigned: Mapping[str, Path]) -> dict[str, bytes] | None:
        """Sign the digests of the files."""
        signer = self._signer()
        if signer is None:
            return None
        digests = {name: authenticode_digest(path) for name, path in unsigned.items()}
        return {
            name: authenticode.assemble(digest, signer.sign(authenticode.to_sign(digest)), signer.certificate)
            for name, digest in digests.items()
        }

    def _signer(self) -> BootSigner | None:
        try:
            return open_boot_signer(self.keyring, BootRole.DB, self.passphrase)
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

    def detached(self, unsigned: Mapping[str, Path]) -> dict[str, bytes]:
        """The given signatures of these names."""
        return {name: self.signatures.files[name].der for name in unsigned}
