"""Keys in tokens (smart cards, USB tokens, network HSMs, SoftHSM), used through their PKCS #11 module.

Rules: the private half never leaves the token; a PIN is asked for once, never tried twice, and never tried at all when
the token says that one more error locks it; each signature is verified before anybody gets it.
A login belongs to the whole process, so sessions stay open until it ends: closing one would log the others out.
Source: PKCS #11 3.0 (OASIS).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pkcs11
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurve, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, Hash, HashAlgorithm
from pkcs11 import MGF, Attribute, KeyType, Mechanism, ObjectClass, TokenFlag
from pkcs11.exceptions import (
    DeviceRemoved,
    PinIncorrect,
    PinLenRange,
    PinLocked,
    PKCS11Error,
    TokenNotPresent,
    UserAlreadyLoggedIn,
)

from keys.errors import BadKeyError, KeyUriError, MissingKeyError, PassphraseError, TokenError
from keys.passphrase import TOKEN_SUBJECT
from keys.private import public_bytes
from keys.token_uri import TokenUri

MODULE_VARIABLE = "TWINHULL_PKCS11_MODULE"
_MODULE_HINT = (
    f"name the module with ?module-path=… in the key's URI, or in the environment as {MODULE_VARIABLE}; "
    "p11-kit-proxy.so is the one that leads to all that p11-kit knows"
)
_GONE = (DeviceRemoved, TokenNotPresent)
# What a private key of each kind is asked to do, by the scheme of TUF; the last one is Secure Boot's.
PKCS1_SHA256 = "rsa-pkcs1v15-sha256"
_PSS = (Mechanism.SHA256, MGF.SHA256, 32)
_MECHANISMS: Mapping[str, tuple[Mechanism, object, HashAlgorithm | None]] = {
    "ed25519": (Mechanism.EDDSA, None, None),
    "ecdsa-sha2-nistp256": (Mechanism.ECDSA, None, SHA256()),
    "ecdsa-sha2-nistp384": (Mechanism.ECDSA, None, SHA384()),
    "rsassa-pss-sha256": (Mechanism.SHA256_RSA_PKCS_PSS, _PSS, None),
    PKCS1_SHA256: (Mechanism.SHA256_RSA_PKCS, None, None),
}
# Curves by their object identifiers in DER (RFC 5480).
_CURVES: Mapping[bytes, EllipticCurve] = {
    bytes.fromhex("06082a8648ce3d030107"): SECP256R1(),
    bytes.fromhex("06052b81040022"): SECP384R1(),
}
_OCTET_STRING, _HEAD = 4, 2


class PrivateObject(Protocol):
    """A private key as the module hands it out."""

    def sign(self, data: bytes, mechanism: Any = None, mechanism_param: Any = None, pin: Any = None) -> bytes:
        """A signature of `data`.

        Raises:
            PKCS11Error: The token refused or is gone.
        """


@dataclass(frozen=True)
class TokenKey:
    """A private key in a token: `subject` names it, `pin` is for keys that want it at each signature."""

    private: PrivateObject = field(repr=False)
    subject: str
    pin: str | None = field(default=None, repr=False)

    def sign(self, message: bytes, scheme: str) -> bytes:
        """A signature of `message`, in the form that `scheme` (the TUF name of it) has.

        Raises:
            KeyUriError: Keys in tokens do not sign this way.
            TokenError: The token was removed, or refused.
        """
        if scheme not in _MECHANISMS:
            raise KeyUriError(f"{self.subject}: keys in tokens do not sign with {scheme}")
        mechanism, parameter, digest = _MECHANISMS[scheme]
        data = _hashed(message, digest) if digest is not None else message
        try:
            signature = bytes(self.private.sign(data, mechanism=mechanism, mechanism_param=parameter, pin=self.pin))
        except _GONE as error:
            raise TokenError(f"the token was removed while it signed: {self.subject}").with_hint(
                "nothing was signed with it; plug it in and run the same command again"
            ) from error
        except PKCS11Error as error:
            raise TokenError(f"the token did not sign with {self.subject}: {reason(error)}") from error
        return _two_numbers(signature) if digest is not None else signature


def open_token_key(
    text: str, where: TokenUri, expected: PublicKeyTypes | None, ask: Callable[[str], str]
) -> tuple[TokenKey, PublicKeyTypes | None]:
    """Log in to a token and find a private key; also its public half, if the token has it.

    Args:
        text: The URI as it was written, for messages.
        where: What it says.
        expected: The public half as it is known elsewhere.
        ask: Gives the PIN for a subject, or raises PassphraseError.

    Raises:
        MissingKeyError: The module, the token or the key is not here.
        KeyUriError: Several tokens or keys match.
        PassphraseError: The PIN is missing or wrong, or must not be tried.
        BadKeyError: The token's key is another one than `expected`.
        TokenError: The token failed.
    """
    try:
        token = _token(text, where)
        session, pin = _session(token, ask)
        private = _private(session, where, f"the token {token.label or token.serial.decode(errors='replace')}", text)
        public = _public(session, private)
        always = _attribute(private, Attribute.ALWAYS_AUTHENTICATE)
    except _GONE as error:
        raise MissingKeyError(f"the token of {text} was removed").with_hint("plug it in and try again") from error
    except PKCS11Error as error:
        raise TokenError(f"the token of {text} failed: {reason(error)}") from error
    if expected is not None and public is not None and public_bytes(public) != public_bytes(expected):
        raise BadKeyError(f"the key {text} in the token is not the private half of the public key known here")
    return TokenKey(private, text, pin if always else None), public


def require_public(text: str, public: PublicKeyTypes | None) -> PublicKeyTypes:
    """The public half that a token showed.

    Raises:
        MissingKeyError: It shows none.
    """
    if public is None:
        raise MissingKeyError(f"the token does not show the public half of {text}").with_hint(
            "give it: --public FILE for a TUF role, --certificate FILE for Secure Boot"
        )
    return public


def pin_state(flags: int) -> str:
    """How many tries are left, as far as a token says it."""
    if flags & TokenFlag.USER_PIN_LOCKED:
        return "the token is locked now"
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        return "one try is left"
    if flags & TokenFlag.USER_PIN_COUNT_LOW:
        return "a PIN was wrong before, and few tries are left; the token does not say how many"
    return "the token does not say how many tries are left"


def require_tries(label: str, flags: int) -> None:
    """Refuse to spend the last try of a token.

    Raises:
        PassphraseError: The token is locked, or one more wrong PIN locks it.
    """
    if flags & TokenFlag.USER_PIN_LOCKED:
        raise PassphraseError(f"the token {label} is locked, because its PIN was wrong too often").with_hint(
            "unlock it with its own tools and its security officer's PIN (SO PIN, PUK)"
        )
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise PassphraseError(f"one try is left for the PIN of the token {label}, and it is not spent here").with_hint(
            "log in once with the right PIN, which resets the count: pkcs11-tool --module MODULE --login --list-objects"
        )


def reason(error: PKCS11Error) -> str:
    """An error of the library in words; most of them carry nothing but their names."""
    name = type(error).__name__
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return f"{words} ({error})" if str(error) else words


def _token(text: str, where: TokenUri) -> pkcs11.Token:
    found: list[pkcs11.Token] = [token for token in _module(where).get_tokens() if _matches(token, where)]
    if not found:
        named = f" ({where.token_conditions})" if where.token_conditions else ""
        raise MissingKeyError(f"the token of {text} is not here{named}").with_hint(
            "plug it in; pkcs11-tool --module MODULE --list-token-slots shows what the module sees"
        )
    if len(found) > 1:
        labels = ", ".join(f"{token.label} (serial {token.serial.decode(errors='replace')})" for token in found)
        raise KeyUriError(f"several tokens match {text}: {labels}").with_hint("add token=, serial= or slot-id=")
    return found[0]


def _module(where: TokenUri) -> Any:
    named = str(where.module_path) if where.module_path is not None else os.environ.get(MODULE_VARIABLE)
    if not named:
        raise MissingKeyError("no PKCS #11 module is named").with_hint(_MODULE_HINT)
    if not Path(named).is_file():
        raise MissingKeyError(f"there is no PKCS #11 module at {named}").with_hint(_MODULE_HINT)
    try:
        return pkcs11.lib(named)
    except (PKCS11Error, RuntimeError, OSError) as error:
        raise MissingKeyError(
            f"{named} cannot be used as a PKCS #11 module: {error or type(error).__name__}"
        ) from error


def _matches(token: pkcs11.Token, where: TokenUri) -> bool:
    if not token.flags & TokenFlag.TOKEN_INITIALIZED:
        return False
    serial = token.serial.decode(errors="replace")
    pairs = (
        (where.token, token.label),
        (where.serial, serial),
        (where.manufacturer, token.manufacturer_id),
        (where.model, token.model),
        (where.slot_id, token.slot.slot_id),
    )
    return all(wanted is None or wanted == has for wanted, has in pairs)


def _session(token: pkcs11.Token, ask: Callable[[str], str]) -> tuple[pkcs11.Session, str | None]:
    if not token.flags & TokenFlag.LOGIN_REQUIRED:
        return token.open(), None
    if token.flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
        return _login(token, pkcs11.PROTECTED_AUTH), None
    require_tries(token.label, token.flags)
    pin = ask(f"{TOKEN_SUBJECT}{token.label}")
    return _login(token, pin), pin


def _login(token: pkcs11.Token, pin: object) -> pkcs11.Session:
    try:
        return token.open(user_pin=pin)
    except UserAlreadyLoggedIn:
        return token.open()
    except (PinIncorrect, PinLenRange, PinLocked) as error:
        state = pin_state(token.slot.get_token().flags)
        raise PassphraseError(f"the PIN does not open the token {token.label}: {state}") from error


def _private(session: pkcs11.Session, where: TokenUri, token: str, text: str) -> Any:
    wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if where.object is not None:
        wanted[Attribute.LABEL] = where.object
    if where.id is not None:
        wanted[Attribute.ID] = where.id
    found = list(session.get_objects(wanted))
    if not found:
        named = f" with {where.key_conditions}" if where.key_conditions else ""
        raise MissingKeyError(f"{token} holds no private key{named}").with_hint(f"the URI is {text}")
    if len(found) > 1:
        names = ", ".join(
            f"{_attribute(key, Attribute.LABEL)} (id {bytes(_attribute(key, Attribute.ID) or b'').hex()})"
            for key in found
        )
        raise KeyUriError(f"several keys of {token} match {text}: {names}").with_hint("add object= or id=")
    return found[0]


def _public(session: pkcs11.Session, private: Any) -> PublicKeyTypes | None:
    """The public half that the token keeps next to a private key, if it can be found and read."""
    number, kind = _attribute(private, Attribute.ID), _attribute(private, Attribute.KEY_TYPE)
    wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.KEY_TYPE: kind, Attribute.ID: number}
    found = list(session.get_objects(wanted)) if number else []
    if len(found) != 1:
        return None
    try:
        return public_of(found[0], kind)
    except (PKCS11Error, ValueError, UnsupportedAlgorithm):
        return None


def public_of(found: Any, kind: Any) -> PublicKeyTypes | None:
    """The public key of a token's object, which holds numbers and points instead of one encoding.

    Raises:
        ValueError: They make no key.
        PKCS11Error: One of them cannot be read.
    """
    if kind == KeyType.RSA:
        exponent, modulus = (int.from_bytes(found[name]) for name in (Attribute.PUBLIC_EXPONENT, Attribute.MODULUS))
        return RSAPublicNumbers(exponent, modulus).public_key()
    point = _point(bytes(found[Attribute.EC_POINT]))
    if kind == KeyType.EC_EDWARDS:
        return Ed25519PublicKey.from_public_bytes(point)
    curve = _CURVES.get(bytes(found[Attribute.EC_PARAMS]))
    return EllipticCurvePublicKey.from_encoded_point(curve, point) if curve is not None else None


def _point(value: bytes) -> bytes:
    """A point without the OCTET STRING that most modules put around it, and some do not."""
    wrapped = len(value) > _HEAD and value[0] == _OCTET_STRING and value[1] == len(value) - _HEAD
    return value[_HEAD:] if wrapped else value


def _attribute(thing: Any, which: Attribute) -> Any:
    try:
        return thing[which]
    except PKCS11Error:
        return None


def _hashed(message: bytes, algorithm: HashAlgorithm) -> bytes:
    digest = Hash(algorithm)
    digest.update(message)
    return digest.finalize()


def _two_numbers(raw: bytes) -> bytes:
    """An ECDSA signature as X9.62 has it (DER), from the two numbers that PKCS #11 has one after the other."""
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
