"""The statically linked components that a program names: Go's modules and standard library, Rust's crates.

Go's linker records both in every program, `cargo auditable` the crates of programs built with it; C programs record
nothing, which is why Debian has the field `Built-Using`.  Each table is read with bounds; a damaged one is an error.
Sources: Go's `debug/buildinfo` (the form since Go 1.18); `cargo auditable`'s PARSING.md.
"""

from __future__ import annotations

import enum
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imagebuild.elf import ElfError, read_section
from imagebuild.errors import BuildError
from imagebuild.inspection.contents import EntryKind, ImageEntry

GO_SECTION, CARGO_SECTION = ".go.buildinfo", ".dep-v0"
STANDARD_LIBRARY = "stdlib"
_GO_MAGIC = b"\xff Go buildinf:"
_GO_HEADER_BYTES, _GO_FLAGS_AT, _GO_INLINE = 32, 15, 2
_GO_MARK_BYTES = 16
_MOST_BYTES = 16 << 20
_VARINT_BITS = 63


class Ecosystem(enum.Enum):
    """Where a component comes from, as package URLs name it."""

    GO = "golang"
    CARGO = "cargo"


@dataclass(frozen=True)
class Linked:
    """A component that is linked into a program."""

    ecosystem: Ecosystem
    name: str
    version: str


def linked_by_owner(root: Path, entries: Iterable[ImageEntry]) -> dict[str, frozenset[Linked]]:
    """The components linked into the programs and libraries of the tree at `root`, by the package that brought them.

    Programs that only their own user may read are not examined.

    Raises:
        BuildError: A program's table is damaged.
    """
    found: dict[str, set[Linked]] = defaultdict(set)
    for entry in entries:
        if entry.kind is not EntryKind.FILE or not (entry.mode & 0o111 or ".so" in entry.path):
            continue
        try:
            with (root / entry.path.lstrip("/")).open("rb") as stream:
                found[entry.owner].update(read_linked(stream))
        except PermissionError:
            continue
        except ElfError as error:
            raise BuildError(f"what is linked into {entry.path} cannot be read: {error}") from error
    return {owner: frozenset(each) for owner, each in found.items() if each}


def read_linked(stream: BinaryIO) -> frozenset[Linked]:
    """The components linked into one file; empty when it names none, or is not a program.

    Raises:
        ElfError: It is damaged.
    """
    go, cargo = read_section(stream, GO_SECTION), read_section(stream, CARGO_SECTION)
    return frozenset((*(_go(go) if go else ()), *(_cargo(cargo) if cargo else ())))


def _go(table: bytes) -> Iterator[Linked]:
    if not table.startswith(_GO_MAGIC) or len(table) < _GO_HEADER_BYTES:
        raise ElfError(f"{GO_SECTION} does not begin as Go writes it")
    if not table[_GO_FLAGS_AT] & _GO_INLINE:
        # Go before 1.18, whose table points into other sections.
        return
    version, at = _counted(table, _GO_HEADER_BYTES)
    text, _ = _counted(table, at)
    yield Linked(Ecosystem.GO, STANDARD_LIBRARY, version.decode(errors="replace").removeprefix("go").partition(" ")[0])
    yield from _go_modules(text[_GO_MARK_BYTES:-_GO_MARK_BYTES].decode(errors="replace"))


def _go_modules(text: str) -> Iterator[Linked]:
    """`dep` names a module, and `=>` on the next line what it was replaced with."""
    last: Linked | None = None
    for line in text.splitlines():
        kind, *words = line.split("\t")
        if kind == "dep" and last is not None:
            yield last
        if kind in ("dep", "=>"):
            # What a folder replaces is the program's own source.
            known = len(words) > 1 and not words[0].startswith((".", "/"))
            last = Linked(Ecosystem.GO, words[0], words[1]) if known else None
    if last is not None:
        yield last


def _counted(table: bytes, at: int) -> tuple[bytes, int]:
    """The text at `at`, which a varint counts, and where it ends."""
    size = shift = 0
    while True:
        if at >= len(table) or shift > _VARINT_BITS:
            raise ElfError(f"{GO_SECTION} breaks off")
        size |= (table[at] & 0x7F) << shift
        shift += 7
        at += 1
        if table[at - 1] < 0x80:  # noqa: PLR2004 - the last byte of a varint
            break
    if at + size > len(table):
        raise ElfError(f"{GO_SECTION} breaks off: a text of {size} bytes was expected")
    return table[at : at + size], at + size


def _cargo(packed: bytes) -> Iterator[Linked]:
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, _MOST_BYTES)
        if not unpacker.eof:
            raise ElfError(f"{CARGO_SECTION} breaks off, or is longer than is believable")
        for row in json.loads(text)["packages"]:
            if row.get("kind", "runtime") == "runtime" and not row.get("root", False):
                yield Linked(Ecosystem.CARGO, str(row["name"]), str(row["version"]))
    except (zlib.error, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, ElfError):
            raise
        raise ElfError(f"{CARGO_SECTION} cannot be read: {error}") from error
