"""Signed bytes: a DSSE envelope.

Rules: the payload is returned as exactly the bytes that were signed; the caller decides which keys count and how many
must sign: a role of the repository's own metadata for a statement, the image's keys for a provisioning document.
Source: Dead Simple Signing Envelope 1.0.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, Signer

from bedrock import evolution, strict
from bedrock.errors import DocumentError, Problem
from updater.errors import RefusedError


@dataclass(frozen=True)
class _Signature:
    keyid: str
    sig: str


@dataclass(frozen=True)
class _Document:
    payload: str
    payloadType: str  # noqa: N815 - DSSE's name
    signatures: tuple[_Signature, ...]


def seal(payload: bytes, *, payload_type: str, signers: Sequence[Signer]) -> bytes:
    """An envelope signed by all the signers."""
    envelope = Envelope(payload, payload_type, {})
    for signer in signers:
        envelope.sign(signer)
    return strict.dump_json(envelope.to_dict())


def unseal(data: bytes, *, payload_type: str, keys: Sequence[Key], threshold: int, source: str) -> bytes:
    """The payload of an envelope that enough of the keys have signed.

    Raises:
        DocumentError: It is no envelope.
        RefusedError: Too few good signatures, or another type of payload.
    """
    envelope = _parsed(data, payload_type=payload_type, source=source)
    try:
        envelope.verify(list(keys), threshold)
    except (VerificationError, ValueError) as error:
        raise RefusedError(f"the signature of {source} is refused: {error}") from error
    return envelope.payload


def unverified(data: bytes, *, payload_type: str, source: str) -> bytes:
    """The payload of an envelope, whoever signed it: only for inspection.

    Raises:
        DocumentError: It is no envelope.
        RefusedError: Another type of payload.
    """
    return _parsed(data, payload_type=payload_type, source=source).payload


def _parsed(data: bytes, *, payload_type: str, source: str) -> Envelope:
    document = evolution.read_json(_Document, data, source=source)
    try:
        envelope = Envelope.from_dict(strict.plain(document))
    except (ValueError, KeyError) as error:
        raise DocumentError(source, (Problem("", f"not a DSSE envelope: {error}"),)) from error
    if envelope.payload_type != payload_type:
        raise RefusedError(f"{source} holds {envelope.payload_type!r}, not {payload_type}")
    return envelope
