"""What a role document says, in words, read from the bytes that are to be signed.

The document that it replaces comes with the request, and what changes is named by comparing the two.  Whoever made the
request could have sent another one along: so it is named by its hash, keys and thresholds are named in full, and so are
the documents that are named, up to a number that somebody reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError, SerializationError

from bedrock.digest import bytes_sha256
from keys.ceremony.request import Entry
from updater.documents.release import SIGNED_AT
from updater.errors import RefusedError

# How many documents are listed one by one.
_READ = 20
_KINDS: dict[str, Any] = {"root": Root, "targets": Targets}


def parse_payload(entry: Entry) -> Root | Targets:
    """The document that an entry's payload is the canonical form of.

    Raises:
        RefusedError: It is not a root or a targets document, or another one than its name says.
    """
    try:
        # Canonical JSON has control characters in text as they are.
        value = json.loads(entry.payload.content, strict=False)
        signed: Any = _KINDS[value["_type"]].from_dict(value)
        same = Metadata(signed).signed_bytes == entry.payload.content
    except (ValueError, KeyError, TypeError, AttributeError, SerializationError) as error:
        raise RefusedError(f"{entry.name}: the payload is not a root or targets document: {error!r}") from error
    if not same:
        raise RefusedError(f"{entry.name}: the payload is not in canonical form")
    is_root = entry.name == f"{signed.version}.root.json"
    if not entry.name.startswith(f"{signed.version}.") or is_root is not isinstance(signed, Root):
        raise RefusedError(f"{entry.name}: the payload is {signed.type} metadata of version {signed.version}")
    return cast("Root | Targets", signed)


def tuf_words(entry: Entry) -> tuple[str, ...]:
    """What a signature on an entry would mean.

    Raises:
        RefusedError: The payload is not a document, or the one that it replaces is not.
    """
    signed = parse_payload(entry)
    lines = [f"{signed.type}, version {signed.version}, valid until {signed.expires:%Y-%m-%d %H:%M} UTC"]
    lines += _delegation_words(signed)
    before = _context(entry)
    if isinstance(signed, Targets):
        lines.append(f"names {len(signed.targets)} documents")
        if before is None or len(signed.targets) <= _READ:
            lines += [f"  {path}" for path in sorted(signed.targets)]
    if entry.context is not None and before is not None:
        digest = bytes_sha256(entry.context.content)
        lines.append(f"compared with version {before.version}, the file with the SHA-256 {digest}:")
        lines += [f"  {line}" for line in _changes(before, signed)] or ["  nothing else changes"]
    if unknown := signed.unrecognized_fields.keys() - {SIGNED_AT}:
        lines.append(f"has fields that this program does not know: {', '.join(sorted(unknown))}")
    return tuple(lines)


def _context(entry: Entry) -> Any:
    if entry.context is None:
        return None
    try:
        return Metadata[Any].from_bytes(entry.context.content).signed
    except DeserializationError as error:
        raise RefusedError(f"{entry.name}: what it replaces is not signed metadata: {error}") from error


def _delegation_words(signed: Any) -> Iterator[str]:
    for name, keyids, threshold in _roles(signed):
        yield f"{threshold} of {len(keyids)} keys must sign {name}:"
        # Whole ids: another key whose id begins alike is a few hours of searching.
        yield from (f"  {keyid}" for keyid in keyids)


def _roles(signed: Any) -> list[tuple[str, list[str], int]]:
    holder: Any = signed if isinstance(signed, Root) else signed.delegations
    roles = (holder.roles if holder else None) or {}
    return [(name, role.keyids, role.threshold) for name, role in roles.items()]


def _changes(before: Any, after: Any) -> Iterator[str]:
    if type(before) is not type(after) or before.version + 1 > after.version:
        yield f"ATTENTION: it replaces {before.type} metadata of version {before.version}"
        return
    old = {name: (keyids, threshold) for name, keyids, threshold in _roles(before)}
    for name, keyids, threshold in _roles(after):
        keys_before, threshold_before = old.pop(name, ([], 0))
        yield from (f"{name}: the key {keyid} goes" for keyid in keys_before if keyid not in keyids)
        yield from (f"{name}: the key {keyid} comes" for keyid in keyids if keyid not in keys_before)
        if threshold != threshold_before:
            yield f"{name}: {threshold} must sign instead of {threshold_before}"
    yield from (f"the role {name} is not delegated any more" for name in old)
    if isinstance(after, Targets):
        yield from _target_changes(before, after)


def _target_changes(before: Targets, after: Targets) -> Iterator[str]:
    for path in sorted(before.targets.keys() | after.targets.keys()):
        old, new = before.targets.get(path), after.targets.get(path)
        if new is None:
            yield f"{path} goes"
        elif old is None:
            yield f"{path} comes"
        elif old != new:
            yield f"{path} changes"
