"""The bytes of a state file: hints with a digest over them, and what can be saved of a damaged one.  Pure: no I/O.

The digest is the document's first key, over the document without it, so that a changed byte is found although what is
left still reads as hints: a pin to another version would be followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from bedrock import evolution, strict
from bedrock.digest import bytes_sha256
from bedrock.errors import DocumentError
from updater.agent.state import Hints, parse_hints

_OPENING = b"{\n"
_SEAL = re.compile(rb'\{\n  "sha256": "(?P<digest>[0-9a-f]{64})",\n')


@dataclass(frozen=True)
class Reading:
    """What a state file says; `problem`: why it is damaged, and `hints` is then what could be saved of it."""

    hints: Hints
    problem: str = ""

    @property
    def sound(self) -> bool:
        """Whether it is exactly what was written."""
        return not self.problem


def dump(hints: Hints) -> bytes:
    """The file of these hints."""
    plain = strict.dump_json(hints)
    digest = bytes_sha256(plain).encode()
    return _OPENING + b'  "sha256": "' + digest + b'",\n' + plain.removeprefix(_OPENING)


def parse(data: bytes, *, source: str) -> Reading:
    """Read a state file, whatever happened to it."""
    try:
        problem = "" if _is_sealed(data) else "its content does not match its digest"
        return Reading(parse_hints(data, source=source), problem)
    except DocumentError as error:
        return Reading(salvaged(data), str(error.problems[0]))


def salvaged(data: bytes) -> Hints:
    """What can be read of a document, part by part; nothing of one that is not JSON."""
    try:
        value = strict.parse_json(data, source="")
    except DocumentError:
        return Hints()
    found = Hints()
    for part in _parts(value) if isinstance(value, Mapping) else ():
        found = replace(found, **part)
    return found


def kept_twice(hints: Hints) -> Hints:
    """What an operator asked for, and what failed here: all that no disk can tell again."""
    return replace(hints, poll=None, firmware=(), history=())


def with_kept(hints: Hints, kept: Hints) -> Hints:
    """Hints with the parts that are kept twice from elsewhere."""
    return replace(kept, poll=hints.poll, firmware=hints.firmware, history=hints.history)


def completed(hints: Hints, other: Hints) -> Hints:
    """Hints whose empty parts are filled from others."""
    empty = Hints()
    gaps = {each.name for each in fields(Hints) if getattr(hints, each.name) == getattr(empty, each.name)}
    return replace(hints, **{name: getattr(other, name) for name in gaps})


def _is_sealed(data: bytes) -> bool:
    match = _SEAL.match(data)
    return match is not None and bytes_sha256(_OPENING + data[match.end() :]).encode() == match["digest"]


def _parts(value: Mapping[Any, Any]) -> Iterator[dict[str, Any]]:
    """The fields of a document that can be read; of a list, its members that can be."""
    for each in fields(Hints):
        written = value.get(each.name)
        if isinstance(written, list):
            members = (_field(each.name, [one]) for one in written)
            yield {each.name: tuple(member for found in members if found for member in found)}
        elif written is not None and (found := _field(each.name, written)) is not None:
            yield {each.name: found}


def _field(name: str, value: object) -> Any:
    """One field's value; None when it cannot be read."""
    try:
        return getattr(evolution.read(Hints, {name: value}, source=""), name)
    except DocumentError:
        return None
