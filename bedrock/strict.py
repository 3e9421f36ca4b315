"""Strict reading of YAML and JSON documents into frozen dataclasses.

Rules: unknown keys, missing keys, wrong types and values out of range are errors; all errors of one document are
reported together, each with its path (`slots.root_size`); a type is never guessed (`"5"` is not 5, `yes` is not text).
What a document means beyond its shape belongs in the dataclass's `__post_init__`, which raises `ValueError`.

Supported annotations: str, int, float, bool, Enum, nested dataclasses, `tuple[T, ...]`, `dict[str, T]` (its key may be
annotated, too), `T | None`, `Annotated[T, rule, …]` with `Pattern`, `Range`, `Size`, `Duration`, `OrNumber`, `Secret`,
`Alternatives`, and any class with a classmethod `from_text(str)` that raises ValueError.
Not a schema language: defaults and optional keys are the dataclass's own.
Documents that cross the wire between versions are read by the same types and another rule (`bedrock.evolution`).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from bedrock import yaml_text
from bedrock.errors import DocumentError, Problem

T = TypeVar("T")


@dataclass(frozen=True)
class Pattern:
    """Text must match this regular expression from its first to its last character."""

    expression: str
    meaning: str


@dataclass(frozen=True)
class Range:
    """A number must lie between `low` and `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True)
class Size:
    """Bytes, written as a number or as text with K, M, G or T (powers of 1024)."""


@dataclass(frozen=True)
class Duration:
    """Seconds, written as a number or as text such as `90s`, `10m`, `5min`, `1h 30m`, `2d` or `1w`."""


@dataclass(frozen=True)
class OrNumber:
    """Text that may also be written as a whole number, which is read as its digits."""


@dataclass(frozen=True)
class Secret:
    """A wrong value is not shown in errors, which are printed and logged."""


@dataclass(frozen=True)
class Alternatives:
    """A list whose members are ways to the same thing, told apart by these fields, which are enums.

    Read strictly it is a list like any other; see `bedrock.evolution` for the other way.
    """

    told_apart_by: tuple[str, ...]


_SIZE = re.compile(r"([0-9]{1,18})\s*([KMGT]?)(i?B)?")
_SIZE_FACTOR = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SPAN = re.compile(r"([0-9]{1,18}(?:\.[0-9]+)?)\s*(s|min|m|h|d|w)")
_DURATION = re.compile(rf"{_SPAN.pattern}(?:\s*{_SPAN.pattern})*")
_DURATION_FACTOR = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SHOWN_LENGTH = 60  # of a wrong value in a message
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")
_ENDLESS = 1 << 64
Bytes = Annotated[int, Size()]
Seconds = Annotated[float, Duration()]


def measure_pattern(rule: Size | Duration) -> str:
    """The regular expression of a size or a duration that is written as text."""
    return rf"\s*{(_SIZE if isinstance(rule, Size) else _DURATION).pattern}\s*"


def read_yaml(cls: type[T], text: str | bytes, *, source: str) -> T:
    """Read one YAML document into `cls`.

    Raises:
        DocumentError: The text is not YAML, repeats a key, or does not fit `cls`.
    """
    return read(cls, parse_yaml(text, source=source), source=source)


def read_json(cls: type[T], text: str | bytes, *, source: str) -> T:
    """Read one JSON document into `cls`.

    Raises:
        DocumentError: The text is not JSON, repeats a key, or does not fit `cls`.
    """
    return read(cls, parse_json(text, source=source), source=source)


def parse_yaml(text: str | bytes, *, source: str) -> object:
    """YAML text as plain values; an empty document is an empty mapping.

    Raises:
        DocumentError: The text is not YAML, repeats a key, or comes to far more than it holds (`yaml_text`).
    """
    try:
        loaded = yaml_text.load(text)
    except ValueError as error:
        raise DocumentError(source, (Problem("", f"not YAML: {error}"),)) from error
    return {} if loaded is None else loaded


def parse_json(text: str | bytes, *, source: str) -> object:
    """JSON text as plain values.

    Raises:
        DocumentError: The text is not JSON or repeats a key.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_pairs)
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError(source, (Problem("", f"not JSON: {_one_line(error)}"),)) from error


def load_yaml(cls: type[T], path: Path) -> T:
    """Read a YAML file into `cls`; errors name the file.

    Raises:
        DocumentError: The file does not fit `cls`.
        OSError: The file cannot be read.
    """
    return read_yaml(cls, path.read_bytes(), source=str(path))


def read(cls: type[T], value: object, *, source: str, growing: bool = False) -> T:
    """Turn plain values (mappings, lists, text, numbers) into an instance of the dataclass `cls`.

    Args:
        cls: What to make.
        value: The values.
        source: Where they come from, for errors.
        growing: Pass over keys and alternatives that `cls` does not know; `bedrock.evolution` says when.

    Raises:
        DocumentError: `value` does not fit; lists every error.
    """
    reader = _Reader(growing=growing)
    result = reader.read(cls, value, "")
    if reader.problems:
        raise DocumentError(source, tuple(reader.problems))
    return typing.cast("T", result)


def plain(value: object) -> Any:  # noqa: PLR0911 - one line per kind of value
    """The reverse of `read`: dataclasses, enums and paths as values that JSON and YAML can carry."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "from_text"):
            return str(value)
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def dump_json(value: object) -> bytes:
    """A value as deterministic JSON: sorted keys, two spaces, a final newline, UTF-8."""
    return (json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


class _Reader:
    """Reads a value as a type and collects all errors instead of stopping at the first."""

    def __init__(self, *, growing: bool = False) -> None:
        self.growing = growing
        self.problems: list[Problem] = []

    def fail(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def read(self, kind: Any, value: object, path: str, rules: tuple[object, ...] = ()) -> Any:
        origin = typing.get_origin(kind)
        if origin is Annotated:
            inner, *more = typing.get_args(kind)
            return self.read(inner, value, path, (*more, *rules))
        if origin in (types.UnionType, typing.Union):
            return self._optional(kind, value, path, rules)
        if origin is tuple:
            return self._sequence(typing.get_args(kind)[0], value, path, rules)
        if origin is dict:
            key_kind, item_kind = typing.get_args(kind)
            return self._mapping(key_kind, item_kind, value, path)
        if dataclasses.is_dataclass(kind) and not hasattr(kind, "from_text"):
            return self._record(kind, value, path, rules)
        return self._scalar(kind, value, path, rules)

    def _optional(self, kind: Any, value: object, path: str, rules: tuple[object, ...]) -> Any:
        if value is None:
            return None
        inner = [argument for argument in typing.get_args(kind) if argument is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"strict.read supports T | None only, not {kind}")
        return self.read(inner[0], value, path, rules)

    def _sequence(self, kind: Any, value: object, path: str, rules: tuple[object, ...]) -> Any:
        if not isinstance(value, list | tuple):
            return self.fail(path, f"must be a list, not {_shown(value)}")
        passed_over = [rule for rule in rules if self.growing and isinstance(rule, Alternatives)]
        return tuple(
            self.read(kind, item, f"{path}[{index}]")
            for index, item in enumerate(value)
            if not any(_is_unknown_alternative(kind, item, rule) for rule in passed_over)
        )

    def _mapping(self, key_kind: Any, kind: Any, value: object, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self.fail(path, f"must be a mapping, not {_shown(value)}")
        result = {}
        for key, item in value.items():
            if not isinstance(key, str):
                self.fail(_join(path, _named(key)), f"the key must be text, not {_shown(key)}")
                continue
            self.read(key_kind, key, path)
            result[key] = self.read(kind, item, _join(path, key))
        return result

    def _record(self, kind: Any, value: object, path: str, rules: tuple[object, ...]) -> Any:
        if not isinstance(value, Mapping):
            return self.fail(path, f"must be a mapping, not {_shown(value, rules)}")
        before = len(self.problems)
        hints = _hints(kind)
        fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
        for key in value:
            if key not in fields and not self.growing:
                self.fail(_join(path, _named(key)), f"unknown key (known: {', '.join(sorted(fields))})")
        given = {}
        for name, field in fields.items():
            if name in value:
                given[name] = self.read(hints[name], value[name], _join(path, name))
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                self.fail(_join(path, name), "is missing")
        if len(self.problems) > before:
            return None
        try:
            return kind(**given)
        except ValueError as error:
            return self.fail(path, str(error))

    def _scalar(self, kind: Any, value: object, path: str, rules: tuple[object, ...]) -> Any:
        if not _is_plain(value):
            return self.fail(path, "is neither text in Unicode nor a number of a sensible size")
        for rule in rules:
            if isinstance(rule, Size | Duration) and isinstance(value, str):
                value = self._measure(rule, value, path)
                if value is None:
                    return None
            if isinstance(rule, OrNumber) and isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
        converted = self._convert(kind, value, path, rules)
        if converted is None:
            return None
        for rule in rules:
            self._obey(rule, converted, path, rules)
        return converted

    def _convert(self, kind: Any, value: object, path: str, rules: tuple[object, ...]) -> Any:
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            known = {member.value: member for member in kind}
            if isinstance(value, Hashable) and value in known and not isinstance(value, bool):
                return known[value]
            return self.fail(path, f"must be one of {', '.join(map(str, known))}, not {_shown(value)}")
        if hasattr(kind, "from_text"):
            return self._from_text(kind.from_text, value, path)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind in (str, int, float, bool):
            if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
                return value
            return self.fail(path, f"must be {_NAMES[kind]}, not {_shown(value, rules)}")
        raise TypeError(f"strict.read does not support {kind}")

    def _from_text(self, parse: Callable[[str], object], value: object, path: str) -> Any:
        if not isinstance(value, str):
            return self.fail(path, f"must be text, not {_shown(value)}")
        try:
            return parse(value)
        except ValueError as error:
            return self.fail(path, str(error))

    def _measure(self, rule: Size | Duration, value: str, path: str) -> Any:
        if re.fullmatch(measure_pattern(rule), value) is None:
            wanted = "a size such as 512M or 2G" if isinstance(rule, Size) else "a duration such as 30s, 10m or 1h 30m"
            return self.fail(path, f"must be {wanted}, not {_shown(value)}")
        if isinstance(rule, Size):
            amount, unit = typing.cast("re.Match[str]", _SIZE.match(value.strip())).group(1, 2)
            return int(amount) * _SIZE_FACTOR[unit]
        return sum(float(amount) * _DURATION_FACTOR[unit] for amount, unit in _SPAN.findall(value))

    def _obey(self, rule: object, value: Any, path: str, rules: tuple[object, ...]) -> None:
        if isinstance(rule, Pattern) and not re.fullmatch(rule.expression, value):
            self.fail(path, f"{_shown(value, rules)} is not {rule.meaning}")
        if isinstance(rule, Range) and not rule.low <= value <= rule.high:
            self.fail(path, f"must be from {rule.low:g} to {rule.high:g}, not {value}")
        if isinstance(rule, Size) and value < 0:
            self.fail(path, f"must not be negative, not {value}")
        if isinstance(rule, Duration) and not 0 <= value < float("inf"):
            self.fail(path, f"must be a number of seconds, not {value}")


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _is_unknown_alternative(kind: Any, item: object, rule: Alternatives) -> bool:
    """Whether an item of a list has text in one of the rule's fields that is no member of the field's enum."""
    if not isinstance(item, Mapping):
        return False
    hints = typing.get_type_hints(kind)
    return any(
        isinstance(item.get(name), str) and item[name] not in {member.value for member in hints[name]}
        for name in rule.told_apart_by
    )


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} is given twice")
        result[key] = value
    return result


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _is_plain(value: object) -> bool:
    """Whether text is Unicode (escapes in JSON and YAML can write half a character) and a number not endless."""
    if isinstance(value, str):
        return not _HALF_CHARACTER.search(value)
    return not isinstance(value, int) or abs(value) < _ENDLESS


def _shown(value: object, rules: tuple[object, ...] = ()) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if any(isinstance(rule, Secret) for rule in rules):
        return "what is written there"
    text = repr(value) if isinstance(value, str) or _is_plain(value) else "an endless number"
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 3] + "..."


def _named(key: object) -> str:
    """A key as part of a path."""
    return key if isinstance(key, str) and key.isprintable() else _shown(key)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
