"""A log of what was decided, in which no entry can be changed or left out unseen.  Pure.

Each entry carries the hash of the one before it.  It is hashed as canonical JSON: keys sorted, no spaces.
The last entries can still be cut off by whoever keeps the log: somebody else has to know the newest hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bedrock.digest import bytes_sha256
from updater.documents.channel import Instant

FIRST = "0" * 64


@dataclass(frozen=True)
class AuditEntry:
    """One thing that somebody did.

    Attributes:
        number: From 1, without gaps.
        at: When, as who wrote it saw the clock.
        actor: Who: an operator, a host, or the engine.
        action: What, one word or two.
        body: To what, and how.
        before: The hash of the entry before; zeros for the first one.
        hash: This entry's own.
    """

    number: int
    at: str
    actor: str
    action: str
    body: Mapping[str, Any]
    before: str
    hash: str

    @property
    def right_hash(self) -> str:
        """The hash that this entry has if nobody changed it."""
        values = {name: value for name, value in asdict(self).items() if name != "hash"}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return bytes_sha256(text.encode())


def append(last: AuditEntry | None, *, at: Instant, actor: str, action: str, body: Mapping[str, Any]) -> AuditEntry:
    """The entry that comes after `last`.

    Raises:
        ValueError: The body is not what JSON can hold.
    """
    try:
        kept = json.loads(json.dumps(body, allow_nan=False))
    except TypeError as error:
        raise ValueError(f"not JSON: {error}") from error
    number, before = (last.number + 1, last.hash) if last is not None else (1, FIRST)
    entry = AuditEntry(number, str(at), actor, action, kept, before, "")
    return AuditEntry(number, str(at), actor, action, kept, before, entry.right_hash)


def first_flaw(entries: Iterable[AuditEntry]) -> str:
    """What is wrong with the first entry that is not as it was written; empty when all are, from the first on."""
    before, number = FIRST, 1
    for entry in entries:
        if entry.number != number:
            return f"entry {number} is missing: {entry.number} stands in its place"
        if entry.before != before:
            return f"entry {number} does not follow the one before it"
        if entry.hash != entry.right_hash:
            return f"entry {number} was changed"
        before, number = entry.hash, number + 1
    return ""
