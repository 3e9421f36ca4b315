"""Additions to db and dbx: the same bytes as efitools makes, and nothing else is ever signed as one."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from keys.secureboot.siglist import BootVariable, hash_list, hashes_of, lists_of
from keys.secureboot.variable import Addition, parse_to_sign
from tests.fakes.boot_signatures import boot_signature_holds

HERE = Path(__file__).parent
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIGEST = hashlib.sha256(b"uki").digest()
ADDITION = Addition(BootVariable.DBX, MADE, hash_list([DIGEST]))


def test_efitools_makes_the_same_bytes() -> None:
    """Made by efitools 1.9.2: `sign-efi-sig-list -a -t "2026-01-02 03:04:05" -k KEK.pem -c KEK.crt dbx …`."""
    theirs = (HERE / "efitools-dbx.auth").read_bytes()
    certificate = x509.load_pem_x509_certificate((HERE / "efitools-KEK.crt").read_bytes())
    lists = lists_of(theirs)
    ours = Addition(BootVariable.DBX, MADE, lists)
    signature = theirs[: len(theirs) - len(lists)][-256:]
    assert boot_signature_holds(certificate, signature, ours.to_sign())
    assert ours.payload(signature, certificate) == theirs
    assert len(hashes_of(ours.signatures)) == 1


def test_what_is_signed_is_read_back_as_what_it_does() -> None:
    for variable in BootVariable:
        addition = Addition(variable, MADE, hash_list([DIGEST]))
        assert parse_to_sign(addition.to_sign()) == addition
    elsewhere = Addition(BootVariable.DB, MADE.astimezone(timezone(timedelta(hours=5))), hash_list([DIGEST]))
    assert elsewhere.to_sign() == Addition(BootVariable.DB, MADE, hash_list([DIGEST])).to_sign()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ADDITION.to_sign()[:20],
        ADDITION.to_sign()[:30],
        ADDITION.to_sign()[:-1],
        ADDITION.to_sign().replace("dbx".encode("utf-16-le"), "KEK".encode("utf-16-le")),
        Addition(BootVariable.DBX, MADE, b"").to_sign(),
        # Not appended: it would replace the variable.
        ADDITION.to_sign()[:22] + b"\x27" + ADDITION.to_sign()[23:],
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    assert data != ADDITION.to_sign()
    with pytest.raises(ValueError, match=r"addition|damaged|ends in|middle"):
        parse_to_sign(data)


@pytest.mark.parametrize("data", [b"", bytes(39), bytes(100), (HERE / "efitools-dbx.auth").read_bytes()[:1000]])
def test_a_damaged_payload_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no signed addition|PKCS #7|shorter"):
        lists_of(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_addition_or_an_error(data: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(parse_to_sign(data), Addition)
    with suppress(ValueError):
        assert isinstance(lists_of(data), bytes)
