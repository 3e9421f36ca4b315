"""JSON Schema (2020-12) of the documents that `bedrock.strict` reads, for completion and checks in editors.

Rules: the schema is made from the annotations that the reader uses, and refuses nothing that the reader accepts.
It may accept more: it leaves out what `__post_init__` checks, what `from_text` refuses, and the ranges of sizes and
durations written as text.  Descriptions come from the `Attributes:` section of a dataclass's docstring.
Pure; not a second reader: `strict` decides.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from bedrock import strict

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ATTRIBUTE = re.compile(r" {4}(?P<name>\w+): (?P<text>.*)")
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def json_schema(cls: type[Any], *, title: str) -> dict[str, Any]:
    """The schema of documents that `strict.read(cls, …)` reads.

    Raises:
        TypeError: `cls` has an annotation that `strict` does not support.
    """
    return {"$schema": DIALECT, "title": title, **_record(cls)}


def attributes(cls: type[Any]) -> dict[str, str]:
    """What the `Attributes:` section of a class's docstring says of each attribute, each as one line."""
    lines = inspect.cleandoc(cls.__doc__ or "").splitlines()
    found: dict[str, str] = {}
    name = None
    for line in lines[lines.index("Attributes:") + 1 :] if "Attributes:" in lines else ():
        if match := _ATTRIBUTE.fullmatch(line):
            name = match["name"]
            found[name] = match["text"].strip()
        elif name is None or not line.startswith("     "):
            break
        else:
            found[name] += f" {line.strip()}"
    return found


def _record(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    descriptions = attributes(cls)
    properties: dict[str, Any] = {}
    required = []
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        schema = _kind(hints[field.name])
        if field.name in descriptions:
            schema = {**schema, "description": descriptions[field.name]}
        properties[field.name] = {**schema, **_default(field)}
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    return {
        "type": "object",
        "description": _summary(cls),
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _kind(kind: Any, rules: tuple[object, ...] = ()) -> dict[str, Any]:  # noqa: PLR0911 - one line per kind of annotation
    origin = typing.get_origin(kind)
    if origin is Annotated:
        inner, *more = typing.get_args(kind)
        return _kind(inner, (*more, *rules))
    if origin in (types.UnionType, typing.Union):
        inner = next(argument for argument in typing.get_args(kind) if argument is not type(None))
        return {"anyOf": [_kind(inner, rules), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _kind(typing.get_args(kind)[0])}
    if origin is dict:
        key, item = typing.get_args(kind)
        names = {"propertyNames": _kind(key)} if typing.get_origin(key) is Annotated else {}
        return {"type": "object", **names, "additionalProperties": _kind(item)}
    if hasattr(kind, "from_text"):
        return {"type": "string", "description": _summary(kind)}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    if kind in _TYPES:
        return _scalar(kind, rules)
    raise TypeError(f"there is no schema for {kind}: strict does not read it")


def _scalar(kind: Any, rules: tuple[object, ...]) -> dict[str, Any]:
    """Numbers and text with their rules; what may be written as a measure is a number or a text."""
    schema: dict[str, Any] = {"type": _TYPES[kind]}
    patterns = [rule for rule in rules if isinstance(rule, strict.Pattern)]
    for rule in rules:
        if isinstance(rule, strict.Range):
            schema |= {"minimum": _bound(rule.low), "maximum": _bound(rule.high)}
        elif isinstance(rule, strict.Size | strict.Duration):
            schema.setdefault("minimum", 0)
    if patterns:
        schema["description"] = patterns[0].meaning
    if len(patterns) == 1:
        schema["pattern"] = _anchored(patterns[0].expression)
    elif patterns:
        schema["allOf"] = [{"pattern": _anchored(pattern.expression)} for pattern in patterns]
    for rule in rules:
        if isinstance(rule, strict.Size | strict.Duration):
            return {"anyOf": [schema, {"type": "string", "pattern": _anchored(strict.measure_pattern(rule))}]}
        if isinstance(rule, strict.OrNumber):
            return {"anyOf": [schema, {"type": "integer"}]}
    return schema


def _default(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """The default of a key; nested documents give theirs key by key."""
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return {}
    plain = strict.plain(value)
    return {} if isinstance(plain, Mapping) and plain else {"default": plain}


def _anchored(expression: str) -> str:
    return f"^(?:{expression})$"


def _bound(value: float) -> float:
    return int(value) if math.isfinite(value) and value == int(value) else value


def _summary(cls: type[Any]) -> str:
    """The first paragraph of a class's docstring."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
