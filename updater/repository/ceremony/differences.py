"""Which keys and thresholds a keys folder wants changed in a repository.

Rules: a key leaves a role only if the keys folder says so (retiring or revoked): one that it does not know means that
the folder is older than the repository, and nothing of that role is changed by it.
Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tuf.api.metadata import Root, Signed, Targets

from keys.keyring import Keyring, RoleKeys
from keys.roles import TufRole
from updater.repository.role_documents import DELEGATED_PATHS, Delegator, RepositoryState, is_signed

_Delegator = TypeVar("_Delegator", Root, Targets)
BY_ROOT = (TufRole.ROOT, TufRole.TARGETS, TufRole.SNAPSHOT, TufRole.TIMESTAMP)


@dataclass(frozen=True)
class KeyChanges:
    """What a keys folder wants changed.

    Attributes:
        documents: The new content of every role that must be signed for it; empty when nothing changes.
        words: The changes, one line each.
        older: Why some of the folder does not count: it is older than the repository.
        weaker: Whether a threshold becomes lower.
    """

    documents: Mapping[TufRole, Signed]
    words: tuple[str, ...]
    older: tuple[str, ...]
    weaker: bool


def key_changes(state: RepositoryState, keyring: Keyring) -> KeyChanges:
    """The documents that must be signed for a repository to have the keys of a keys folder.

    Besides root and targets, they are those whose current documents the new keys did not sign.
    """
    root, targets = state.root.copy(), state.targets.copy()
    words = [*_exchange(root, BY_ROOT, keyring), *_exchange(targets, tuple(DELEGATED_PATHS), keyring)]
    documents: dict[TufRole, Signed] = {}
    if root.to_dict() != state.root.signed.to_dict():
        documents[TufRole.ROOT] = root
    if targets.to_dict() != state.targets.signed.to_dict() or not is_signed(
        root, TufRole.TARGETS, state.targets.metadata
    ):
        documents[TufRole.TARGETS] = targets
    for role in DELEGATED_PATHS:
        document = state.documents()[role]
        if not is_signed(targets, role, document.metadata):
            documents[role] = document.copy()
    return KeyChanges(
        documents,
        tuple(words),
        tuple(_older(state, keyring)),
        weaker=_weaker(state.root.signed, root, BY_ROOT) or _weaker(state.targets.signed, targets, DELEGATED_PATHS),
    )


def _exchange(delegator: _Delegator, roles: tuple[TufRole, ...], keyring: Keyring) -> Iterator[str]:
    """Give the roles of a delegator the keys of a keys folder."""
    for role in roles:
        current = delegator.get_delegated_role(role.value)
        entry = keyring.tuf.get(role)
        if entry is None or _unknown(current.keyids, entry):
            continue
        wanted = {key.keyid: key.public for key in entry.keys}
        for keyid in [keyid for keyid in current.keyids if keyid not in wanted]:
            delegator.revoke_key(keyid, role.value)
            yield f"{role.value}: the key {keyid[:8]} goes"
        for keyid in [keyid for keyid in wanted if keyid not in current.keyids]:
            delegator.add_key(wanted[keyid], role.value)
            yield f"{role.value}: the key {keyid[:8]} comes"
        if current.threshold != entry.threshold:
            yield f"{role.value}: {entry.threshold} must sign instead of {current.threshold}"
            current.threshold = entry.threshold


def _unknown(keyids: list[str], entry: RoleKeys) -> list[str]:
    known = {*(key.keyid for key in entry.signing), *entry.revoked}
    return [keyid for keyid in keyids if keyid not in known]


def _older(state: RepositoryState, keyring: Keyring) -> Iterator[str]:
    delegators: list[tuple[Delegator, Any]] = [
        (state.root.signed, BY_ROOT),
        (state.targets.signed, DELEGATED_PATHS),
    ]
    for delegator, roles in delegators:
        for role in roles:
            entry = keyring.tuf.get(role)
            for keyid in _unknown(delegator.get_delegated_role(role.value).keyids, entry) if entry else ():
                yield (
                    f"the repository trusts the key {keyid[:8]} for {role.value}, which {keyring.folder} does not "
                    "know: take keyring.yaml from whoever changed it last; until then, it changes nothing of that role"
                )


def _weaker(before: Delegator, after: Delegator, roles: Any) -> bool:
    return any(
        after.get_delegated_role(role.value).threshold < before.get_delegated_role(role.value).threshold
        for role in roles
    )
