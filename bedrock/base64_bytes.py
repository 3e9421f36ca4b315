"""Bytes in a document that holds text.

Source: RFC 4648 section 4, with padding, and nothing between the digits.
Pure.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass


@dataclass(frozen=True)
class Base64Bytes:
    """Bytes that are written as base64."""

    content: bytes

    @classmethod
    def from_text(cls, text: str) -> Base64Bytes:
        """Read base64.

        Raises:
            ValueError: It is not base64.
        """
        try:
            return cls(binascii.a2b_base64(text, strict_mode=True))
        except ValueError as error:
            raise ValueError(f"is not base64: {error}") from error

    def __str__(self) -> str:
        return base64.b64encode(self.content).decode()
