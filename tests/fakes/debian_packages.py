"""Debian packages of a few files, whole and small: what a mirror would serve."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from imagebuild.inputs.lockfile import LockedPackage
from imagebuild.inputs.store import Store
from tests.fakes.definitions import package

_AR_MAGIC = b"!<arch>\n"


@dataclass(frozen=True)
class ArchiveLink:
    """A link in a package; `hard`: another name of a file of the same package, as a path without a leading slash."""

    target: str
    hard: bool = False


Content = bytes | ArchiveLink


def deb(name: str, version: str = "1", files: Mapping[str, Content] | None = None, *, depends: str = "libc6") -> bytes:
    """A Debian package that brings these files, by their absolute paths."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDepends: {depends}\nDescription: x\n"
    return ar(
        {
            "debian-binary": b"2.0\n",
            "control.tar.xz": tar_xz({"./control": control.encode()}),
            "data.tar.xz": tar_xz({f".{path}": content for path, content in _with_folders(files or {}).items()}),
        }
    )


def ar(members: Mapping[str, bytes]) -> bytes:
    """An archive in the form that `ar` writes."""
    made = _AR_MAGIC
    for name, content in members.items():
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        made += content + b"\n" * (len(content) % 2)
    return made


def tar_xz(members: Mapping[str, Content | None]) -> bytes:
    """A compressed tape archive; a member of None is a folder."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:xz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, ArchiveLink):
                entry.type = tarfile.LNKTYPE if content.hard else tarfile.SYMTYPE
                entry.linkname = f"./{content.target}" if content.hard else content.target
            else:
                entry.size = len(content)
                entry.mode = 0o755 if content.startswith((b"#!", b"\x7fELF")) else 0o644
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return sink.getvalue()


def stored(store: Store, name: str, content: bytes, version: str = "1") -> LockedPackage:
    """A locked package whose file is in the store."""
    made = package(name, content, version=version)
    store.put([content], sha256=made.sha256, size_bytes=made.size_bytes, what=name)
    return made


def _with_folders(files: Mapping[str, Content]) -> dict[str, Content | None]:
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents}
    return {**dict.fromkeys(sorted(folders)), **files}
