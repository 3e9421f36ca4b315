"""A token that is removed while a repository is signed."""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer

from keys.errors import TokenError
from keys.roles import TufRole
from tests.fakes.builds import NOW, Publisher, snapshot_of
from updater.repository.access import ONLINE_ROLES
from updater.repository.commit import commit
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state


class UnpluggedSigner(Signer):
    """A key in a token that is not there any more."""

    def __init__(self, public_key: Key) -> None:
        self._public_key = public_key

    @property
    def public_key(self) -> Key:
        return self._public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> UnpluggedSigner:
        return cls(public_key)

    def sign(self, payload: bytes) -> Signature:
        raise TokenError("the token was removed while it signed: pkcs11:object=snapshot")


@pytest.mark.parametrize("role", [TufRole.RELEASES, *ONLINE_ROLES])
def test_the_error_names_the_key_and_nothing_is_written(role: TufRole, tmp_path: Path) -> None:
    workshop = Publisher.make(tmp_path)
    layout, keyring = Layout(workshop.base), workshop.access.keyring
    state, before = load_state(layout, keyring), snapshot_of(workshop.base)
    signers = {
        **workshop.access.open(TufRole.RELEASES, *ONLINE_ROLES),
        role: (UnpluggedSigner(keyring.role(role).keys[0].public),),
    }
    changed = {TufRole.RELEASES: state.releases.copy()}
    with pytest.raises(TokenError, match="pkcs11:object=snapshot"):
        commit(layout, state, changed=changed, signers=signers, lifetimes=Lifetimes(), now=NOW)
    assert snapshot_of(workshop.base) == before
