"""`boot/<image>/<architecture>.json`: what is to be added to the firmware variables db and dbx of an image's hosts.

Each update is whole: it holds the bytes to append, signed by the image's KEK, which firmware checks; so the document
can deny and allow nothing by itself.  It is a target of the role `targets`, whose key is offline: the build pipeline
can neither revoke what boots nor have another certificate trusted.
Updates are few and never leave the document, so that a host installed later takes them all; each can be appended alone,
twice, and in any order.
It grows by `bedrock.evolution`.  Pure.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from bedrock import evolution, strict
from keys.secureboot.siglist import BootVariable, ListedSignature, hashes_of, lists_of, parse_lists
from updater.documents.release import Architecture, Name

FORMAT = 1
MAX_DOCUMENT_BYTES = 1 << 20
MAX_UPDATES = 256
MAX_PAYLOAD_BYTES = 1 << 16

_Reason = Annotated[str, strict.Pattern(r"[^\x00-\x1f\x7f]{1,500}", "one line of 1 to 500 characters")]


@dataclass(frozen=True)
class BootTrustUpdate:
    """An addition to a firmware variable.

    Attributes:
        variable: The variable it is appended to.
        reason: What it does and why, for people.
        payload: What is appended (EFI_VARIABLE_AUTHENTICATION_2 and signature lists), in base64.
    """

    variable: BootVariable
    reason: _Reason
    payload: str

    def __post_init__(self) -> None:
        if len(self.payload) > MAX_PAYLOAD_BYTES * 4 // 3 + 4:
            raise ValueError(f"payload: is longer than {MAX_PAYLOAD_BYTES} bytes")
        try:
            added = self.signatures
        except ValueError as error:
            raise ValueError(f"payload: {error}") from error
        if not added:
            raise ValueError("payload: adds nothing")

    @classmethod
    def of(cls, payload: bytes, *, variable: BootVariable, reason: str) -> BootTrustUpdate:
        """An update whose payload is given as bytes.

        Raises:
            ValueError: The payload adds nothing.
        """
        return cls(variable, reason, base64.b64encode(payload).decode())

    @property
    def bytes_to_append(self) -> bytes:
        """What is written to the variable, without efivarfs' attributes."""
        return binascii.a2b_base64(self.payload, strict_mode=True)

    @cached_property
    def signatures(self) -> frozenset[ListedSignature]:
        """What it adds."""
        return parse_lists(lists_of(self.bytes_to_append))

    @property
    def revoked(self) -> frozenset[bytes]:
        """The Authenticode SHA-256 of the programs that it stops from starting."""
        return hashes_of(self.signatures) if self.variable is BootVariable.DBX else frozenset()


@dataclass(frozen=True)
class BootTrust:
    """All updates for the hosts of an image, oldest first."""

    format: Annotated[int, strict.Range(FORMAT, FORMAT)]
    image: Name
    architecture: Architecture
    updates: tuple[BootTrustUpdate, ...]

    def __post_init__(self) -> None:
        if len(self.updates) > MAX_UPDATES:
            raise ValueError(f"updates: are more than {MAX_UPDATES}")

    @property
    def target_path(self) -> str:
        """The document's TUF target path."""
        return boot_trust_path(self.image, self.architecture)

    @property
    def revoked(self) -> frozenset[bytes]:
        """The Authenticode SHA-256 of all programs that are revoked."""
        return frozenset(digest for update in self.updates for digest in update.revoked)


def boot_trust_path(image: str, architecture: Architecture) -> str:
    """The TUF target path of an image's boot trust."""
    return f"boot/{image}/{architecture.value}.json"


def parse_boot_trust(data: bytes, *, source: str) -> BootTrust:
    """Read the document.

    Raises:
        DocumentError: Not JSON, a critical key that is new here, wrong types, or a damaged payload.
    """
    return evolution.read_json(BootTrust, data, source=source)


def parse_boot_trust_to_change(data: bytes, *, source: str) -> BootTrust:
    """Read a document that is going to be written again.

    Raises:
        DocumentError: As `parse_boot_trust`, and for each key that is new here, for it would be lost.
    """
    return evolution.read_to_rewrite(BootTrust, data, source=source)
