"""Licences as their files declare them: Debian's machine-readable copyright files, and the metadata of wheels.

Nothing is guessed: a licence in free text stays unknown, and the reason is given.
Debian's short names (`GPL-2+`, `Expat`) are passed on unchanged, because they are not SPDX identifiers.
Source: Machine-readable debian/copyright file 1.0, section 7; core metadata specification 2.4 (`License-Expression`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from debian.copyright import Copyright, MachineReadableFormatError, NotMachineReadableError

NO_FILE = "the package brings no copyright file"
NOT_MACHINE_READABLE = "the copyright file is not machine-readable"
NOT_DECLARED = "the package's metadata declares no licence"

# It warns about small errors in files that nobody here can fix.
logging.getLogger("debian.copyright").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Licences:
    """The declared licences: short names, or an SPDX expression, or nothing and the reason."""

    names: tuple[str, ...] = ()
    expression: str | None = None
    unknown: str | None = None


def debian_licences(path: Path) -> Licences:
    """The licences a package's copyright file names, each once, sorted."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return Licences(unknown=NO_FILE)
    try:
        document = Copyright(text.splitlines(keepends=True), strict=False)
        # The library types its fields too loosely for the checker.
        declared: list[Any] = [paragraph.license for paragraph in document.all_files_paragraphs()]
    except (NotMachineReadableError, MachineReadableFormatError, ValueError):
        return Licences(unknown=NOT_MACHINE_READABLE)
    names = {" ".join(each.synopsis.split()) for each in declared if each is not None and each.synopsis.strip()}
    return Licences(names=tuple(sorted(names))) if names else Licences(unknown=NOT_MACHINE_READABLE)


def wheel_licences(metadata: Message) -> Licences:
    """The licence a wheel's metadata declares; a whole licence text in the old field is no name."""
    expression = str(metadata.get("License-Expression", "")).strip()
    if expression:
        return Licences(expression=expression)
    old = str(metadata.get("License", "")).strip()
    if old and "\n" not in old:
        return Licences(names=(old,))
    return Licences(unknown=NOT_DECLARED)
