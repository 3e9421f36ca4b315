"""SHA-256 of bytes, texts, files and folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def bytes_sha256(data: bytes) -> str:
    """The SHA-256 of bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits; the file is read in pieces.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_sha256(files: Mapping[str, Path]) -> str:
    """SHA-256 over files and links by name: the same names and contents give the same digest.

    A link counts by its target's path, not by the content behind it.
    """
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        link = path.is_symlink()
        content = str(path.readlink()).encode() if link else path.read_bytes()
        digest.update(f"{name}\0{link:d}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def files_below(folder: Path) -> dict[str, Path]:
    """The files and links below a folder by their paths in it; Python's cached byte code is skipped."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in found if "__pycache__" not in path.parts}


def texts_sha256(parts: Iterable[str]) -> str:
    """SHA-256 over texts in their order."""
    return bytes_sha256("\0".join(parts).encode())
