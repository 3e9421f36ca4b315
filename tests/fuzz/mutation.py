"""Damages documents in ways that parsers meet: bytes flipped, cut, doubled; values of a wrong kind; keys gone or twice.

The same random numbers give the same damage, so a finding is repeated from its seed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_MOST_STEPS = 6
_MOST_BYTES = 256 << 10
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63)
_TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"1e999", b"-0", b"NaN", b"\\ud800", b"\\u0000"),
    *(b"../", b"/", b"\0", b"\n", b"\n\n", b"\r\n", b"\xff", b"\xef\xbb\xbf", b"&a ", b"*a", b"<<: ", b"- ", b"!!"),
    *(b"9" * 30, b"9" * 5000, b"[" * 2000, b"%", b"+3-0", b"~", b"^", b"!<arch>\n", b"`\n", "é".encode()),
)
_ODD: tuple[Callable[[], Any], ...] = (
    *(lambda: None, lambda: True, lambda: -1, lambda: 0, lambda: 1 << 63, lambda: 10**400, lambda: 0.5),
    *(lambda: float("inf"), lambda: float("nan"), lambda: "", lambda: "\ud800", lambda: "\0", lambda: "x" * 5000),
    *(lambda: "../../etc/passwd", lambda: "2026-01-31T12:00:00Z", lambda: "9999-12-31T23:59:59Z", lambda: "0" * 64),
    *(list, dict, lambda: [[]], lambda: {"": {}}, lambda: [None] * 50, lambda: _deep(200)),
)


def damaged(seeds: Sequence[bytes], random: Random) -> bytes:
    """One of the seeds, damaged once or a few times."""
    data = random.choice(seeds)
    steps = random.randint(1, _MOST_STEPS)
    structured = _structured(data) if random.random() < 0.5 else None
    if structured is not None:
        for _ in range(steps):
            structured = _other_value(structured, random)
        data = _text(structured)
        if random.random() < 0.8:
            return data[:_MOST_BYTES]
    for _ in range(steps):
        data = random.choice(_STEPS)(data, seeds, random)
    return data[:_MOST_BYTES]


def _place(data: bytes, random: Random) -> int:
    return random.randint(0, len(data))


def _flip(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    if not data:
        return b"\0"
    raw = bytearray(data)
    raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
    return bytes(raw)


def _number(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    form = random.choice(("<B", "<H", "<I", "<Q", ">H", ">I", ">Q"))
    raw = struct.pack(form, random.choice(_NUMBERS) & ((1 << 8 * struct.calcsize(form)) - 1))
    at = _place(data, random)
    return data[:at] + raw + data[at + len(raw) :]


def _cut(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    return data[: _place(data, random)]


def _remove(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = _place(data, random)
    return data[:at] + data[at + random.choice((1, 2, 4, 16, 64)) :]


def _insert(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = _place(data, random)
    piece = random.choice(_TOKENS) if random.randrange(4) else random.randbytes(random.randint(1, 8))
    return data[:at] + piece + data[at:]


def _double(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = sorted((_place(data, random), _place(data, random)))
    at = _place(data, random)
    return data[:at] + data[start:end] + data[at:]


def _splice(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(seeds)
    return data[: _place(data, random)] + other[_place(other, random) :]


_STEPS = (_flip, _flip, _number, _cut, _remove, _insert, _insert, _double, _splice)


def _structured(data: bytes) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _other_value(value: Any, random: Random) -> Any:
    """The value with one node replaced, removed, added, or moved to another place."""
    containers = list(_containers(value))
    if not containers:
        return value
    chosen = random.choice(containers)
    keys: list[Any] = list(chosen) if isinstance(chosen, dict) else list(range(len(chosen)))
    key = random.choice(keys) if keys else None
    kind = random.randrange(5)
    if key is None or kind == 0:
        odd = random.choice(_ODD)()
        if isinstance(chosen, dict):
            chosen[random.choice(("x", "", "critical", "format", "\ud800"))] = odd
        else:
            chosen.append(odd)
    elif kind == 1:
        del chosen[key]
    elif kind == 2:
        other = random.choice(containers)
        chosen[key] = json.loads(json.dumps(other)) if _depth(other) < _MOST_STEPS else None
    else:
        chosen[key] = random.choice(_ODD)()
    return value


def _containers(value: Any, left: int = 20) -> list[Any]:
    found: list[Any] = []
    if left and isinstance(value, dict | list):
        found.append(value)
        for each in value.values() if isinstance(value, dict) else value:
            found += _containers(each, left - 1)
    return found


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max((_depth(each) for each in (value.values() if isinstance(value, dict) else value)), default=0)


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()
