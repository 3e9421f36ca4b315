"""What a TPM measures of a UKI, and the section that says which of it was signed."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keys.errors import BadKeyError, PeFormatError
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import BootRole
from keys.secureboot.measured import (
    PHASES,
    blank_document,
    fill,
    measurements_of,
    policy_of,
    public_pem,
    signatures_in,
)
from keys.secureboot.pe import section_bytes
from keys.signers import BootSigner, open_boot_signer
from tests.fakes.keyrings import dev_folder
from tests.fakes.pe_files import pe_file

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def signer(tmp_path: Path) -> BootSigner:
    return open_boot_signer(Keyring.load(dev_folder(tmp_path)), BootRole.PCR, NoPassphrase())


def uki(folder: Path, *sections: tuple[str, bytes]) -> Path:
    path = folder / "uki.efi"
    path.write_bytes(pe_file(*(content for _, content in sections), names=tuple(name for name, _ in sections)))
    return path


def extended(*measured: bytes) -> bytes:
    value = bytes(32)
    for each in measured:
        value = hashlib.sha256(value + hashlib.sha256(each).digest()).digest()
    return value


def test_sections_are_measured_in_the_stubs_order_and_phases_after_them(tmp_path: Path) -> None:
    path = uki(tmp_path, (".cmdline", b"quiet"), (".sdmagic", b"x"), (".pcrsig", b"{}"), (".linux", b"k" * 5000))
    start = [b".linux\0", b"k" * 5000, b".cmdline\0", b"quiet"]
    assert {each.phase: each.value for each in measurements_of(path)} == {
        "": extended(*start),
        "sysinit": extended(*start, b"sysinit"),
        "sysinit:ready": extended(*start, b"sysinit", b"ready"),
    }


def test_of_several_profiles_the_first_is_measured(tmp_path: Path) -> None:
    first = (".profile", b"ID=main"), (".cmdline", b"main")
    path = uki(tmp_path, (".linux", b"k"), (".cmdline", b"all"), *first, (".profile", b"ID=b"), (".cmdline", b"b"))
    expected = extended(b".linux\0", b"k", b".cmdline\0", b"main", b".profile\0", b"ID=main")
    assert measurements_of(path)[0].value == expected


def test_a_policy_stands_for_one_value() -> None:
    assert policy_of(bytes(32)) != policy_of(b"\1" + bytes(31))


def test_a_filled_document_is_as_long_as_the_blank_one_and_changes_nothing_that_is_measured(
    tmp_path: Path, signer: BootSigner
) -> None:
    key = signer.certificate
    path = uki(tmp_path, (".pcrpkey", public_pem(key)), (".linux", b"k"), (".pcrsig", blank_document(key)))
    before = measurements_of(path)
    signatures = {each.phase: signer.sign(each.policy) for each in before}
    fill(path, key, signatures)
    assert measurements_of(path) == before
    assert signatures_in(path) == signatures
    entries = json.loads(section_bytes(path, ".pcrsig") or b"")["sha256"]
    assert [entry["pol"] for entry in entries] == [each.policy.hex() for each in before]
    assert all(entry["pcrs"] == [11] for entry in entries)


@pytest.mark.parametrize("missing", PHASES)
def test_a_missing_or_foreign_signature_changes_nothing(missing: str, tmp_path: Path, signer: BootSigner) -> None:
    key = signer.certificate
    path = uki(tmp_path, (".linux", b"k"), (".pcrsig", blank_document(key)))
    before = path.read_bytes()
    signatures = {each.phase: signer.sign(each.policy) for each in measurements_of(path) if each.phase != missing}
    for given in (signatures, {**signatures, missing: signer.sign(b"something else")}):
        with pytest.raises(BadKeyError, match="does not hold"):
            fill(path, key, given)
    assert path.read_bytes() == before


def test_a_uki_without_room_for_signatures_is_refused(tmp_path: Path, signer: BootSigner) -> None:
    for sections in ([(".linux", b"k")], [(".linux", b"k"), (".pcrsig", b"{}")]):
        path = uki(tmp_path, *sections)
        signatures = {each.phase: signer.sign(each.policy) for each in measurements_of(path)}
        with pytest.raises(PeFormatError, match=r"no section \.pcrsig"):
            fill(path, signer.certificate, signatures)
        with pytest.raises(PeFormatError, match=r"no section \.pcrsig with signatures"):
            signatures_in(path)


def test_a_key_of_another_kind_is_refused() -> None:
    private, name = Ed25519PrivateKey.generate(), x509.Name([])
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, BEGINS, BEGINS + timedelta(days=1))
    with pytest.raises(BadKeyError, match="not an RSA key"):
        public_pem(builder.sign(private, None))
