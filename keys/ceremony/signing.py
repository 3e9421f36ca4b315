"""Signs a request with the keys that are here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from securesystemslib.signer import Signer

from keys.ceremony.request import (
    MAX_REQUEST_BYTES,
    Entry,
    MadeSignature,
    PayloadKind,
    RequestedKey,
    SigningRequest,
    parse_request,
)
from keys.errors import BadKeyError, KeysError, MissingKeyError, UnrequestedKeyError
from keys.keyring import Keyring
from keys.passphrase import PassphraseSource
from keys.signers import open_signer

# What a signature on an entry would mean, a line each, derived from its payload and its context alone.
Words = Callable[[Entry], Sequence[str]]
WordsByKind = Mapping[PayloadKind, Words]


@dataclass(frozen=True)
class KeyAtHand:
    """A key that the request asks for, and its signer."""

    key: RequestedKey
    signer: Signer


def read_request(path: Path) -> SigningRequest:
    """A signing request from a file.

    Raises:
        DocumentError: It is not one, or a signature in it does not hold.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        return parse_request(stream.read(MAX_REQUEST_BYTES), source=str(path))


def explain(request: SigningRequest, words: WordsByKind) -> tuple[str, ...]:
    """What signatures would mean, from the payloads.

    Raises:
        UnrequestedKeyError: This program cannot read a payload of that kind.
        TwinhullError: A payload is not what its kind says.
    """
    told: list[str] = []
    for entry in request.entries:
        if entry.kind not in words:
            raise UnrequestedKeyError(f"{entry.name}: nothing here can read a payload of the kind {entry.kind.value}")
        told += [entry.name, *(f"  {line}" for line in words[entry.kind](entry))]
    return tuple(told)


def by_uris(request: SigningRequest, uris: Sequence[str], passphrase: PassphraseSource) -> tuple[KeyAtHand, ...]:
    """The signers behind URIs.

    Raises:
        UnrequestedKeyError: No entry asks for the key behind a URI.
        KeysError: A key cannot be opened.
    """
    return tuple(_behind(request, uri, passphrase) for uri in uris)


def by_keyring(request: SigningRequest, keyring: Keyring, passphrase: PassphraseSource) -> tuple[KeyAtHand, ...]:
    """The signers of a keys folder that the request asks for and whose private halves are here; at least one.

    Raises:
        UnrequestedKeyError: There are none.
        KeysError: A key is here and cannot be opened.
    """
    found = at_hand(request, keyring, passphrase)
    if not found:
        raise UnrequestedKeyError(f"no key that is asked for is at hand with the keys folder {keyring.folder}")
    return found


def at_hand(request: SigningRequest, keyring: Keyring, passphrase: PassphraseSource) -> tuple[KeyAtHand, ...]:
    """The signers of a keys folder that the request asks for and whose private halves are here, if any.

    Raises:
        KeysError: A key is here and cannot be opened.
    """
    asked = _asked(request)
    found: list[KeyAtHand] = []
    for uri, identity in keyring.signing_keys():
        if identity in asked:
            with suppress(MissingKeyError):
                found.append(KeyAtHand(asked[identity], open_signer(uri, asked[identity].tuf_key, passphrase)))
    return tuple(found)


def signed_with(request: SigningRequest, keys: Sequence[KeyAtHand]) -> SigningRequest:
    """The request with the signatures of these keys; one that has them already stays as it is."""
    return replace(request, entries=tuple(_sign(entry, keys) for entry in request.entries))


def _sign(entry: Entry, keys: Sequence[KeyAtHand]) -> Entry:
    signers = {each.key.identity: each.signer for each in keys}
    made = [
        MadeSignature(key.keyid, signers[key.identity].sign(entry.payload.content).signature)
        for key in entry.keys
        if key.identity in signers and key.keyid not in entry.signed_by
    ]
    return entry.with_signatures(made) if made else entry


def _asked(request: SigningRequest) -> dict[bytes, RequestedKey]:
    return {key.identity: key for entry in request.entries for key in entry.keys}


def _behind(request: SigningRequest, uri: str, passphrase: PassphraseSource) -> KeyAtHand:
    refusals: list[KeysError] = []
    for key in _asked(request).values():
        try:
            return KeyAtHand(key, open_signer(uri, key.tuf_key, passphrase))
        except BadKeyError as error:
            # The private half of another key; the next one may be its.
            refusals.append(error)
    raise UnrequestedKeyError(f"no entry asks for the key {uri}").with_hint(
        f"asked for: {', '.join(key.label or key.keyid for key in _asked(request).values())}"
    ) from refusals[-1]
