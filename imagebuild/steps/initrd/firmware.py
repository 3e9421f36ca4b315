"""Firmware that the initrd's kernel modules ask for, and the processors' microcode.

These modules are loaded before the root filesystem is mounted, so their firmware has to be in the initrd too; firmware
of all other modules is in the root filesystem.  The kernel reads microcode before anything else, from the start of the
initrd, uncompressed, and at no other time: so it is not in the root filesystem.
Sources: the kernel's documentation, "Firmware search paths" and "The Linux Microcode Loader".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from imagebuild.elf import ElfError, read_section
from imagebuild.errors import BuildError

FOLDER = Path("usr/lib/firmware")
# What the kernel unpacks by itself, after the plain name.
_ENDINGS = ("", ".zst", ".xz")
_VENDORS = {"intel-ucode": "GenuineIntel.bin", "amd-ucode": "AuthenticAMD.bin"}
_PLACE = Path("kernel/x86/microcode")
# AMD's signatures are files of their own.
_NO_MICROCODE = frozenset({".asc", ".txt"})


def firmware_of(tree: Path, modules: Iterable[str]) -> tuple[str, ...]:
    """The firmware files that modules ask for and the tree has, by their paths in it, sorted.

    Args:
        tree: The package tree.
        modules: Paths of kernel modules in it.

    Raises:
        BuildError: A module is damaged, or a link leads out of the tree.
    """
    wanted = {name for module in modules for name in _wanted(tree / module)}
    return tuple(sorted({path for name in wanted if (path := _found(tree, name))}))


def microcode_files(folder: Path) -> dict[Path, tuple[Path, ...]]:
    """The files that microcode is put together from, by where the kernel looks for each vendor's; `folder` may lack."""
    found = {}
    for vendor, name in _VENDORS.items():
        files = (path for path in sorted((folder / vendor).glob("*")) if path.suffix not in _NO_MICROCODE)
        if parts := tuple(path for path in files if path.is_file()):
            found[_PLACE / name] = parts
    return found


def _wanted(module: Path) -> Iterator[str]:
    """The firmware that a module names."""
    try:
        with module.open("rb") as stream:
            fields = (read_section(stream, ".modinfo") or b"").split(b"\0")
    except ElfError as error:
        raise BuildError(f"the kernel module {module.name} cannot be read: {error}") from error
    for field in fields:
        key, _, value = field.decode(errors="replace").partition("=")
        if key == "firmware":
            yield value


def _found(tree: Path, name: str) -> str | None:
    place = next((FOLDER / f"{name}{end}" for end in _ENDINGS if (tree / FOLDER / f"{name}{end}").is_file()), None)
    if place is not None and not (tree / place).resolve().is_relative_to((tree / FOLDER).resolve()):
        raise BuildError(f"the firmware /{place} leads out of /{FOLDER}")
    return None if place is None else str(place)
