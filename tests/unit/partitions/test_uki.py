"""What a UKI says of itself."""

from __future__ import annotations

import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions.errors import UkiError
from partitions.uki import UkiContent, read_uki
from partitions.version import Version
from tests.fakes.pe_files import pe_file, uki_file

HASH, OTHER = "ab" * 32, "cd" * 32
RELEASE = b"IMAGE_ID=host\nIMAGE_VERSION=1.0.0\n"


def read(content: bytes) -> UkiContent:
    return read_uki(io.BytesIO(content), source="a.efi")


def program(*sections: tuple[str, bytes]) -> bytes:
    return pe_file(*(content for _, content in sections), names=tuple(name for name, _ in sections))


def test_a_uki_says_what_it_boots() -> None:
    assert read(uki_file(HASH, "host", "1.0.0")) == UkiContent(HASH, "host", Version("1.0.0"))


def test_further_profiles_boot_the_same_root() -> None:
    line = f"roothash={HASH}".encode()
    profiles = ((".profile", b"ID=rescue"), (".cmdline", line + b" systemd.unit=rescue.target"))
    assert read(program((".osrel", RELEASE), (".cmdline", line), *profiles)).root_hash == HASH


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "MZ"),
        (b"x", "MZ"),
        (b"MZ" + bytes(200), "PE header"),
        (pe_file(b"kernel"), "0 root hashes"),
        (uki_file(HASH, "host", "1.0.0", extra=f" roothash={OTHER}"), "2 root hashes"),
        (uki_file(HASH, "Host", "1.0.0"), "IMAGE_ID"),
        (uki_file(HASH, "host", "1_0"), "version"),
        (uki_file("ab", "host", "1.0.0"), "0 root hashes"),
        (program((".cmdline", f"roothash={HASH}".encode()), (".cmdline", b"quiet"), (".osrel", RELEASE)), "1 root"),
        (program((".osrel", bytes(1 << 17))), "has 131072 bytes"),
        (uki_file(HASH, "host", "1.0.0")[:1100], "bytes at"),
    ],
)
def test_anything_else_is_not_one(content: bytes, words: str) -> None:
    with pytest.raises(UkiError, match=words):
        read(content)


@given(st.integers(min_value=0, max_value=2600), st.binary(min_size=1, max_size=8))
def test_damage_is_an_error_or_another_content_and_nothing_else(at: int, junk: bytes) -> None:
    whole = uki_file(HASH, "host", "1.0.0")
    damaged = whole[:at] + junk + whole[at + len(junk) :]
    with suppress(UkiError):
        assert isinstance(read(damaged), UkiContent)
