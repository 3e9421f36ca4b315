"""Key URIs: `scheme:rest`.

`file:` is a path (RFC 8089) and `pkcs11:` a key in a token (`keys.token_uri`); any other scheme belongs to the signer
that opens it.
Pure: no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from keys.errors import KeyUriError
from keys.token_uri import PKCS11, TokenUri

FILE = "file"
# securesystemslib's own, with PyKCS11 and for ECDSA alone.
_OTHER_TOKEN_SCHEMES = {"hsm"}
_FORM = re.compile(r"([a-z][a-z0-9+.-]*):(.+)", re.DOTALL)


@dataclass(frozen=True)
class KeyUri:
    """Where a private key is; a `file:` path may be relative to the keys folder."""

    scheme: str
    rest: str

    @classmethod
    def from_text(cls, text: str) -> KeyUri:
        """Read a URI.

        Raises:
            ValueError: No scheme, nothing after it, a `file:` URI of another machine, a malformed `pkcs11:` URI, or a
                second scheme for tokens.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"must be a key URI such as file:root-1.pem, not {text!r}")
        scheme, rest = match[1], match[2]
        if scheme == FILE:
            rest = quote(_file_path(text, rest))
        elif scheme == PKCS11:
            TokenUri.from_rest(rest)
        elif scheme in _OTHER_TOKEN_SCHEMES:
            raise ValueError(f"must name a key in a token as pkcs11:token=…;object=…, not {text!r}")
        return cls(scheme, rest)

    @classmethod
    def of_path(cls, path: Path) -> KeyUri:
        """The `file:` URI of a path."""
        return cls(FILE, quote(str(path)))

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"

    @property
    def is_file(self) -> bool:
        """Whether the key is in a file."""
        return self.scheme == FILE

    @property
    def token(self) -> TokenUri:
        """The token and the key in it that a `pkcs11:` URI names.

        Raises:
            KeyUriError: The URI has another scheme.
        """
        if self.scheme != PKCS11:
            raise KeyUriError(f"{self} does not name a key in a token")
        return TokenUri.from_rest(self.rest)

    @property
    def path(self) -> Path:
        """The path of a `file:` URI.

        Raises:
            KeyUriError: The URI has another scheme.
        """
        if not self.is_file:
            raise KeyUriError(f"{self} does not name a file")
        return Path(unquote(self.rest))

    def anchored(self, folder: Path) -> KeyUri:
        """This URI with a relative `file:` path resolved against `folder`; other schemes stay as they are."""
        return KeyUri.of_path(folder / self.path) if self.is_file else self


def parse_uri(text: str) -> KeyUri:
    """Read a URI that a caller wrote.

    Raises:
        KeyUriError: It is malformed.
    """
    try:
        return KeyUri.from_text(text)
    except ValueError as error:
        raise KeyUriError(f"a key URI {error}") from error


def _file_path(text: str, rest: str) -> str:
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise ValueError(f"must name a file of this machine, not {text!r}")
        rest = slash + path
    path = unquote(rest)
    if not path or "\0" in path:
        raise ValueError(f"must name a file, not {text!r}")
    return path
