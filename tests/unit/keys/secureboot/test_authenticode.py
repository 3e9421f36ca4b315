"""Signatures of programs: the same for the same program, and readable by the reader of `cryptography`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from hypothesis import given
from hypothesis import strategies as st

from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import BootRole
from keys.secureboot import authenticode, der
from keys.signers import BootSigner, open_boot_signer
from tests.fakes.boot_signatures import boot_signature_holds
from tests.fakes.keyrings import dev_folder

DIGEST = hashlib.sha256(b"program").digest()


@pytest.fixture
def signer(tmp_path: Path) -> BootSigner:
    return open_boot_signer(Keyring.load(dev_folder(tmp_path)), BootRole.DB, NoPassphrase())


def test_the_same_program_gets_the_same_signature(signer: BootSigner) -> None:
    made = {
        authenticode.assemble(DIGEST, signer.sign(authenticode.to_sign(DIGEST)), signer.certificate) for _ in range(2)
    }
    assert len(made) == 1


def test_a_signature_carries_the_certificate_the_digest_and_what_was_signed(signer: BootSigner) -> None:
    signature = signer.sign(authenticode.to_sign(DIGEST))
    made = authenticode.assemble(DIGEST, signature, signer.certificate)
    (certificate,) = load_der_pkcs7_certificates(made)
    assert certificate.public_bytes(Encoding.DER) == signer.certificate.public_bytes(Encoding.DER)
    assert DIGEST in made
    assert signature in made
    assert der.content_of(authenticode.to_sign(DIGEST)) in made


def test_a_key_signs_one_program_and_no_other(signer: BootSigner) -> None:
    signature = signer.sign(authenticode.to_sign(DIGEST))
    other = authenticode.to_sign(hashlib.sha256(b"other").digest())
    assert not boot_signature_holds(signer.certificate, signature, other)


def test_what_is_no_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        authenticode.to_sign(b"short")


@pytest.mark.parametrize(("size", "head"), [(0, "0400"), (127, "047f"), (128, "048180"), (65536, "0483010000")])
def test_lengths_are_written_in_the_shortest_form(size: int, head: str) -> None:
    encoded = der.octets(bytes(size))
    assert encoded.hex().startswith(head)
    assert der.content_of(encoded) == bytes(size)


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, "020100"), (1, "020101"), (127, "02017f"), (128, "02020080"), (256, "02020100")]
)
def test_integers_stay_positive(value: int, encoded: str) -> None:
    assert der.integer(value).hex() == encoded


@given(st.lists(st.binary(max_size=8)))
def test_sets_do_not_depend_on_the_order_of_their_members(members: list[bytes]) -> None:
    encoded = [der.octets(member) for member in members]
    assert der.set_of(encoded) == der.set_of(reversed(encoded))
