"""The programs on the boot partitions of this host, by their Authenticode digests; reads only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from keys.errors import PeFormatError
from keys.secureboot.pe import authenticode_digest
from partitions.entries import BootEntry, parse_entry
from updater.agent.boot_trust.judging import BootProgram, ProgramState


def programs_in(entries: Path, *, running: BootEntry | None, loaders: Iterable[Path] = ()) -> tuple[BootProgram, ...]:
    """Every UKI in the folder of boot entries, and the boot loaders.

    Args:
        entries: The mounted folder `/EFI/Linux`.
        running: The entry that this host was started from, with its counter as it is now; None when it is not known.
        loaders: The boot loaders of this host that exist.
    """
    found = [_uki(path, running) for path in sorted(entries.glob("*.efi")) if path.is_file()]
    return (*found, *(BootProgram(path.name, ProgramState.LOADER, digest=digest_of(path)) for path in loaders))


def _uki(path: Path, running: BootEntry | None) -> BootProgram:
    entry = parse_entry(path.name)
    blessed = entry is not None and entry.blessed
    if entry is not None and entry == running:
        state = ProgramState.RUNNING
    else:
        state = ProgramState.BLESSED if blessed else ProgramState.OTHER
    return BootProgram(path.name, state, blessed=blessed, digest=digest_of(path))


def digest_of(path: Path) -> bytes | None:
    """The Authenticode SHA-256 of a program; None when it cannot be read as one."""
    try:
        return authenticode_digest(path)
    except (PeFormatError, OSError):
        return None
