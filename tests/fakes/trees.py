"""Images as values: the names they hold and what needs what, for tests of what could be dropped."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from imagebuild.inspection.contents import FORMAT, Contents, EntryKind, ImageEntry
from imagebuild.trim.page_cache import CANARY
from imagebuild.trim.tree import ImageTree, Needs
from partitions.version import Version


def contents_of(
    files: Mapping[str, int], links: Mapping[str, str] | None = None, *, owners: Mapping[str, str] | None = None
) -> Contents:
    """The record of an image with these files (sizes in bytes) and links, and the folders they are in."""
    names = [*files, *(links or {})]
    folders = {parent for name in names for parent in _parents(name)}
    entries = [ImageEntry(path, EntryKind.FOLDER, 0o755, 0, "base") for path in folders]
    entries += [
        ImageEntry(path, EntryKind.FILE, 0o644, size, (owners or {}).get(path, "base")) for path, size in files.items()
    ]
    entries += [ImageEntry(path, EntryKind.LINK, 0o777, 0, "base") for path in links or {}]
    by_path = tuple(sorted(entries, key=lambda entry: entry.path))
    return Contents(FORMAT, "host", Version("1.0.0"), {}, (), by_path)


def tree_of(
    files: Mapping[str, int],
    links: Mapping[str, str] | None = None,
    *,
    names: Mapping[str, tuple[str, ...]] | None = None,
    modules: Mapping[str, tuple[str, ...]] | None = None,
    owners: Mapping[str, str] | None = None,
) -> ImageTree:
    """An image with these files, links and needs."""
    contents = contents_of(files, links, owners=owners)
    return ImageTree(contents, Needs(links=dict(links or {}), names=names or {}, modules=modules or {}))


def sample_text(*files: str, modules: tuple[str, ...] = (), lost: int = 0, asked: tuple[int, int] | None = None) -> str:
    """What the guest prints when these files and modules were touched."""
    touched = (CANARY, *files)
    names, answers = asked or (len(touched), len(touched))
    lines = ["twinhull-sample 1", f"lost pgsteal_kswapd {lost}", "lost pgsteal_anon 0", "lost drop_pagecache 0"]
    lines += [f"module {name}" for name in modules]
    lines += [f"names {names} {answers}", *(f"file 4096 {path}" for path in touched), "twinhull-sample end"]
    return "\n".join(lines) + "\n"


def _parents(path: str) -> list[str]:
    found = []
    while (path := posixpath.dirname(path)) != "/":
        found.append(path)
    return found
