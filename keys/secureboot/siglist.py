"""Signature lists: what the firmware variables db and dbx hold, and what is appended to them.

Lists of kinds that are unknown here are passed over when their frame can be read: firmware brings its own.
Hosts use this module, so it imports nothing but the standard library.
Source: UEFI specification 2.10, sections 32.4.1 (EFI_SIGNATURE_LIST), 8.2.2 (EFI_VARIABLE_AUTHENTICATION_2) and 32.2.4
(WIN_CERTIFICATE_UEFI_GUID).
Pure.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

# Who put an entry in (`SignatureOwner`); any fixed value serves, and it is the one hosts are enrolled with.
OWNER = uuid.UUID("8a2c5f0e-5b0b-4c55-9d1c-7c3a7e0f2b11")
MAX_VARIABLE_BYTES = 1 << 20
SHA256_BYTES = 32
_HEAD = struct.Struct("<16sIII")
_OWNER_BYTES = 16


# EFI_IMAGE_SECURITY_DATABASE_GUID
DATABASE_GUID = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
# Non-volatile, for boot services and at run time; authenticated with a time; appended.
ATTRIBUTES = 0x01 | 0x02 | 0x04 | 0x20 | 0x40
TIME_BYTES = 16
# Length, revision, kind and type of a signature; ours are PKCS #7.
CERTIFICATE = struct.Struct("<IHH16s")
CERTIFICATE_KIND = (0x0200, 0x0EF1, uuid.UUID("4aafd29d-68df-49ee-8aa9-347d375665a7").bytes_le)


class BootVariable(Enum):
    """A variable that is added to."""

    DB = "db"
    DBX = "dbx"


class SignatureKind(Enum):
    """What an entry names; the values are the types of their lists."""

    SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
    X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")


@dataclass(frozen=True)
class ListedSignature:
    """An entry: the Authenticode SHA-256 of a program (32 bytes), or a certificate in DER."""

    kind: SignatureKind
    data: bytes


def hash_list(digests: Iterable[bytes]) -> bytes:
    """One list of programs by their Authenticode SHA-256.

    Raises:
        ValueError: There are none, or one is not a SHA-256.
    """
    distinct = sorted(set(digests))
    if not distinct or any(len(digest) != SHA256_BYTES for digest in distinct):
        raise ValueError(f"must be one or more SHA-256, of {SHA256_BYTES} bytes each")
    return _list(SignatureKind.SHA256, distinct)


def certificate_list(certificate: bytes) -> bytes:
    """A list of one certificate, in DER."""
    return _list(SignatureKind.X509, [certificate])


def parse_lists(data: bytes) -> frozenset[ListedSignature]:
    """The entries of a variable's content.

    Raises:
        ValueError: The frame of a list is damaged, or it is too long.
    """
    if len(data) > MAX_VARIABLE_BYTES:
        raise ValueError(f"has {len(data)} bytes, more than the {MAX_VARIABLE_BYTES} that are read")
    found: set[ListedSignature] = set()
    offset = 0
    while offset < len(data):
        if len(data) - offset < _HEAD.size:
            raise ValueError(f"ends in the middle of a list at {offset}")
        kind, size, head, entry = _HEAD.unpack_from(data, offset)
        body = size - _HEAD.size - head
        if body < 0 or size > len(data) - offset or entry < _OWNER_BYTES or body % entry:
            raise ValueError(f"holds a damaged list at {offset}")
        known = _KINDS.get(uuid.UUID(bytes_le=kind))
        if known is not None:
            start = offset + _HEAD.size + head
            found.update(
                ListedSignature(known, data[place + _OWNER_BYTES : place + entry])
                for place in range(start, start + body, entry)
            )
        offset += size
    return frozenset(found)


def hashes_of(signatures: Iterable[ListedSignature]) -> frozenset[bytes]:
    """The Authenticode SHA-256 among entries."""
    return frozenset(each.data for each in signatures if each.kind is SignatureKind.SHA256)


def lists_of(payload: bytes) -> bytes:
    """The lists in what is written to a variable; its signature is not checked, firmware does that.

    Raises:
        ValueError: The payload is damaged.
    """
    if not TIME_BYTES + CERTIFICATE.size <= len(payload) <= MAX_VARIABLE_BYTES:
        raise ValueError(f"has {len(payload)} bytes, which is no signed addition")
    length, revision, kind, guid = CERTIFICATE.unpack_from(payload, TIME_BYTES)
    if (revision, kind, guid) != CERTIFICATE_KIND:
        raise ValueError("does not begin with a PKCS #7 signature")
    if not CERTIFICATE.size <= length <= len(payload) - TIME_BYTES:
        raise ValueError("is shorter than its signature says")
    return payload[TIME_BYTES + length :]


_KINDS = {kind.value: kind for kind in SignatureKind}


def _list(kind: SignatureKind, entries: list[bytes]) -> bytes:
    size = _OWNER_BYTES + len(entries[0])
    head = _HEAD.pack(kind.value.bytes_le, _HEAD.size + size * len(entries), 0, size)
    return head + b"".join(OWNER.bytes_le + entry for entry in entries)
