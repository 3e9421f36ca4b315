"""Documents that cross the wire, or a disk, between versions of this program, and grow.

Rules, the same for every such document and on both sides:

- A key that a reader does not know is ignored, at every depth.
- `critical`, a list at the top of a document, names keys that a reader must understand, as paths (`pace.waves`); one
  that does not know such a key refuses the document and names the key.  Lists and mappings by name take no part of
  their own in a path: `artifacts.root.objects.cipher`.
- `format` changes only when all of a document is new.
- Of a list of alternatives (`strict.Alternatives`), such as the objects that carry an artifact, a member of an unknown
  kind is passed over.  What changes the meaning of a known kind is therefore a new kind.
- Any other value that a reader does not know (an architecture) is an error, as is everything else that `strict` finds.
- Whoever reads a document to write it again refuses one with keys that it does not know: they would be lost.

What people write is read by `strict` alone, where an unknown key is a typing error.
Source of `critical`: RFC 7515 section 4.1.11 (JWS `crit`).
Pure.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from bedrock import strict
from bedrock.errors import DocumentError, Problem

T = TypeVar("T")

CRITICAL = "critical"
MAX_CRITICAL = 64


def read_json(cls: type[T], text: str | bytes, *, source: str) -> T:
    """Read one JSON document into `cls`, by the rules above.

    Raises:
        DocumentError: Not JSON, a key given twice, a critical key that `cls` does not know, wrong or missing values.
    """
    return read(cls, strict.parse_json(text, source=source), source=source)


def read(cls: type[T], value: object, *, source: str) -> T:
    """Turn plain values into an instance of `cls`, by the rules above.

    Raises:
        DocumentError: A critical key that `cls` does not know, wrong or missing values.
    """
    if isinstance(value, Mapping) and CRITICAL in value:
        problems = tuple(_critical_problems(cls, value[CRITICAL]))
        if problems:
            raise DocumentError(source, problems)
    return strict.read(cls, value, source=source, growing=True)


def read_to_rewrite(cls: type[T], text: str | bytes, *, source: str) -> T:
    """Read one JSON document that is going to be written again from `cls`.

    Raises:
        DocumentError: As `read_json`, and for each key or alternative that would be lost.
    """
    value = strict.parse_json(text, source=source)
    read(cls, value, source=source)
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if key != CRITICAL}
    return strict.read(cls, value, source=source)


def _critical_problems(cls: type[Any], value: object) -> Iterator[Problem]:
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value) or len(value) > MAX_CRITICAL:
        yield Problem(CRITICAL, f"must be a list of at most {MAX_CRITICAL} keys")
        return
    for path in value:
        if not _is_known(cls, path.split(".")):
            yield Problem(CRITICAL, f"the document must not be used without understanding {path!r}, which is new here")


def _is_known(kind: Any, path: list[str]) -> bool:
    """Whether the keys of a path are fields of `kind`, one within the other."""
    kind = _inner(kind)
    if not path:
        return True
    if not dataclasses.is_dataclass(kind) or hasattr(kind, "from_text"):
        return False
    if path[0] not in {field.name for field in dataclasses.fields(kind) if field.init}:
        return False
    return _is_known(typing.get_type_hints(kind, include_extras=True)[path[0]], path[1:])


def _inner(kind: Any) -> Any:
    """A type without its rules, its `| None`, and the list or mapping around it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated or origin is tuple:
        return _inner(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return _inner(next(argument for argument in arguments if argument is not type(None)))
    if origin is dict:
        return _inner(arguments[1])
    return kind
