"""EFI variables through efivarfs: what the loader reports, Secure Boot, and the one-shot choice for a wanted downgrade.

Sources: Boot Loader Interface (names and the loader's vendor GUID); UEFI 2.10, 3.3 (SecureBoot); Linux,
Documentation/filesystems/efivarfs.rst (four bytes of attributes before the value, files that are immutable).
Not here: any persistent choice of a boot entry; `LoaderEntryDefault` ignores boot counting.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from updater.errors import SlotError

LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Ours: why a boot ended in the initrd (imagebuild/data/initrd/usr/lib/twinhull/firmware.sh).
FAILURE_VENDOR = "2a84b37f-a949-4457-ade6-f758c332679f"
FAILURE = "TwinhullFailure"
FAILURE_LIMIT_BYTES = 1024
ATTRIBUTES_BYTES = 4
# Kept over resets, and readable before and after the firmware starts the system.
ATTRIBUTES = 0x1 | 0x2 | 0x4
_GET_FLAGS = 0x80086601
_SET_FLAGS = 0x40086602
_IMMUTABLE = 0x10
_ROOT_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class InitrdFailure:
    """Why a boot ended in the initrd; `root_hash` names the system that was to start, None when it did not say."""

    root_hash: str | None
    text: str


@dataclass(frozen=True)
class EfiVariables:
    """The variables in an efivarfs folder."""

    folder: Path = Path("/sys/firmware/efi/efivars")

    def secure_boot(self) -> bool | None:
        """Whether the firmware enforces signatures; None when it does not say."""
        value = self.value("SecureBoot", GLOBAL)
        return None if not value else value[0] == 1

    def set_one_shot(self, entry_name: str) -> None:
        """Choose, in the firmware's memory, the entry for the next boot only.

        Raises:
            SlotError: The firmware does not accept it.
        """
        self.write("LoaderEntryOneShot", LOADER, ATTRIBUTES, encode_text(entry_name))

    def write(self, name: str, vendor: str, attributes: int, value: bytes) -> None:
        """Set a variable (writes to the firmware's memory).

        Raises:
            SlotError: The firmware does not accept it.
        """
        path = self._path(name, vendor)
        try:
            clear_immutable(path)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # The whole variable in one write: efivarfs does not join several.
                os.write(handle, struct.pack("<I", attributes) + value)
            finally:
                os.close(handle)
        except OSError as error:
            raise SlotError(f"{path}: the firmware does not take it: {error.strerror}") from error

    def initrd_failure(self) -> InitrdFailure | None:
        """What the initrd left when a boot could not go on; None when it left nothing."""
        value = self.value(FAILURE, FAILURE_VENDOR)
        if value is None:
            return None
        words = value[:FAILURE_LIMIT_BYTES].decode(errors="replace")
        first, _, rest = "".join(c if c.isprintable() else " " for c in words).partition(" ")
        return InitrdFailure(first if _ROOT_HASH.fullmatch(first) else None, " ".join(rest.split()))

    def remove_initrd_failure(self) -> None:
        """Remove it from the firmware's memory, once it is recorded.

        Raises:
            SlotError: The firmware does not let it go.
        """
        path = self._path(FAILURE, FAILURE_VENDOR)
        try:
            clear_immutable(path)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise SlotError(f"{path}: the record of a failed boot cannot be removed: {error.strerror}") from error

    def matching(self, pattern: str, vendor: str = GLOBAL) -> tuple[tuple[str, bytes], ...]:
        """The names, which match a pattern with wildcards, and the values of a vendor's variables."""
        names = sorted(path.name.removesuffix(f"-{vendor}") for path in self.folder.glob(f"{pattern}-{vendor}"))
        return tuple((name, value) for name in names if (value := self.value(name, vendor)) is not None)

    def value(self, name: str, vendor: str) -> bytes | None:
        """The value of a variable, without its attributes; None when it cannot be read."""
        try:
            return self._path(name, vendor).read_bytes()[ATTRIBUTES_BYTES:]
        except OSError:
            # Not an EFI machine, not mounted, or not set: for a reader all the same.
            return None

    def _path(self, name: str, vendor: str) -> Path:
        return self.folder / f"{name}-{vendor}"


def encode_text(text: str) -> bytes:
    """UTF-16 text with its terminator."""
    return (text + "\0").encode("utf-16-le")


def clear_immutable(path: Path) -> None:
    """Make an existing variable writable; efivarfs protects it against a stray `rm`."""
    if not path.exists():
        return
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = bytearray(8)
        fcntl.ioctl(handle, _GET_FLAGS, flags)
        (value,) = struct.unpack_from("<I", flags)
        if value & _IMMUTABLE:
            fcntl.ioctl(handle, _SET_FLAGS, struct.pack("<Q", value & ~_IMMUTABLE))
    finally:
        os.close(handle)
