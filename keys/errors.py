"""Errors of the keys.

KeysError                    1
├── MissingKeyError          1  a key, its private half or its certificate is not here
├── KeyExistsError           1  keys would have been overwritten; nothing was changed
├── WrongModeError           1  others may read a private key
├── PassphraseError          1  a passphrase is missing, empty or wrong
├── BadKeyError              1  a file is not a key, or another key than the keyring names
├── KeyUriError              1  a key URI is malformed, matches several keys, or is of a scheme that no signer opens
├── UnrequestedKeyError      1  a signing request does not ask for this key
├── UnfitKeyChangeError      1  a role cannot have these keys, or this threshold
├── RequestMismatchError     1  two signing requests do not ask for the same
├── TokenError               1  a token was removed while it was used, or did not do what it was asked to
└── PeFormatError            1  a file is not a program that can be signed
"""

from __future__ import annotations

from bedrock.errors import TwinhullError


class KeysError(TwinhullError):
    """The root of this package's errors."""


class MissingKeyError(KeysError):
    """A key, its private half or its certificate is not here."""


class KeyExistsError(KeysError):
    """Keys would have been overwritten; nothing was changed."""


class WrongModeError(KeysError):
    """A private key can be read or written by users other than its owner."""


class PassphraseError(KeysError):
    """A passphrase is missing, empty or wrong."""


class BadKeyError(KeysError):
    """A file holds no key, or another key than the keyring names."""


class KeyUriError(KeysError):
    """A key URI is malformed, matches several keys, or is of a scheme that no signer opens."""


class UnrequestedKeyError(KeysError):
    """A signing request does not ask for this key, or cannot be read well enough to sign it."""


class UnfitKeyChangeError(KeysError):
    """A role cannot have these keys, or this threshold."""


class RequestMismatchError(KeysError):
    """Two signing requests do not ask for the same."""


class TokenError(KeysError):
    """A token was removed while it was used, or did not do what it was asked to."""


class PeFormatError(KeysError):
    """A file is not a program that can be signed."""
