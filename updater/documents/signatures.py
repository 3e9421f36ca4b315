"""Detached signatures of what boots, for firmware and for TPMs: `signatures.json`.

A build keeps each signature apart from the unsigned file it was made for, and publishing adds them to the release.
Whoever builds the same unsigned files attaches the published signatures to get the published files, without a key.
`measured` are those of the policies that stand for the UKI in PCR 11, by the phase of the boot
(`keys.secureboot.measured`).  They are part of the UKI that the Secure Boot signature was made for.
Source: Authenticode, a PKCS #7 SignedData (RFC 2315) in the certificate table of a PE file.
It grows by `bedrock.evolution`.  Pure.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

from bedrock import evolution, strict
from bedrock.base64_bytes import Base64Bytes
from updater.documents.release import Sha256

FORMAT = 1
SIGNATURES, SIGNATURES_FILE = "signatures", "signatures.json"
# The loader is part of a disk and not of a release: hosts keep the one they were installed with.
UKI, LOADER = "uki.efi", "loader.efi"

_FileName = Annotated[str, strict.Pattern(r"[a-z0-9][a-z0-9.-]{0,63}", "a file's name of a-z, 0-9, . and -")]
_Phase = Annotated[str, strict.Pattern(r"([a-z-]{1,32}(:[a-z-]{1,32}){0,7})?", "words between colons, or nothing")]
_RoleName = Annotated[str, strict.Pattern(r"[A-Za-z]{1,16}", "a variable's name of letters")]


@dataclass(frozen=True)
class Detached:
    """A signature, in DER and base64, and the SHA-256 of the unsigned file it was made for."""

    unsigned_sha256: Sha256
    pkcs7: str

    def __post_init__(self) -> None:
        try:
            binascii.a2b_base64(self.pkcs7, strict_mode=True)
        except ValueError as error:
            raise ValueError(f"pkcs7: is not base64: {error}") from error

    @classmethod
    def of(cls, der: bytes, *, unsigned_sha256: str) -> Detached:
        """A signature given as bytes."""
        return cls(unsigned_sha256, base64.b64encode(der).decode())

    @property
    def der(self) -> bytes:
        """The signature's bytes."""
        return binascii.a2b_base64(self.pkcs7)


@dataclass(frozen=True)
class Signatures:
    """All signatures of a build, by file and by phase, and the certificates (PEM, by role) that they belong to.

    A phase has the signature of its policy: RSASSA-PKCS1-v1_5, SHA-256.
    """

    format: Annotated[int, strict.Range(FORMAT, FORMAT)]
    certificates: dict[_RoleName, str]
    files: dict[_FileName, Detached]
    measured: dict[_Phase, Base64Bytes]

    def __post_init__(self) -> None:
        if missing := {UKI, LOADER} - self.files.keys():
            raise ValueError(f"files: {', '.join(sorted(missing))} is missing")
        if missing := {"PK", "KEK", "db", "pcr"} - self.certificates.keys():
            raise ValueError(f"certificates: {', '.join(sorted(missing))} is missing")


def parse_signatures(data: bytes, *, source: str) -> Signatures:
    """Read the document.

    Raises:
        DocumentError: Not JSON, of another format, a critical key that is new here, wrong types, or not base64.
    """
    return evolution.read_json(Signatures, data, source=source)


def dump_signatures(signatures: Signatures) -> bytes:
    """The document's bytes: the same for the same signatures."""
    return strict.dump_json(signatures)
