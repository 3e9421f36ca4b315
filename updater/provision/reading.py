"""Reads and checks a document, either plain YAML or signed in an envelope.  Pure: no I/O.

A signed document is a DSSE envelope around the exact bytes of the YAML.  Anybody can read it without the keys; the
host decides by the keys in its image whether the signature counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from securesystemslib.signer import SSlibKey

from bedrock import strict
from bedrock.digest import bytes_sha256
from bedrock.errors import DocumentError, Problem
from updater.documents.envelope import unseal, unverified
from updater.errors import RefusedError
from updater.provision.document import Provision
from updater.provision.files import files_of

PAYLOAD_TYPE = "application/vnd.twinhull.provision+yaml"
CREDENTIAL = "twinhull.provision"
# systemd takes credentials of up to 1 MiB, and signing and encrypting add to that.
MAX_DOCUMENT_BYTES = 384 << 10
MAX_OFFERED_BYTES = 1 << 20


@dataclass(frozen=True)
class Offered:
    """A document that was read: its content, the hash of its YAML, and the key that signed it (None: unsigned)."""

    document: Provision
    sha256: str
    signed_by: str | None


def read_offered(data: bytes, keys: Sequence[SSlibKey], *, source: str) -> Offered:
    """Read a document, signed or not.

    Args:
        data: YAML, or an envelope.
        keys: The keys whose signatures count.
        source: Its name in errors.

    Raises:
        DocumentError: It does not fit; every error in it is listed.
        RefusedError: It is an envelope that none of the keys signed.
    """
    if len(data) > MAX_OFFERED_BYTES:
        raise DocumentError(source, (Problem("", f"has {len(data)} bytes, {MAX_OFFERED_BYTES} is the most"),))
    signed_by = None
    if is_envelope(data):
        data, signed_by = _opened(data, keys, source=source)
    document = parse_provision(data, source=source)
    if signed_by is not None and document.serial is None:
        raise DocumentError(source, (Problem("serial", "is missing; a signed document needs one"),))
    return Offered(document, bytes_sha256(data), signed_by)


def read_unverified(data: bytes, *, source: str) -> Provision:
    """Read a document without checking its signature, only for inspection.

    Raises:
        DocumentError: It does not fit; every error in it is listed.
    """
    if is_envelope(data):
        data = unverified(data, payload_type=PAYLOAD_TYPE, source=source)
    return parse_provision(data, source=source)


def is_envelope(data: bytes) -> bool:
    """Whether this is a signed document; YAML of ours never begins with a brace and this word."""
    return data.lstrip()[:1] == b"{" and b'"payloadType"' in data


def parse_provision(data: bytes, *, source: str) -> Provision:
    """Read the YAML of a document.

    Raises:
        DocumentError: It is too large, not YAML, or does not fit; every error in it is listed.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(source, (Problem("", f"has {len(data)} bytes, {MAX_DOCUMENT_BYTES} is the most"),))
    document = strict.read_yaml(Provision, data, source=source)
    if problems := tuple(_overlaps(target.path for target in files_of(document))):
        raise DocumentError(source, problems)
    return document


def _opened(data: bytes, keys: Sequence[SSlibKey], *, source: str) -> tuple[bytes, str]:
    refused = RefusedError(f"{source} is signed, but the image has no key to check the signature")
    for key in keys:
        try:
            return unseal(data, payload_type=PAYLOAD_TYPE, keys=[key], threshold=1, source=source), key.keyid
        except RefusedError as error:
            refused = error
    raise refused


def _overlaps(paths: Iterable[str]) -> Iterable[Problem]:
    """Errors for files that two keys write, and for files that are also the folder of another file."""
    known = Counter(paths)
    for path in sorted(path for path, count in known.items() if count > 1):
        yield Problem(path, "is set by two keys of this document")
    for path in sorted(known):
        above = path.rpartition("/")[0]
        while above:
            if above in known:
                yield Problem(above, f"is a file here, and the folder of {path}")
            above = above.rpartition("/")[0]
