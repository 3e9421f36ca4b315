"""Programs and libraries from Debian's packages, unpacked and not installed: no script of a package runs.

A record in dpkg's own format lists the packages that brought them, so that every byte can be explained.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from tarfile import TarError, TarFile, TarInfo

from debian.arfile import ArError
from debian.debfile import DebError, DebFile

from imagebuild.definition.initrd import InitrdContent
from imagebuild.elf import ElfError, read_elf
from imagebuild.errors import BuildError, RefusedInputError
from imagebuild.inputs.lockfile import LockedPackage
from imagebuild.inputs.store import Store

_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARY = re.compile(r"usr/lib/(?:x86_64-linux-gnu/(?:systemd/)?)?(?:lib|ld-)[^/]+\.so[^/]*")


@dataclass(frozen=True)
class Unpacked:
    """A package that was looked into: its control file as a stanza, all its paths, its copyright file."""

    name: str
    stanza: str
    paths: tuple[str, ...]
    copyright: bytes | None


def unpack_programs(
    content: InitrdContent,
    packages: Iterable[LockedPackage],
    store: Store,
    *,
    root: Path,
    record: Path,
) -> None:
    """Put what `content` wants, and the libraries it needs, into the new folder `root`, and the record into `record`.

    Args:
        content: What is wanted.
        packages: The packages to look into; each is in the store.
        store: Where packages are.
        root: Becomes the tree.
        record: Becomes the record: `status`, `info/` and `copyright/`, as dpkg keeps them.

    Raises:
        BuildError: A program or a library is in none of the packages.
        RefusedInputError: A file is not a Debian package.
    """
    root.mkdir(parents=True)
    brought: dict[str, Unpacked] = {}
    for package in packages:
        names, unpacked = _unpack(package, store, content.wanted, root)
        brought |= dict.fromkeys(names, unpacked)
    if missing := sorted(content.wanted - brought.keys()):
        raise BuildError(f"no package of the initrd brings {', '.join(f'/{name}' for name in missing)}")
    kept = closure(content, root)
    for name in brought.keys() - kept:
        (root / name).unlink()
    _write_record(record, {brought[name].name: brought[name] for name in kept})


def closure(content: InitrdContent, root: Path) -> frozenset[str]:
    """The names below `root` of what is wanted, the libraries it needs, and the links that lead to them.

    Raises:
        BuildError: A library is not there.
    """
    places = {path.name: path for path in sorted(root.rglob("*.so*"))}
    linked = needed_libraries(root)
    todo = [root / name for name in (*content.wanted, _LOADER)]
    todo += [_place(places, name, "a program loads by name") for name in content.libraries]
    kept: set[Path] = set()
    while todo:
        path = todo.pop()
        if path in kept:
            continue
        if not (path.is_relative_to(root) and path.exists() and path.resolve().is_relative_to(root.resolve())):
            raise BuildError(f"/{os.path.relpath(path, root)} of the initrd leads nowhere")
        kept.add(path)
        if path.is_symlink():
            # One link after the other, so that each of a chain stays.
            todo.append(Path(os.path.normpath(path.parent / path.readlink())))
        todo += [_place(places, name, f"/{path.relative_to(root)} needs") for name in linked.get(path, ())]
    return frozenset(str(path.relative_to(root)) for path in kept)


def needed_libraries(root: Path) -> Mapping[Path, tuple[str, ...]]:
    """The names of libraries that each program and library below `root` is linked to.

    Raises:
        RefusedInputError: One of them is damaged.
    """
    found: dict[Path, tuple[str, ...]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            with path.open("rb") as stream:
                elf = read_elf(stream)
        except ElfError as error:
            raise RefusedInputError(f"/{path.relative_to(root)} of the initrd is damaged: {error}") from error
        if elf is not None:
            found[path] = elf.needed
    return found


def _place(places: Mapping[str, Path], name: str, why: str) -> Path:
    if name not in places:
        raise BuildError(f"no package of the initrd brings {name}, which {why}")
    return places[name]


def _unpack(
    package: LockedPackage, store: Store, wanted: frozenset[str], root: Path
) -> tuple[tuple[str, ...], Unpacked]:
    """Put a package's libraries and what is wanted of it below `root`; their names, and what there is to record."""
    names, paths, text = [], [], None
    try:
        with store.path(package.sha256).open("rb") as stream:
            archive = DebFile(fileobj=stream)
            data = archive.data.tgz()
            for member in data:
                name = member.name.removeprefix("./")
                paths.append(f"/{name}")
                if name in wanted or name == _LOADER or _LIBRARY.fullmatch(name):
                    _extract(data, member, root / name)
                    names.append(name)
                elif name == f"usr/share/doc/{package.name}/copyright":
                    text = _read(data, member)
            control = archive.debcontrol()
    except (ArError, DebError, TarError, LZMAError, EOFError) as error:
        raise RefusedInputError(f"{package.name} {package.version} is not a Debian package: {error}") from error
    control["Status"] = "install ok installed"
    return tuple(names), Unpacked(package.name, str(control), tuple(paths), text)


def _extract(data: TarFile, member: TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        target.symlink_to(member.linkname)
    else:
        target.write_bytes(_read(data, member))


def _read(data: TarFile, member: TarInfo) -> bytes:
    stream = data.extractfile(member)
    return b"" if stream is None else stream.read()


def _write_record(record: Path, used: Mapping[str, Unpacked]) -> None:
    for folder in ("info", "copyright"):
        (record / folder).mkdir(parents=True)
    (record / "status").write_text("\n".join(used[name].stanza for name in sorted(used)))
    for name, unpacked in used.items():
        (record / "info" / f"{name}.list").write_text("".join(f"{path}\n" for path in unpacked.paths))
        if unpacked.copyright is not None:
            (record / "copyright" / name).write_bytes(unpacked.copyright)
