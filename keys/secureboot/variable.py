"""Signed additions to the firmware variables db and dbx.

An addition is signed by the key KEK and written by whoever is root on a host; firmware checks it.  It only ever
appends, so it can be written twice, and in any order.
Source: UEFI specification 2.10, sections 8.2.2 (EFI_VARIABLE_AUTHENTICATION_2) and 32.2.4 (WIN_CERTIFICATE_UEFI_GUID).
Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from keys.secureboot import der, pkcs7
from keys.secureboot.siglist import (
    ATTRIBUTES,
    CERTIFICATE,
    CERTIFICATE_KIND,
    DATABASE_GUID,
    BootVariable,
    ListedSignature,
    parse_lists,
)

_TIME = struct.Struct("<HBBBBBBIhBB")
_DETACHED = der.sequence(der.oid(pkcs7.DATA))


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
        head = CERTIFICATE.pack(CERTIFICATE.size + len(data), *CERTIFICATE_KIND)
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
