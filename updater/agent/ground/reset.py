"""A host's request to be reset, which its initrd carries out at the next boot.

The request is one line in a file of the state, written durably; the initrd (`reset.sh`) removes it when all is done, so
whatever happens in between, the next boot finishes it.  What is reset: `/var` and the state, or `/etc` alone; the
identity (machine-id, hostname, ssh host keys, the record of provisioning) stays on request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bedrock import persist
from bedrock.regular_files import read_regular
from updater.errors import UpdaterError

REQUEST, DONE = "reset", "reset-done"
# Next to the state: it is on `/var`, and one of the two may be lost.
DONE_ON_VAR = "twinhull-reset-done"
CREDENTIAL = "twinhull.reset"
_LIMIT_BYTES = 1024
_KEEP, _NEW = "keep-identity", "new-identity"
_MARK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Scope(Enum):
    """What is reset."""

    ALL = "all"
    ETC = "etc"


@dataclass(frozen=True)
class ResetRequest:
    """What was asked for; `mark` is the name by which a credential's request is known once it is done."""

    scope: Scope
    keep_identity: bool
    mark: str = ""

    def __str__(self) -> str:
        what = "everything but the system" if self.scope is Scope.ALL else "/etc"
        return f"{what} is reset at the next boot, {'the identity is kept' if self.keep_identity else 'identity too'}"

    @property
    def line(self) -> str:
        """The request as the initrd reads it."""
        words = (self.scope.value, _KEEP if self.keep_identity else _NEW, self.mark)
        return " ".join(words).rstrip() + "\n"

    @classmethod
    def read(cls, text: str) -> ResetRequest:
        """Read `all|etc keep-identity|new-identity [MARK]`.

        Raises:
            ValueError: It is something else.
        """
        scope, identity, *marks = text.split() if len(text.split()) > 1 else ("", "")
        scopes = {each.value: each for each in Scope}
        if (
            scope not in scopes
            or identity not in (_KEEP, _NEW)
            or len(marks) > 1
            or not all(map(_MARK.fullmatch, marks))
        ):
            raise ValueError(f"{text[:80]!r} is not `all|etc {_KEEP}|{_NEW} [NAME]`")
        return cls(scopes[scope], identity == _KEEP, *marks)


def request_reset(state: Path, request: ResetRequest) -> None:
    """Write the request to the disk, durably.

    Raises:
        UpdaterError: It cannot be written.
    """
    try:
        persist.write_atomic(state / REQUEST, request.line, mode=0o600)
    except OSError as error:
        raise UpdaterError(f"{state / REQUEST} cannot be written: {error.strerror}") from error


def pending_reset(state: Path) -> ResetRequest | None:
    """The request that the next boot carries out; None when there is none, or none that it would understand."""
    try:
        return ResetRequest.read(read_regular(state / REQUEST, _LIMIT_BYTES).decode())
    except (OSError, ValueError):
        return None


def reset_by_credential(folder: str | None, state: Path) -> ResetRequest | None:
    """The request in the credential `twinhull.reset` (`all new-identity NAME`); None without one, or when it is done.

    A credential stays where it is, so each needs a name of its own: one that was carried out is not carried out again.

    Raises:
        UpdaterError: It cannot be understood.
    """
    path = Path(folder or "/nonexistent", CREDENTIAL)
    try:
        text = read_regular(path, _LIMIT_BYTES).decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UpdaterError(f"the credential {CREDENTIAL} cannot be read: {error}") from error
    try:
        request = ResetRequest.read(text)
    except ValueError as error:
        raise UpdaterError(f"the credential {CREDENTIAL} asks for no reset: {error}") from error
    if not request.mark:
        raise UpdaterError(f"the credential {CREDENTIAL} has no name at its end, so it would reset this host for ever")
    return None if request.mark in _done(state) else request


def _done(state: Path) -> set[str]:
    """The names of what was carried out last, as the state and `/var` remember it."""
    found = set()
    for path in (state / DONE, state.with_name(DONE_ON_VAR)):
        try:
            found.add(read_regular(path, _LIMIT_BYTES).decode(errors="replace").strip())
        except OSError:
            continue
    return found
