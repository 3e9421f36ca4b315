"""Compares the inputs here with those of a release, according to its signed provenance.

This happens before anything is built: different inputs explain different bytes, and the user wants to know which.
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from bedrock.errors import DocumentError
from imagebuild.inputs.lockfile import changes, read_lock
from imagebuild.reproduction.documents import places
from updater.documents.statement import Statement

_SHOWN = 10


@dataclass(frozen=True)
class Here:
    """The inputs here: the definition's folder, this program, and the lock next to the definition, if any."""

    image: str
    definition_sha256: str
    own_version: str
    own_sha256: str
    lock: bytes | None


def input_problems(statement: Statement, lock: bytes, here: Here) -> tuple[str, ...]:
    """The differences between the inputs here and those of the release; empty when there are none.

    Args:
        statement: The release's provenance.
        lock: The published lock.
        here: What is here.
    """
    asked = statement.predicate.buildDefinition.externalParameters
    builder = statement.predicate.buildDefinition.internalParameters
    problems = []
    if here.image != asked.image:
        problems.append(f"the definition is of {here.image}, the release of {asked.image}")
    elif here.definition_sha256 != asked.definitionSha256:
        problems.append(
            f"the definition is another one (SHA-256 {here.definition_sha256}, and {asked.definitionSha256} was built)"
        )
    if here.own_sha256 != builder.twinhullSha256:
        problems.append(
            f"this is Twinhull {here.own_version} (sources {here.own_sha256[:16]}), "
            f"the release was built by {builder.twinhullVersion} ({builder.twinhullSha256[:16]})"
        )
    if here.lock is not None and here.lock != lock:
        problems += _lock_problems(here.lock, lock)
    return tuple(problems)


def _lock_problems(mine: bytes, published: bytes) -> Iterator[str]:
    yield "the lock next to the definition is not the published one:"
    try:
        found = changes(read_lock(published, source="the published lock"), read_lock(mine, source="image.lock"))
    except DocumentError as error:
        yield f"  {error}"
        return
    for change in found[:_SHOWN]:
        yield f"  {change.part}: {change.name}: {change.old or 'not there'} published, {change.new or 'not there'} here"
    if len(found) > _SHOWN:
        yield f"  and {len(found) - _SHOWN} more"
    if not found:
        yield from (f"  {place}" for place in islice(places(json.loads(published), json.loads(mine)), _SHOWN))
