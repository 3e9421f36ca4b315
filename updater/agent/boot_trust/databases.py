"""The firmware variables db and dbx: read, and appended to, through efivarfs.

Rules: an append is one write of the attributes and the signed bytes; what was appended is read back.
Source: UEFI specification 2.10, 8.2.2 and 8.2.6; Linux, Documentation/filesystems/efivarfs.rst.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from keys.secureboot.siglist import ATTRIBUTES, DATABASE_GUID, MAX_VARIABLE_BYTES, BootVariable
from updater.agent.efi import ATTRIBUTES_BYTES, clear_immutable
from updater.errors import FirmwareError

_SAID = {
    errno.EACCES: "the firmware does not accept the signature: its KEK is another one",
    errno.EPERM: "the firmware does not allow it: its KEK is another one, or the variable is locked",
    errno.EINVAL: "the firmware does not accept the form of the update",
    errno.ENOSPC: "the firmware has no room left for variables",
    errno.EROFS: "the firmware's variables are mounted read-only",
    errno.EIO: "the firmware's flash failed",
}


class Databases(Protocol):
    """Reads db and dbx, and appends to them."""

    def read(self, variable: BootVariable) -> bytes | None:
        """The content without attributes; empty when it is not set, None when it cannot be read."""

    def append(self, variable: BootVariable, payload: bytes) -> None:
        """Append signed bytes (writes to the firmware's flash).

        Raises:
            FirmwareError: The firmware refuses them.
        """


@dataclass(frozen=True)
class EfiDatabases:
    """The variables in an efivarfs folder; `write` is the system call."""

    folder: Path = Path("/sys/firmware/efi/efivars")
    write: Callable[[int, bytes], int] = os.write

    def read(self, variable: BootVariable) -> bytes | None:
        """The content without attributes; empty when it is not set, None when it cannot be read."""
        if not self.folder.is_dir():
            return None
        try:
            with self._path(variable).open("rb") as stream:
                content = stream.read(MAX_VARIABLE_BYTES + ATTRIBUTES_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError:
            return None
        return content[ATTRIBUTES_BYTES:]

    def append(self, variable: BootVariable, payload: bytes) -> None:
        """Append signed bytes (writes to the firmware's flash).

        Raises:
            FirmwareError: The firmware refuses them.
        """
        path = self._path(variable)
        try:
            clear_immutable(path)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # The whole variable in one write: efivarfs does not join several.
                self.write(handle, struct.pack("<I", ATTRIBUTES) + payload)
            finally:
                os.close(handle)
        except OSError as error:
            said = _SAID.get(error.errno or 0, error.strerror)
            raise FirmwareError(f"{path}: nothing was appended: {said}") from error

    def _path(self, variable: BootVariable) -> Path:
        return self.folder / f"{variable.value}-{DATABASE_GUID}"
