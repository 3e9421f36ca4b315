"""Damage that is certain: bits are flipped, so that whatever was there is something else afterwards."""

from __future__ import annotations

from pathlib import Path


def flipped(data: bytes, at: int = -1) -> bytes:
    """The same bytes but for one, all of whose bits are flipped; `at` counts from the end when it is negative."""
    changed = bytearray(data)
    changed[at] ^= 0xFF
    assert bytes(changed) != data
    return bytes(changed)


def flip_bits(path: Path, at: int = -1) -> None:
    """Flip all bits of one byte of a file, in place."""
    path.write_bytes(flipped(path.read_bytes(), at))
