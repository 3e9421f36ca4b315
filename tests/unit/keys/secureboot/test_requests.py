"""What a Secure Boot key is asked to sign is put into words, and nothing else is signed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keys.certificates import read_certificate
from keys.errors import UnrequestedKeyError
from keys.keyring import Keyring
from keys.roles import BootRole
from keys.secureboot.measured import Measurement
from keys.secureboot.requests import boot_entry, boot_words, measurement_entry, program_entry
from keys.secureboot.siglist import BootVariable, certificate_list, hash_list
from keys.secureboot.variable import Addition
from tests.fakes.keyrings import dev_folder

MADE = datetime(2026, 1, 2, tzinfo=UTC)
DIGEST = hashlib.sha256(b"uki").digest()


@pytest.fixture
def certificate(tmp_path: Path) -> x509.Certificate:
    return read_certificate(Keyring.load(dev_folder(tmp_path)).boot_key(BootRole.KEK).certificate)


def words_of(payload: bytes, certificate: x509.Certificate, context: bytes | None = None) -> str:
    entry = boot_entry(
        "x", payload, role=BootRole.KEK, certificate=certificate, description=("harmless",), context=context
    )
    return "\n".join(boot_words(entry))


def test_a_program_is_named_by_its_digest(certificate: x509.Certificate) -> None:
    (line,) = boot_words(program_entry("uki.efi", DIGEST, certificate, ("harmless",)))
    assert line == f"lets firmware start the program with the Authenticode SHA-256 {DIGEST.hex()}"


def test_a_measured_boot_is_named_by_what_the_register_holds(certificate: x509.Certificate) -> None:
    (line,) = boot_words(measurement_entry(Measurement("sysinit", DIGEST), certificate, ("harmless",)))
    assert line == f"lets a TPM give out what is bound to this key while its PCR 11 holds {DIGEST.hex()}"


def test_a_policy_that_is_not_of_the_named_value_is_not_signed(certificate: x509.Certificate) -> None:
    policy = Measurement("", hashlib.sha256(b"other").digest()).policy
    with pytest.raises(UnrequestedKeyError, match="nothing that firmware reads"):
        words_of(policy, certificate, DIGEST)


def test_additions_say_what_starts_and_what_does_not(certificate: x509.Certificate) -> None:
    revoked = words_of(Addition(BootVariable.DBX, MADE, hash_list([DIGEST])).to_sign(), certificate)
    assert f"{DIGEST.hex()} never starts again" in revoked
    der = certificate.public_bytes(Encoding.DER)
    trusted = words_of(Addition(BootVariable.DB, MADE, certificate_list(der)).to_sign(), certificate)
    assert "everything signed by CN=Twinhull Key Exchange Key (dev)" in trusted
    assert "may start" in trusted
    damaged = words_of(Addition(BootVariable.DB, MADE, certificate_list(b"junk")).to_sign(), certificate)
    assert "an unreadable certificate" in damaged


@pytest.mark.parametrize("context", [None, b"short", DIGEST, hashlib.sha256(b"other").digest()])
def test_what_firmware_does_not_read_is_not_signed(certificate: x509.Certificate, context: bytes | None) -> None:
    for payload in (b"", b"{}", b'{"_type": "root"}', b"\x31" + bytes(80)):
        with pytest.raises(UnrequestedKeyError, match="nothing that firmware reads"):
            words_of(payload, certificate, context)


def test_the_digest_next_to_a_payload_is_not_believed(certificate: x509.Certificate) -> None:
    entry = program_entry("uki.efi", DIGEST, certificate, ())
    with pytest.raises(UnrequestedKeyError):
        words_of(entry.payload.content, certificate, hashlib.sha256(b"harmless").digest())
