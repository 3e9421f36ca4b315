"""Documents that are to be signed, as a signing request, and a signing request as documents.

An entry's payload is the canonical form that TUF signs; the document is made from it, and has exactly these bytes
signed (TUF specification 1.0.34, section 4.2.1).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signature, SSlibKey
from tuf.api.metadata import Metadata, Root, Signed, Targets

from bedrock.base64_bytes import Base64Bytes
from keys.ceremony.request import FORMAT, Entry, PayloadKind, RequestedKey, SignerGroup, SigningRequest
from keys.keyring import Keyring
from keys.roles import TufRole
from updater.errors import RefusedError
from updater.repository.ceremony.words import parse_payload, tuf_words
from updater.repository.commit import next_version, set_dates, undated
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.role_documents import (
    DELEGATED_PATHS,
    WRITING_ORDER,
    Delegator,
    Document,
    RepositoryState,
    parse_document,
)

OFFLINE_ORDER = WRITING_ORDER[:-2]


def request_for(
    layout: Layout,
    state: RepositoryState | None,
    documents: Mapping[TufRole, Signed],
    *,
    keyring: Keyring,
    reason: str,
    lifetimes: Lifetimes,
    now: datetime,
) -> SigningRequest:
    """A request for the next versions of role documents; sets version and expiry in them.

    Args:
        layout: The repository.
        state: Its current documents; None for the first ones.
        documents: The new content.
        keyring: How keys are called.
        reason: Why they are to be signed.
        lifetimes: How long they are valid.
        now: From when on.
    """
    current = state.documents() if state else {}
    roles = [role for role in OFFLINE_ORDER if role in documents]
    for role in roles:
        above: Any = documents.get(TufRole.TARGETS) if role in DELEGATED_PATHS else documents.get(TufRole.ROOT)
        below = current.get(TufRole.TARGETS if role in DELEGATED_PATHS else TufRole.ROOT)
        delegator = above or (below.signed if below else None)
        seen = current[role].signed.version if role in current else 0
        documents[role].version = next_version(layout, role, current=seen, delegator=delegator)
        set_dates(documents[role], role, lifetimes=lifetimes, now=now)
    labels = _labels(keyring)
    entries = tuple(_entry(role, documents, current, labels) for role in roles)
    return SigningRequest(FORMAT, ", ".join(entry.name for entry in entries), reason, entries)


def documents_of(entries: Iterable[Entry]) -> dict[TufRole, Document[Any]]:
    """The signed documents of entries, by role.

    Raises:
        RefusedError: A payload is not the canonical form of a document.
    """
    return {role_of(entry): _document(entry) for entry in entries}


def role_of(entry: Entry) -> TufRole:
    """The role that an entry's document belongs to.

    Raises:
        RefusedError: Its name does not say it.
    """
    try:
        return TufRole(entry.name.split(".")[1])
    except (IndexError, ValueError) as error:
        raise RefusedError(f"{entry.name!r} is not the name of a role's document") from error


def _document(entry: Entry) -> Document[Any]:
    metadata: Metadata[Any] = Metadata(parse_payload(entry))
    for made in entry.signatures:
        metadata.signatures[made.keyid] = Signature(made.keyid, made.signature)
    kind: Any = Root if role_of(entry) is TufRole.ROOT else Targets
    document: Document[Any] = parse_document(metadata.to_bytes(), kind, source=entry.name)
    if document.metadata.signed_bytes != entry.payload.content:
        raise RefusedError(f"{entry.name}: the payload is not in canonical form")
    return document


def _entry(
    role: TufRole,
    documents: Mapping[TufRole, Signed],
    current: Mapping[TufRole, Document[Any]],
    labels: Mapping[str, str],
) -> Entry:
    signed: Any = documents[role]
    before, after = _delegators(role, documents, current)
    keys: dict[str, SSlibKey] = {}
    groups: list[SignerGroup] = []
    for whose, delegator in (("until now", before), ("from now on", after)):
        if delegator is None:
            continue
        named = delegator.get_delegated_role(role.value)
        keys |= {keyid: _ssl_key(delegator, keyid) for keyid in named.keyids}
        # Hosts take a new root from both; any other document is judged by what holds from now on, and keys of until
        # now may sign along, so that it holds before as well.
        if role is TufRole.ROOT or delegator is after:
            groups.append(SignerGroup(f"keys of {role.value} {whose}", named.threshold, tuple(named.keyids)))
    if len(groups) > 1 and groups[0].keyids == groups[1].keyids and groups[0].threshold == groups[1].threshold:
        groups = [SignerGroup(f"keys of {role.value}", groups[0].threshold, groups[0].keyids)]
    entry = Entry(
        PayloadKind.TUF,
        f"{signed.version}.{role.value}.json",
        (),
        Base64Bytes(Metadata(signed).signed_bytes),
        tuple(RequestedKey.of(key, label=labels.get(keyid, "")) for keyid, key in sorted(keys.items())),
        tuple(groups),
        context=Base64Bytes(current[role].raw) if role in current else None,
    )
    return replace(entry, description=tuf_words(entry))


def _delegators(
    role: TufRole, documents: Mapping[TufRole, Signed], current: Mapping[TufRole, Document[Any]]
) -> tuple[Delegator | None, Delegator]:
    """Who vouches for a role until now, if anybody, and from now on."""
    above = TufRole.TARGETS if role in DELEGATED_PATHS else TufRole.ROOT
    before: Delegator | None = current[above].signed if above in current else None
    after: Any = documents.get(above, before)
    return before, after


def _ssl_key(delegator: Delegator, keyid: str) -> SSlibKey:
    key = delegator.get_key(keyid)
    if not isinstance(key, SSlibKey):
        raise RefusedError(f"the key {keyid} is of the type {key.keytype}, which cannot sign here")
    return key


def _labels(keyring: Keyring) -> dict[str, str]:
    """The last part of the URI of each key, by key id."""
    return {key.keyid: Path(key.uri.partition(":")[2]).name for keys in keyring.tuf.values() for key in keys.signing}


def canonical_dict(payload: bytes) -> dict[str, Any]:
    """A payload without what changes from one request to the next: its dates."""
    return undated(json.loads(payload, strict=False))
