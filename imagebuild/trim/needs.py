"""Reads the dependencies between files of an unpacked root."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from imagebuild.elf import ElfError, read_elf
from imagebuild.errors import TrimError
from imagebuild.inspection.contents import Contents, EntryKind
from imagebuild.trim.patterns import module_name, module_place
from imagebuild.trim.tree import Needs

_FIRST_LINE_BYTES = 256


def read_needs(contents: Contents, root: Path) -> Needs:
    """Read links, programs, scripts and modules of the root filesystem that is unpacked at `root`.

    Raises:
        TrimError: A name of the record is not there, or a program is damaged.
    """
    links: dict[str, str] = {}
    names: dict[str, tuple[str, ...]] = {}
    for entry in contents.entries:
        path = root / entry.path.lstrip("/")
        try:
            if entry.kind is EntryKind.LINK:
                links[entry.path] = str(path.readlink())
            elif entry.kind is EntryKind.FILE and module_place(entry.path) is None and (found := _named(path)):
                names[entry.path] = found
        except OSError as error:
            raise TrimError(f"{entry.path} of the image's record is not in its root filesystem: {error}") from error
        except ElfError as error:
            raise TrimError(f"{entry.path} is damaged: {error}") from error
    return Needs(links=links, names=names, modules=_modules(contents, root))


def interpreter(first_line: bytes) -> str | None:
    """The name of the program that runs a script with this first line; None for what is no script."""
    if not first_line.startswith(b"#!"):
        return None
    words = first_line[2:].decode(errors="replace").split()
    if not words:
        return None
    # `#!/usr/bin/env -S name` has an option first.
    named = [word for word in words[1:] if not word.startswith("-")]
    return PurePosixPath(named[0] if PurePosixPath(words[0]).name == "env" and named else words[0]).name


def parse_dependencies(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Lines of `modules.dep`: a module's path and those it depends on, below the folder of the kernel version."""
    for line in text.splitlines():
        module, colon, needed = line.partition(":")
        if colon:
            yield module, tuple(needed.split())


def parse_soft_dependencies(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Lines of `modules.softdep`: the names of a module and of those it asks for."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 2 and words[0] == "softdep":  # noqa: PLR2004 - the word and the module itself
            yield words[1], tuple(word for word in words[2:] if not word.endswith(":"))


def _named(path: Path) -> tuple[str, ...]:
    """The names of libraries that a program is linked to, or that of a script's interpreter."""
    with path.open("rb") as stream:
        elf = read_elf(stream)
        if elf is not None:
            return elf.needed
        stream.seek(0)
        name = interpreter(stream.readline(_FIRST_LINE_BYTES))
    return (name,) if name else ()


def _modules(contents: Contents, root: Path) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    places = {module_name(place): e.path for e in contents.entries if (place := module_place(e.path)) is not None}
    for folder in sorted((root / "usr/lib/modules").glob("*")):
        below = f"/{folder.relative_to(root)}"
        for module, needed in parse_dependencies(_text(folder / "modules.dep")):
            found.setdefault(f"{below}/{module}", []).extend(f"{below}/{each}" for each in needed)
        for module, needed in parse_soft_dependencies(_text(folder / "modules.softdep")):
            for path in _known(places, (module,)):
                found.setdefault(path, []).extend(_known(places, needed))
    return {path: tuple(needed) for path, needed in found.items()}


def _known(places: Mapping[str, str], names: Iterable[str]) -> Iterator[str]:
    return (places[name] for name in (each.replace("-", "_") for each in names) if name in places)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
