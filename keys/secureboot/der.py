"""Writes DER (ITU-T X.690), in the few forms that signatures for firmware need; nothing is read with it.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

_SHORT = 0x80
_CONTEXT, _CONSTRUCTED = 0x80, 0x20
NULL = bytes.fromhex("0500")


def tagged(tag: int, content: bytes) -> bytes:
    """A value with its tag and its length, in the shortest form."""
    size = len(content)
    if size < _SHORT:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _SHORT | len(length))) + length + content


def sequence(*members: bytes) -> bytes:
    """SEQUENCE."""
    return tagged(0x30, b"".join(members))


def set_of(members: Iterable[bytes]) -> bytes:
    """SET OF, whose members DER sorts by their bytes."""
    return tagged(0x31, b"".join(sorted(members)))


def explicit(number: int, content: bytes) -> bytes:
    """A value inside a context-specific tag of its own."""
    return tagged(_CONTEXT | _CONSTRUCTED | number, content)


def retagged(number: int, encoded: bytes) -> bytes:
    """A constructed value whose first byte is replaced by a context-specific tag (IMPLICIT)."""
    return bytes((_CONTEXT | _CONSTRUCTED | number,)) + encoded[1:]


def integer(value: int) -> bytes:
    """INTEGER."""
    return tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def octets(value: bytes) -> bytes:
    """OCTET STRING."""
    return tagged(0x04, value)


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    return tagged(0x06, b"".join(_base128(arc) for arc in (40 * first + second, *rest)))


def content_of(encoded: bytes) -> bytes:
    """What a value holds, without its tag and its length."""
    head = 2 + (encoded[1] & ~_SHORT if encoded[1] & _SHORT else 0)
    return encoded[head:]


def _base128(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(0x80 | value & 0x7F)
    return bytes(reversed(digits))
