"""Access to signing keys for a command: a keyring, and the passphrase for its private keys.

Rules: only the roles a command needs are opened, all of them before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from securesystemslib.signer import Signer

from keys.errors import MissingKeyError
from keys.keyring import Keyring
from keys.passphrase import PassphraseSource
from keys.roles import TufRole
from keys.signers import open_signers

# Online keys live where the repository is, and the others with whoever has a duty of their own.
ONLINE_ROLES = tuple(role for role in TufRole if role.online)
Signers = Mapping[TufRole, tuple[Signer, ...]]


@dataclass(frozen=True)
class KeyAccess:
    """A keyring and where its passphrase comes from."""

    keyring: Keyring
    passphrase: PassphraseSource

    def open(self, *roles: TufRole) -> Signers:
        """Signers of these roles, each with at least its threshold.

        Raises:
            MissingKeyError: A role has too few private keys here.
            PassphraseError: A passphrase is missing or wrong.
        """
        return {role: open_signers(self.keyring, role, self.passphrase) for role in roles}

    def open_if_present(self, *roles: TufRole) -> Signers:
        """Signers of these roles; empty when private keys of one of them are kept elsewhere.

        Raises:
            PassphraseError: The keys are here, but their passphrase is missing or wrong.
        """
        try:
            return self.open(*roles)
        except MissingKeyError:
            return {}

    def open_own(self, role: TufRole) -> Signers:
        """Signers of a role, and of snapshot and timestamp if they are here: else what it signs is only submitted.

        Raises:
            MissingKeyError: The role has too few private keys here, or only one of the other two is here.
            PassphraseError: A passphrase is missing or wrong.
        """
        return {**self.open(role), **self.open_online()}

    def open_online(self) -> Signers:
        """Signers of snapshot and timestamp; empty when neither is here.

        Raises:
            MissingKeyError: Only one of the two is here.
            PassphraseError: A passphrase is missing or wrong.
        """
        here = [role for role in ONLINE_ROLES if self.open_if_present(role)]
        return self.open(*ONLINE_ROLES) if here else {}
