"""Where the passphrase of encrypted private keys comes from, and the PIN of tokens.

Rules: a source is asked only when a key really is encrypted or in a token; a passphrase is never printed, logged or
part of a repr; an empty one is an error, because an unset secret of a CI system often arrives as an empty variable.
Prompting belongs to `keys.cli`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from keys.errors import PassphraseError

VARIABLE = "TWINHULL_KEYS_PASSPHRASE"
FILE_VARIABLE = "TWINHULL_KEYS_PASSPHRASE_FILE"
# OpenSSL's PKCS#8 reader accepts no longer passphrase.
MAX_BYTES = 1023
# How the subject begins when a PIN is asked for.
TOKEN_SUBJECT = "the token "  # noqa: S105 - words, and no secret
_HINT = f"give it with --passphrase-file FILE, or in the environment as {FILE_VARIABLE} or {VARIABLE}"


class PassphraseSource(Protocol):
    """Provides the passphrase, or says that there is none."""

    def passphrase(self, subject: str) -> str | None:
        """The passphrase for `subject` (a key's path or URI); None when this source has none.

        Raises:
            PassphraseError: The source is there but holds nothing usable.
        """


class NoPassphrase:
    """A source without a passphrase."""

    def passphrase(self, subject: str) -> str | None:  # noqa: ARG002 - the Protocol's signature
        """None."""
        return None


@dataclass(frozen=True)
class FixedPassphrase:
    """A passphrase known in advance; `origin` says where it came from."""

    text: str = field(repr=False)
    origin: str = "the given passphrase"

    def passphrase(self, subject: str) -> str | None:
        """The text, once it was found usable.

        Raises:
            PassphraseError: It is empty or too long.
        """
        return usable(self.text, origin=self.origin, subject=subject)


@dataclass(frozen=True)
class PassphraseFile:
    """The first line of a file, read when the passphrase is needed."""

    path: Path

    def passphrase(self, subject: str) -> str | None:
        """The first line, without its line end.

        Raises:
            PassphraseError: The file cannot be read, is not text, or its first line is empty or too long.
        """
        try:
            with self.path.open("rb") as stream:
                line = stream.readline(MAX_BYTES + 3)
            text = line.decode().removesuffix("\n").removesuffix("\r")
        except OSError as error:
            message = f"the passphrase file {self.path} cannot be read: {error.strerror}"
            raise PassphraseError(message) from error
        except UnicodeDecodeError as error:
            raise PassphraseError(f"the passphrase file {self.path} is not UTF-8 text") from error
        return usable(text, origin=f"the passphrase file {self.path}", subject=subject)


def from_environment(*, file: Path | None = None, environ: Mapping[str, str] | None = None) -> PassphraseSource:
    """The source the user chose: an explicit file, else the file or the text that the environment gives, else none."""
    known = os.environ if environ is None else environ
    if file is not None:
        return PassphraseFile(file)
    if known.get(FILE_VARIABLE):
        return PassphraseFile(Path(known[FILE_VARIABLE]))
    if VARIABLE in known:
        return FixedPassphrase(known[VARIABLE], origin=VARIABLE)
    return NoPassphrase()


def usable(text: str, *, origin: str, subject: str) -> str:
    """`text`, if it can be a passphrase.

    Raises:
        PassphraseError: It is empty or too long.
    """
    if not text:
        raise PassphraseError(f"{origin} is empty, but {subject} needs a passphrase").with_hint(_HINT)
    if len(text.encode()) > MAX_BYTES:
        raise PassphraseError(f"{origin} is longer than the {MAX_BYTES} bytes a passphrase may have")
    return text


def demanded(source: PassphraseSource) -> Callable[[str], str]:
    """`source` as a function from a subject to its passphrase that never returns None.

    The function raises PassphraseError when the source has none.
    """

    def ask(subject: str) -> str:
        text = source.passphrase(subject)
        if text is None:
            raise PassphraseError(f"{subject} needs a passphrase and none was given").with_hint(_HINT)
        return text

    return ask
