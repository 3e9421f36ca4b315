"""Certificates as text in a document: one or more in PEM form, checked when the document is read."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(\s[A-Za-z0-9+/=\s]*\s)-----END CERTIFICATE-----")
_MAX_CHARS = 1 << 18
_SEQUENCE = 0x30
_LONG_FORM = 0x80


@dataclass(frozen=True)
class Certificates:
    """X.509 certificates in PEM form."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> Certificates:
        """Read them.

        Raises:
            ValueError: There is none, one of them is damaged, or there is other text between them.
        """
        blocks = _BLOCK.findall(text)
        if len(text) > _MAX_CHARS or not blocks or _BLOCK.sub("", text).strip():
            raise ValueError("must be certificates in PEM form and nothing else")
        for number, block in enumerate(blocks, 1):
            try:
                whole = _is_whole(base64.b64decode("".join(block.split()), validate=True))
            except binascii.Error:
                whole = False
            if not whole:
                raise ValueError(f"certificate {number} is damaged")
        return cls("".join(f"{match[0].strip()}\n" for match in _BLOCK.finditer(text)))

    def __str__(self) -> str:
        return self.text


def _is_whole(der: bytes) -> bool:
    """Whether this is one ASN.1 sequence of exactly its declared length (X.690, 8.1.3), neither cut nor padded."""
    if len(der) < 4 or der[0] != _SEQUENCE:  # noqa: PLR2004 - no certificate is that short
        return False
    if der[1] < _LONG_FORM:
        return 2 + der[1] == len(der)
    digits = der[1] - _LONG_FORM
    return 2 + digits + int.from_bytes(der[2 : 2 + digits], "big") == len(der)
