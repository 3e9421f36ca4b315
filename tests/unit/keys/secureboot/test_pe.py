"""The digest of a program, its table of signatures, and programs that are refused."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import PeFormatError
from keys.secureboot.pe import attach, authenticode_digest, section_bytes, sections_of, signatures_of
from tests.fakes.pe_files import HEADERS, pe_file

PE = 0x40
OPTIONAL = PE + 24
CHECKSUM, ENTRY = OPTIONAL + 64, OPTIONAL + 112 + 32


def written(folder: Path, content: bytes) -> Path:
    path = folder / "program.efi"
    path.write_bytes(content)
    return path


def changed(content: bytes, offset: int, value: bytes) -> bytes:
    assert content[offset : offset + len(value)] != value
    return content[:offset] + value + content[offset + len(value) :]


def test_the_digest_leaves_out_checksum_and_entry_and_pads_the_end(tmp_path: Path) -> None:
    content = pe_file(b"one", b"two", tail=b"12345")
    signed = content[:CHECKSUM] + content[CHECKSUM + 4 : ENTRY] + content[ENTRY + 8 :] + bytes(3)
    assert authenticode_digest(written(tmp_path, content)) == hashlib.sha256(signed).digest()
    other = changed(content, CHECKSUM, b"\1\2\3\4")
    assert authenticode_digest(written(tmp_path, other)) == hashlib.sha256(signed).digest()


@pytest.mark.parametrize("tail", [b"", b"1", b"1234567", b"12345678"])
def test_a_signature_does_not_change_the_digest_and_is_found_again(tail: bytes, tmp_path: Path) -> None:
    unsigned, signed = written(tmp_path, pe_file(b"kernel", tail=tail)), tmp_path / "signed.efi"
    attach(b"\x30signature", unsigned, signed)
    assert authenticode_digest(signed) == authenticode_digest(unsigned)
    assert signatures_of(signed) == (b"\x30signature",)
    assert signatures_of(unsigned) == ()
    assert signed.stat().st_size % 8 == 0


def test_a_section_is_found_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, pe_file(b"a" * 10, b"b" * 0x300, names=(".cmdline", ".osrel")))
    assert section_bytes(path, ".osrel") == b"b" * 0x300
    assert [each.name for each in sections_of(path)] == [".cmdline", ".osrel"]
    assert section_bytes(path, ".cmdline") == b"a" * 10
    assert section_bytes(path, ".linux") is None
    with pytest.raises(PeFormatError, match="more than 100"):
        section_bytes(path, ".osrel", limit=100)


def test_a_signed_program_is_not_signed_twice(tmp_path: Path) -> None:
    unsigned, signed = written(tmp_path, pe_file(b"kernel")), tmp_path / "signed.efi"
    attach(b"one", unsigned, signed)
    with pytest.raises(PeFormatError, match="is signed already"):
        attach(b"two", signed, tmp_path / "twice.efi")
    assert not (tmp_path / "twice.efi").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "does not begin with MZ"),
        (b"MZ", "is not a program"),
        (b"MZ" + bytes(200), "has no PE header"),
        (pe_file(b"x")[:0x80], "is not a program"),
        (pe_file(b"x", magic=0x107), "unknown kind 0x107"),
        (pe_file(b"x", entries=4), "no entry for signatures"),
        (pe_file(b"x", b"y", gap=512), "the part before it ends at"),
        (pe_file(b"x" * 1024)[:-1], "is cut off"),
        (changed(pe_file(b"x"), OPTIONAL + 60, struct.pack("<I", 64)), "headers are longer than they say"),
        (changed(pe_file(b"x"), PE + 6, struct.pack("<H", 97)), "97 sections"),
        (changed(pe_file(b"x"), ENTRY, struct.pack("<II", HEADERS, 8)), "does not end the file"),
        (changed(pe_file(b"x"), ENTRY, struct.pack("<II", 0xFFFFFFF8, 16)), "does not end the file"),
    ],
)
def test_a_file_whose_signed_part_is_unclear_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(PeFormatError, match=says):
        authenticode_digest(written(tmp_path, content))


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    unsigned, signed = written(tmp_path, pe_file(b"kernel")), tmp_path / "signed.efi"
    attach(b"signature", unsigned, signed)
    content = signed.read_bytes()
    table = len(unsigned.read_bytes())
    signed.write_bytes(changed(content, table, struct.pack("<I", 4096)))
    with pytest.raises(PeFormatError, match="table of signatures"):
        signatures_of(signed)


@given(change=st.binary(max_size=64), offset=st.integers(0, HEADERS - 1))
def test_any_change_of_a_header_is_an_error_or_a_digest_and_nothing_else(
    change: bytes, offset: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(pe_file(b"one", b"two"))
    content[offset : offset + len(change)] = change
    path = written(tmp_path_factory.mktemp("pe"), bytes(content))
    with suppress(PeFormatError):
        assert len(authenticode_digest(path)) == 32
