"""Signed additions to the firmware variables db and dbx.

An addition is signed by the key KEK and written by whoever is root on a host; firmware checks it.  It only ever
appends, so it can be written twice, and in any order.
Source: UEFI specification 2.10, sections 8.2.2 (EFI_VARIABLE_AUTHENTICATION_2) and 32.2.4 (WIN_CERTIFICATE_UEFI_GUID);
efivarfs prepends the four bytes of attributes.
Pure.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from cryptography import x509

from keys.secureboot import der, pkcs7
from keys.secureboot.siglist import MAX_VARIABLE_BYTES, ListedSignature, parse_lists

# EFI_IMAGE_SECURITY_DATABASE_GUID
DATABASE_GUID = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
# Non-volatile, for boot services and at run time; authenticated with a time; appended.
ATTRIBUTES = 0x01 | 0x02 | 0x04 | 0x20 | 0x40
_PKCS7_GUID = uuid.UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
_REVISION, _EFI_GUID = 0x0200, 0x0EF1
_CERTIFICATE = struct.Struct("<IHH16s")
_TIME = struct.Struct("<HBBBBBBIhBB")
_DETACHED = der.sequence(der.oid(pkcs7.DATA))


class BootVariable(Enum):
    """A variable that is added to."""

    DB = "db"
    DBX = "dbx"


@dataclass(frozen=True)
class Addition:
    """What is added to a variable: signature lists, and the moment they were made, which firmware keeps."""

    variable: BootVariable
    made: datetime
    lists: bytes

    def to_sign(self) -> bytes:
        """What KEK signs, RSASSA-PKCS1-v1_5 with SHA-256."""
        head = self.variable.value.encode("utf-16-le") + DATABASE_GUID.bytes_le + struct.pack("<I", ATTRIBUTES)
        return head + _time(self.made) + self.lists

    def payload(self, signature: bytes, certificate: x509.Certificate) -> bytes:
        """What is written to the variable: the signature by `certificate`'s key, then the lists."""
        data = pkcs7.signed_data(certificate, signature, content=_DETACHED)
        head = _CERTIFICATE.pack(_CERTIFICATE.size + len(data), _REVISION, _EFI_GUID, _PKCS7_GUID.bytes_le)
        return _time(self.made) + head + data + self.lists

    @property
    def signatures(self) -> frozenset[ListedSignature]:
        """What it adds."""
        return parse_lists(self.lists)


def parse_to_sign(data: bytes) -> Addition:
    """Read what KEK is asked to sign.

    Raises:
        ValueError: It is anything else.
    """
    for variable in BootVariable:
        name = variable.value.encode("utf-16-le")
        head = name + DATABASE_GUID.bytes_le + struct.pack("<I", ATTRIBUTES)
        if data.startswith(head):
            lists = data[len(head) + _TIME.size :]
            found = Addition(variable, _moment(data[len(head) : len(head) + _TIME.size]), lists)
            if not found.signatures or found.to_sign() != data:
                break
            return found
    raise ValueError("is not an addition to db or dbx")


def lists_of(payload: bytes) -> bytes:
    """The lists in what is written to a variable; its signature is not checked, firmware does that.

    Raises:
        ValueError: The payload is damaged.
    """
    if not _TIME.size + _CERTIFICATE.size <= len(payload) <= MAX_VARIABLE_BYTES:
        raise ValueError(f"has {len(payload)} bytes, which is no signed addition")
    length, revision, kind, guid = _CERTIFICATE.unpack_from(payload, _TIME.size)
    if (revision, kind, guid) != (_REVISION, _EFI_GUID, _PKCS7_GUID.bytes_le):
        raise ValueError("does not begin with a PKCS #7 signature")
    if not _CERTIFICATE.size <= length <= len(payload) - _TIME.size:
        raise ValueError("is shorter than its signature says")
    return payload[_TIME.size + length :]


def _time(moment: datetime) -> bytes:
    utc = moment.astimezone(UTC)
    return _TIME.pack(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, 0, 0, 0, 0, 0)


def _moment(data: bytes) -> datetime:
    try:
        year, month, day, hour, minute, second, *rest = _TIME.unpack(data)
    except struct.error as error:
        raise ValueError("ends in its time") from error
    if any(rest):
        raise ValueError("has a time that is not in whole seconds of UTC")
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
