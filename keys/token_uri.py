"""`pkcs11:` URIs, which name a key in a token: `pkcs11:token=release;object=db?module-path=/usr/lib/softhsm.so`.

Rules: what is not understood is an error, because a URI that loses a condition names another key; a PIN is never part
of a URI, because URIs are written into files, commands and logs.
Source: RFC 7512.
Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes

PKCS11 = "pkcs11"
_MAX_TEXT = 1024
_UNRESERVED = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&/|-]|%[0-9A-Fa-f]{2})*")
_PIN = {"pin-value", "pin-source"}


@dataclass(frozen=True)
class TokenUri:
    """The conditions on a token and on a key in it; None is no condition.

    Attributes:
        token: The token's label.
        manufacturer: Its manufacturer.
        serial: Its serial number.
        model: Its model.
        slot_id: The number of the slot it is in.
        object: The key's label.
        id: The key's id.
        module_path: The PKCS #11 module, a shared library, that leads to the token.
    """

    token: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    model: str | None = None
    slot_id: int | None = None
    object: str | None = None
    id: bytes | None = None
    module_path: PurePosixPath | None = None

    @classmethod
    def from_rest(cls, rest: str) -> TokenUri:
        """Read what comes after `pkcs11:`.

        Raises:
            ValueError: An attribute is unknown, given twice, malformed, or a PIN.
        """
        if len(rest) > _MAX_TEXT:
            raise ValueError(f"must be a pkcs11: URI of at most {_MAX_TEXT} characters")
        path, _, query = rest.partition("?")
        found: dict[str, Any] = {}
        for name, text in (*_attributes(path, ";"), *_attributes(query, "&")):
            if name in _PIN:
                raise ValueError(f"must not hold {name}: a PIN comes from where passphrases come from")
            if name == "type":
                _require_private(text)
                continue
            if name not in _READERS:
                raise ValueError(f"must not hold {name!r}, which is unknown here; known are {', '.join(_READERS)}")
            field = name.replace("-", "_")
            if field in found:
                raise ValueError(f"must hold {name} once")
            found[field] = _READERS[name](unquote_to_bytes(text))
        return cls(**found)

    @property
    def token_conditions(self) -> str:
        """Which token it is, in words."""
        named = ((field.name.replace("_", "-"), getattr(self, field.name)) for field in fields(self))
        own = ("object", "id", "module-path")
        return ", ".join(f"{name} {value}" for name, value in named if value is not None and name not in own)

    @property
    def key_conditions(self) -> str:
        """Which key it is, in words."""
        label = [f"label {self.object}"] if self.object is not None else []
        number = [f"id {self.id.hex()}"] if self.id is not None else []
        return ", ".join((*label, *number))


def _attributes(text: str, separator: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if not equals or not _UNRESERVED.fullmatch(value):
            raise ValueError(f"must hold name=value with other characters as %20, not {part!r}")
        yield name, value


def _require_private(text: str) -> None:
    if text != "private":
        raise ValueError(f"must name a private key, not type={text}")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError("must hold UTF-8") from error


def _number(value: bytes) -> int:
    text = _text(value)
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise ValueError(f"slot-id must be a number, not {text!r}")
    return int(text)


def _module(value: bytes) -> PurePosixPath:
    path = PurePosixPath(_text(value))
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError(f"module-path must be an absolute path, not {str(path)!r}")
    return path


_READERS: dict[str, Callable[[bytes], Any]] = {
    "token": _text,
    "manufacturer": _text,
    "serial": _text,
    "model": _text,
    "slot-id": _number,
    "object": _text,
    "id": bytes,
    "module-path": _module,
}
