"""The signing request: one file that says what is to be signed, why and by whom, with the exact bytes to be signed.

    {"format": 1, "title": "2.root.json", "reason": "…", "entries": [{
       "name": "2.root.json",
       "kind": "tuf",                   what the payload is, which decides how it is put into words
       "description": ["…"],            for whoever reads the file; a signer's program derives its own from the payload
       "signers": [{"by": "keys of root until now", "threshold": 2, "keyids": ["6c1f…"]}],
       "signatures": [{"keyid": "6c1f…", "signature": "0a…"}],
       "keys": [{"keyid": "6c1f…", "label": "root-1.pem", "algorithm": "ed25519", "public": "-----BEGIN …"}],
       "payload": "…", "context": "…"   base64: the bytes to be signed, and the document they replace
    }]}

An entry is complete when each of its groups of signers has reached its threshold.
Rules: it is read strictly; every signature in it is checked when it is read; one public key counts once.
Pure: no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.exceptions import Error as SigningLibraryError
from securesystemslib.signer import Signature, SSlibKey

from bedrock import strict
from bedrock.base64_bytes import Base64Bytes
from keys.errors import RequestMismatchError
from keys.private import public_bytes
from keys.public import crypto_key

FORMAT = 1
_READING_ORDER = ("name", "kind", "description", "signers", "signatures", "keys", "payload", "context")
MAX_REQUEST_BYTES = 64 << 20

_Hex = Annotated[str, strict.Pattern(r"(?:[0-9a-f]{2}){1,2048}", "hexadecimal digits")]
_Line = Annotated[str, strict.Pattern(r"[^\x00-\x1f\x7f]{0,1000}", "one line of text")]
_Threshold = Annotated[int, strict.Range(1, 64)]


class PayloadKind(Enum):
    """What a payload is."""

    TUF = "tuf"
    SECURE_BOOT = "secure-boot"


class Algorithm(Enum):
    """How a payload is signed, by its name in securesystemslib."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-sha2-nistp256"
    ECDSA_P384 = "ecdsa-sha2-nistp384"
    RSA_PSS = "rsassa-pss-sha256"
    RSA_PKCS1V15 = "rsa-pkcs1v15-sha256"


@dataclass(frozen=True)
class RequestedKey:
    """A key that may sign.

    Attributes:
        keyid: How signatures name it.
        label: How people name it.
        algorithm: How it signs.
        public: Its public half in PEM: a public key, or the certificate of one.
    """

    keyid: _Hex
    label: _Line
    algorithm: Algorithm
    public: str

    def __post_init__(self) -> None:
        self.tuf_key  # noqa: B018 - a key that cannot be read is an error of the file

    @classmethod
    def of(cls, key: SSlibKey, *, label: str) -> RequestedKey:
        """A key of TUF metadata.

        Raises:
            ValueError: It signs in a way that a request cannot carry.
        """
        pem = crypto_key(key.keyval["public"]).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return cls(key.keyid, label, Algorithm(key.scheme), pem.decode())

    @cached_property
    def tuf_key(self) -> SSlibKey:
        """The key in the form that signers and signatures are checked against."""
        return SSlibKey.from_crypto(self._crypto(), keyid=self.keyid, scheme=self.algorithm.value)

    @property
    def identity(self) -> bytes:
        """The public key itself, whatever it is called."""
        return public_bytes(self._crypto())

    def _crypto(self) -> PublicKeyTypes:
        pem = self.public.encode()
        try:
            if b"BEGIN CERTIFICATE" in pem:
                return x509.load_pem_x509_certificate(pem).public_key()
            return load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError(f"public: is neither a public key nor a certificate in PEM form: {error}") from error


@dataclass(frozen=True)
class SignerGroup:
    """Keys of which so many must sign, and whose they are, in words."""

    by: _Line
    threshold: _Threshold
    keyids: tuple[_Hex, ...]

    def __post_init__(self) -> None:
        if self.threshold > len(set(self.keyids)) or len(set(self.keyids)) < len(self.keyids):
            raise ValueError(f"{self.threshold} of {len(set(self.keyids))} different keys cannot sign")


@dataclass(frozen=True)
class MadeSignature:
    """A signature over the payload, in hexadecimal digits."""

    keyid: _Hex
    signature: _Hex


@dataclass(frozen=True)
class Entry:
    """Something to be signed.

    Attributes:
        kind: What the payload is.
        name: The file that comes of it.
        description: What it says in words; for reading, never to be believed.
        payload: The exact bytes to be signed.
        keys: All keys that may sign.
        signers: The groups that must sign, each up to its threshold.
        context: What the payload replaces, if anything; it is compared with, and not signed.
        signatures: Those made so far; each one holds.
    """

    kind: PayloadKind
    name: _Line
    description: tuple[_Line, ...]
    payload: Base64Bytes
    keys: tuple[RequestedKey, ...]
    signers: tuple[SignerGroup, ...]
    context: Base64Bytes | None = None
    signatures: tuple[MadeSignature, ...] = ()

    def __post_init__(self) -> None:
        known = {key.keyid for key in self.keys}
        if len(known) < len(self.keys) or len({key.identity for key in self.keys}) < len(self.keys):
            raise ValueError(f"{self.name}: one key is listed twice, and it can sign only once")
        if strangers := {keyid for group in self.signers for keyid in group.keyids} - known:
            raise ValueError(f"{self.name}: the key {min(strangers)} is asked for and not listed")
        if not self.signers:
            raise ValueError(f"{self.name}: nobody is asked to sign")
        for signature in self.signatures:
            self._check(signature)

    def key(self, keyid: str) -> RequestedKey:
        """A key that may sign, by its id.

        Raises:
            ValueError: It is not asked for.
        """
        for key in self.keys:
            if key.keyid == keyid:
                return key
        raise ValueError(f"{self.name}: the key {keyid} is not asked for")

    @property
    def signed_by(self) -> frozenset[str]:
        """The ids of the keys that signed."""
        return frozenset(signature.keyid for signature in self.signatures)

    @property
    def complete(self) -> bool:
        """Whether every group reached its threshold."""
        return not any(self.lacking(group) for group in self.signers)

    def lacking(self, group: SignerGroup) -> int:
        """How many signatures of a group are missing."""
        return max(0, group.threshold - len(self.signed_by & set(group.keyids)))

    def with_signatures(self, signatures: Iterable[MadeSignature]) -> Entry:
        """The entry with more signatures, one a key; those it has stay.

        Raises:
            ValueError: A signature does not hold, or its key is not asked for.
        """
        found = {signature.keyid: signature for signature in (*signatures, *self.signatures)}
        return replace(self, signatures=tuple(found[keyid] for keyid in sorted(found)))

    def asks_the_same(self, other: Entry) -> bool:
        """Whether another entry is the same but for descriptions and signatures."""
        return (self.kind, self.name, self.payload, self.signers) == (
            other.kind,
            other.name,
            other.payload,
            other.signers,
        ) and [key.identity for key in self.keys] == [key.identity for key in other.keys]

    def _check(self, made: MadeSignature) -> None:
        key = self.key(made.keyid)
        try:
            key.tuf_key.verify_signature(Signature(made.keyid, made.signature), self.payload.content)
        except SigningLibraryError as error:
            raise ValueError(f"{self.name}: the signature of the key {made.keyid} does not hold") from error


@dataclass(frozen=True)
class SigningRequest:
    """What is to be signed, in the order in which it is shown; `title` and `reason` are for whoever reads the file."""

    format: Annotated[int, strict.Range(FORMAT, FORMAT)]
    title: _Line
    reason: _Line
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if not self.entries or len({entry.name for entry in self.entries}) < len(self.entries):
            raise ValueError("nothing is to be signed, or one name twice")

    @property
    def complete(self) -> bool:
        """Whether no signature is missing."""
        return all(entry.complete for entry in self.entries)


def parse_request(data: bytes, *, source: str) -> SigningRequest:
    """Read a signing request.

    Raises:
        DocumentError: It is not one, or a signature in it does not hold.
    """
    return strict.read_json(SigningRequest, data, source=source)


def request_bytes(request: SigningRequest) -> bytes:
    """A signing request as a file: what people read comes first, and the bytes last."""
    value = strict.plain(request)
    value["entries"] = [{name: entry[name] for name in _READING_ORDER} for entry in value["entries"]]
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def merged(first: SigningRequest, *others: SigningRequest) -> SigningRequest:
    """A request with the signatures of all its copies.

    Raises:
        RequestMismatchError: They do not ask for the same.
    """
    entries = {entry.name: entry for entry in first.entries}
    for other in others:
        for entry in other.entries:
            mine = entries.get(entry.name)
            if mine is None or not mine.asks_the_same(entry):
                raise RequestMismatchError(
                    f"{other.title!r} asks for other signatures than {first.title!r}: {entry.name}"
                ).with_hint("sign and apply copies of one request; make it anew if it is outdated")
            entries[entry.name] = mine.with_signatures(entry.signatures)
    return replace(first, entries=tuple(entries[entry.name] for entry in first.entries))


def missing_lines(request: SigningRequest) -> Iterator[str]:
    """Whose signatures are missing, a line for each group of an entry."""
    for entry in request.entries:
        for group in entry.signers:
            lacking = entry.lacking(group)
            if lacking:
                able = [entry.key(keyid) for keyid in group.keyids if keyid not in entry.signed_by]
                names = ", ".join(f"{key.label or 'key'} ({key.keyid[:8]})" for key in able)
                yield f"{entry.name}: {lacking} of {names} ({group.by})"
