"""What a TPM measures of a UKI, and which of it the UKI's maker signed: sections `.pcrsig` and `.pcrpkey`.

systemd-stub extends PCR 11 by the sections of the UKI it started; the system extends it again as a boot goes on.  A
secret can be bound to a public key instead of a value of that register: the TPM then gives it out for every value that
the key signed, and so for every later version too.
Such a signature is made for a policy, which stands for one value of PCR 11: `policy_of`.  The document has a fixed
length for a key, so a UKI is made with a blank one, and filled in when the signatures are there: the section is not
measured itself.

Rules: only the SHA-256 bank; RSASSA-PKCS1-v1_5 with SHA-256, so the same policy always gets the same signature.
Sources: systemd-stub(7), systemd-measure(1), systemd's `src/fundamental/uki.c`; TPM 2.0 Library, Part 3,
TPM2_PolicyPCR.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate

from bedrock.pe import Section
from keys.errors import BadKeyError, PeFormatError
from keys.secureboot.pe import section_bytes, sections_of

SECTION = ".pcrsig"
DIGEST_BYTES = 32
PCR = 11
# The words PCR 11 is extended by after the kernel was started: none in the initrd, which does not extend it, and those
# of systemd-pcrphase-sysinit.service and systemd-pcrphase.service, where the image has the TPM's libraries.
PHASES = ("", "sysinit", "sysinit:ready")
_PROFILE = ".profile"
# In the order in which they are measured.
_MEASURED = (
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    ".pcrpkey",
    _PROFILE,
)
_CHUNK = 1 << 20
_COMMAND_POLICY_PCR, _ALGORITHM_SHA256 = 0x17F, 0x000B


@dataclass(frozen=True)
class Measurement:
    """What PCR 11 holds in a phase of the boot, and the policy that stands for it; 32 bytes each."""

    phase: str
    value: bytes

    @property
    def policy(self) -> bytes:
        """What is signed."""
        return policy_of(self.value)


def measurements_of(uki: Path) -> tuple[Measurement, ...]:
    """What PCR 11 will hold in each phase, when this UKI boots with its first profile.

    Raises:
        PeFormatError: It is not a program.
        OSError: It cannot be read.
    """
    value = bytes(DIGEST_BYTES)
    with uki.open("rb") as stream:
        for section in _measured_sections(uki):
            value = _extended(value, hashlib.sha256(section.name.encode() + b"\0").digest())
            stream.seek(section.offset)
            digest, left = hashlib.sha256(), section.size_bytes
            while chunk := stream.read(min(left, _CHUNK)):
                digest.update(chunk)
                left -= len(chunk)
            value = _extended(value, digest.digest())
    return tuple(Measurement(phase, _after(value, phase)) for phase in PHASES)


def policy_of(value: bytes) -> bytes:
    """The digest of the policy that is met while PCR 11 holds `value`."""
    selection = struct.pack(">IHB3s", 1, _ALGORITHM_SHA256, 3, (1 << PCR).to_bytes(3, "little"))
    command = struct.pack(">I", _COMMAND_POLICY_PCR)
    return hashlib.sha256(bytes(DIGEST_BYTES) + command + selection + hashlib.sha256(value).digest()).digest()


def public_pem(certificate: Certificate) -> bytes:
    """The section `.pcrpkey`: the public key of a certificate, in PEM.

    Raises:
        BadKeyError: It is not an RSA key.
    """
    return _rsa(certificate).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def blank_document(certificate: Certificate) -> bytes:
    """The section `.pcrsig` of a UKI before anything was signed; as long as the filled one.

    Raises:
        BadKeyError: The key is not an RSA key.
    """
    return _document(certificate, [(bytes(DIGEST_BYTES), bytes(_rsa(certificate).key_size // 8)) for _ in PHASES])


def fill(uki: Path, certificate: Certificate, signatures: Mapping[str, bytes]) -> None:
    """Write the signatures of the policies, by phase, into the section of a UKI (changes the file).

    Raises:
        PeFormatError: It has no section for them, or one of another length.
        BadKeyError: A signature is missing or does not hold, or the key is not an RSA key.
        OSError: It cannot be read or written.
    """
    pairs = [(each.policy, signatures.get(each.phase, b"")) for each in measurements_of(uki)]
    for policy, signature in pairs:
        check_signature(certificate, policy, signature)
    content = _document(certificate, pairs)
    section = next((each for each in sections_of(uki) if each.name == SECTION), None)
    if section is None or section.size_bytes != len(content):
        raise PeFormatError(f"{uki} has no section {SECTION} of {len(content)} bytes")
    with uki.open("r+b") as stream:
        stream.seek(section.offset)
        stream.write(content)


def signatures_in(uki: Path) -> dict[str, bytes]:
    """The signatures of the policies in a UKI that `fill` was called for, by phase.

    Raises:
        PeFormatError: It is not a program, or has no such section.
        OSError: It cannot be read.
    """
    content = section_bytes(uki, SECTION)
    try:
        entries = json.loads(content or b"")["sha256"]
        return {phase: base64.b64decode(entry["sig"]) for phase, entry in zip(PHASES, entries, strict=True)}
    except (ValueError, KeyError, TypeError) as error:
        raise PeFormatError(f"{uki} has no section {SECTION} with signatures") from error


def check_signature(certificate: Certificate, policy: bytes, signature: bytes) -> None:
    """Check the signature of a policy.

    Raises:
        BadKeyError: It does not hold, or the key is not an RSA key.
    """
    try:
        _rsa(certificate).verify(signature, policy, PKCS1v15(), SHA256())
    except InvalidSignature as error:
        raise BadKeyError(f"the signature of the policy {policy.hex()} does not hold") from error


def _document(certificate: Certificate, pairs: list[tuple[bytes, bytes]]) -> bytes:
    public = _rsa(certificate).public_bytes(Encoding.DER, PublicFormat.PKCS1)
    entries = [
        {
            "pcrs": [PCR],
            "pkfp": hashlib.sha256(public).hexdigest(),
            "pol": policy.hex(),
            "sig": base64.b64encode(signature).decode(),
        }
        for policy, signature in pairs
    ]
    return json.dumps({"sha256": entries}, separators=(",", ":")).encode()


def _measured_sections(uki: Path) -> list[Section]:
    """The sections that the first profile boots with; a later one of a name replaces an earlier one."""
    found: dict[str, Section] = {}
    for section in sections_of(uki):
        if section.name == _PROFILE and _PROFILE in found:
            break
        found[section.name] = section
    return [found[name] for name in _MEASURED if name in found]


def _after(value: bytes, phase: str) -> bytes:
    for word in filter(None, phase.split(":")):
        value = _extended(value, hashlib.sha256(word.encode()).digest())
    return value


def _extended(value: bytes, digest: bytes) -> bytes:
    return hashlib.sha256(value + digest).digest()


def _rsa(certificate: Certificate) -> RSAPublicKey:
    public = certificate.public_key()
    if not isinstance(public, RSAPublicKey):
        raise BadKeyError("the key for measured boots is not an RSA key")
    return public
