"""Whose signatures a provenance must carry: the keys that the role `releases` has, or had when a release was published.

A release is published once, and its provenance is not signed again when the pipeline's key is exchanged; the release
document that names it is, by the role's keys of now.
"""

from __future__ import annotations

from collections.abc import Sequence

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from keys.roles import TufRole
from updater.errors import RefusedError, RepositoryError
from updater.repository.attachments import Trust
from updater.repository.layout import Layout
from updater.repository.role_documents import check_any, read_document


def provenance_trust(layout: Layout, targets: Targets, roots: Sequence[Root]) -> Trust:
    """The keys of `releases` in the current targets and in the older ones on the disk that a root vouches for.

    Args:
        layout: The repository.
        targets: The current targets.
        roots: The newest root, and former ones.

    Raises:
        RefusedError: The role is not delegated.
    """
    trust = trust_in(targets, TufRole.RELEASES)
    keys, threshold = {key.keyid: key for key in trust.keys}, trust.threshold
    for version in layout.versions_on_disk(TufRole.TARGETS):
        if version >= targets.version:
            break
        try:
            older = read_document(layout.role_file(TufRole.TARGETS, version), Targets)
            check_any(roots, TufRole.TARGETS, older.metadata)
            trust = trust_in(older.signed, TufRole.RELEASES)
        except (RefusedError, RepositoryError):
            continue
        keys |= {key.keyid: key for key in trust.keys}
        threshold = min(threshold, trust.threshold)
    return Trust(tuple(keys.values()), threshold)


def trust_in(targets: Targets, role: TufRole) -> Trust:
    """The keys and the threshold of a delegation.

    Raises:
        RefusedError: The role is not delegated.
    """
    delegations = targets.delegations
    delegated = (delegations.roles or {}).get(role.value) if delegations else None
    if delegations is None or delegated is None:
        raise RefusedError(f"the role {role.value} is not delegated in this repository")
    keys: tuple[Key, ...] = tuple(delegations.keys[keyid] for keyid in delegated.keyids if keyid in delegations.keys)
    return Trust(keys, delegated.threshold)
