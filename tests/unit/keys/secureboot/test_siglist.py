"""Signature lists: as firmware has them, and damaged."""

from __future__ import annotations

import hashlib
import struct
import uuid
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.secureboot.siglist import (
    OWNER,
    ListedSignature,
    SignatureKind,
    certificate_list,
    hash_list,
    hashes_of,
    parse_lists,
)

ONE, TWO = hashlib.sha256(b"one").digest(), hashlib.sha256(b"two").digest()


def test_a_list_is_laid_out_as_the_specification_has_it() -> None:
    made = hash_list([ONE])
    assert made[:16] == uuid.UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le
    assert struct.unpack("<III", made[16:28]) == (76, 0, 48)
    assert made[28:44] == OWNER.bytes_le
    assert made[44:] == ONE


def test_what_is_written_is_read_and_each_once() -> None:
    lists = hash_list([TWO, ONE, TWO]) + certificate_list(b"certificate") + hash_list([ONE])
    assert parse_lists(lists) == {
        ListedSignature(SignatureKind.SHA256, ONE),
        ListedSignature(SignatureKind.SHA256, TWO),
        ListedSignature(SignatureKind.X509, b"certificate"),
    }
    assert hashes_of(parse_lists(lists)) == {ONE, TWO}
    assert parse_lists(b"") == frozenset()


def test_lists_of_other_kinds_are_passed_over() -> None:
    other = uuid.uuid4().bytes_le + struct.pack("<III", 28 + 4 + 20, 4, 20) + bytes(24)
    assert hashes_of(parse_lists(other + hash_list([ONE]))) == {ONE}


@pytest.mark.parametrize("digests", [[], [b"short"], [ONE, ONE + b"x"]])
def test_what_is_no_hash_is_not_listed(digests: list[bytes]) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        hash_list(digests)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (hash_list([ONE])[:-1], "damaged list at 0"),
        (hash_list([ONE]) + b"x", "ends in the middle of a list at 76"),
        (hash_list([ONE])[:16] + struct.pack("<III", 76, 0, 0) + bytes(48), "damaged"),
        (hash_list([ONE])[:16] + struct.pack("<III", 76, 0, 15) + bytes(48), "damaged"),
        (hash_list([ONE])[:16] + struct.pack("<III", 0, 0, 48) + bytes(48), "damaged"),
        (hash_list([ONE])[:16] + struct.pack("<III", 76, 49, 48) + bytes(48), "damaged"),
        (bytes((1 << 20) + 1), "more than"),
    ],
)
def test_damaged_lists_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_lists(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_lists_or_an_error(data: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(parse_lists(data), frozenset)
