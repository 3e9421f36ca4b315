"""Reads documents and credentials from the firmware and the boot partition; other modules judge them.

The firmware's are in `/run/credentials/@system` when systemd was allowed to import them.  When it was not (the initrd
decides this by the image's policy), the firmware's tables may still hold a signed document, so they are read directly.
Sources: SMBIOS 3.7, 7.12 (type 11, OEM strings); systemd.system-credentials(7); QEMU's fw_cfg in sysfs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bedrock import persist
from updater.provision.encrypted import is_encrypted
from updater.provision.reading import CREDENTIAL, MAX_OFFERED_BYTES
from updater.provision.record import Way

SYSTEM = "run/credentials/@system"
BOOT_PARTITION = "run/twinhull/boot-credentials"
STORES = {False: "run/credstore", True: "run/credstore.encrypted"}
_FW_CFG = "sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials"
_TABLES = "sys/firmware/dmi/entries"
_TEXT, _BINARY = b"io.systemd.credential:", b"io.systemd.credential.binary:"
_HEADER_BYTES = 4
# What the names of our own credentials begin with.
OWN = "twinhull."


@dataclass(frozen=True)
class RawDocument:
    """A document as received, not parsed yet."""

    way: Way
    data: bytes


@dataclass(frozen=True)
class BootCredential:
    """A credential of the boot partition."""

    name: str
    data: bytes


def find_documents(root: Path) -> Iterator[RawDocument]:
    """The documents received, the firmware's first."""
    firmware = _read(root / SYSTEM / CREDENTIAL)
    if firmware is None:
        firmware = _read(root / _FW_CFG / CREDENTIAL / "raw")
    if firmware is None:
        tables = sorted((root / _TABLES).glob("11-*/raw"))
        firmware = next(filter(None, (oem_credential(path.read_bytes(), CREDENTIAL) for path in tables)), None)
    if firmware is not None:
        yield RawDocument(Way.FIRMWARE, firmware)
    for name, path in _boot_files(root):
        if name == CREDENTIAL and (boot := _read(path)) is not None:
            yield RawDocument(Way.BOOT_PARTITION, boot)


def oem_credential(table: bytes, name: str) -> bytes | None:
    """A credential among the strings of one SMBIOS table of type 11."""
    if len(table) <= _HEADER_BYTES:
        return None
    for string in table[table[1] :].split(b"\0"):
        for prefix, binary in ((_TEXT, False), (_BINARY, True)):
            wanted = prefix + name.encode() + b"="
            if string.startswith(wanted):
                value = string[len(wanted) :]
                try:
                    return base64.b64decode(value, validate=True) if binary else value
                except binascii.Error:
                    return value
    return None


def boot_credentials(root: Path) -> Iterator[BootCredential]:
    """The boot partition's credentials except the document."""
    for name, path in _boot_files(root):
        if name != CREDENTIAL and (data := _read(path)) is not None:
            yield BootCredential(name, data)


def hand_on(root: Path, credential: BootCredential) -> None:
    """Write a credential below `/run`, where units look for it; plain and encrypted ones are separate."""
    store = root / STORES[is_encrypted(credential.data)]
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    persist.write_atomic(store / credential.name, credential.data, mode=0o600)


def _boot_files(root: Path) -> Iterator[tuple[str, Path]]:
    """The boot partition's files by the names of their credentials: FAT knows no case, and ours have small letters."""
    folder = root / BOOT_PARTITION
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        small = path.name.lower()
        yield (small if small.startswith(OWN) else path.name), path


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as stream:
            return stream.read(2 * MAX_OFFERED_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
