"""Packages that a definition names and that left no file in the image, which its author may not expect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from imagebuild.inspection.contents import Contents, EntryKind
from imagebuild.steps.dpkg import InstalledPackage

_DOCUMENTATION = tuple(f"/usr/share/{name}/" for name in ("bug", "doc", "info", "lintian", "locale", "man"))
# The kernel loads it before there is a root filesystem, so it goes into the initrd and leaves no file here.
_MICROCODE = ("/usr/lib/firmware/amd-ucode/", "/usr/lib/firmware/intel-ucode/")


def absent_notes(contents: Contents, installed: Iterable[InstalledPackage]) -> Iterator[str]:
    """A line for each package of `packages:` that brought files besides documentation and has none in the image."""
    there = {entry.owner for entry in contents.entries if entry.kind is not EntryKind.FOLDER}
    for package in installed:
        if contents.asked.get(package.name) != "image.yaml: packages" or package.name in there:
            continue
        files = package.files
        if any(path.startswith(_MICROCODE) for path in files):
            continue
        folders = {str(folder) for path in files for folder in PurePosixPath(path).parents}
        if any(path not in folders and not path.startswith(_DOCUMENTATION) for path in files):
            yield f"{package.name}: none of its files is in the image (firmware stays only for modules in the image)"
