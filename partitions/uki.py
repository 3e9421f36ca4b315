"""What a UKI says of itself: the root hash it boots, its image and version.

A name proves nothing: files are renamed, names are lost on FAT.  So whoever wants to know what a file boots reads it
here.  Only the headers and two small sections are read; whether the rest is whole is not judged.
Sources: Microsoft PE format (section table); UAPI Unified Kernel Image specification (`.cmdline`, `.osrel`,
`.profile`).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from bedrock.pe import HEADERS_MAX, section_table
from partitions.errors import UkiError
from partitions.version import Version

_TEXT_MAX = 1 << 16
_COMMAND_LINE, _OS_RELEASE = ".cmdline", ".osrel"
_ROOT_HASH = re.compile(r"(?:^|\s)roothash=([0-9a-fA-F]{64})(?=\s|$)")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class UkiContent:
    """What a UKI boots; `root_hash` is 64 lowercase hexadecimal digits."""

    root_hash: str
    image: str
    version: Version


def read_uki(stream: BinaryIO, *, source: str) -> UkiContent:
    """Read what a UKI boots from a file that is open for reading.

    Raises:
        UkiError: It is not a UKI of a Twinhull image: not a PE file, damaged, or without one root hash.
        OSError: It cannot be read.
    """
    try:
        return _content(list(_texts(stream)))
    except (struct.error, ValueError) as error:
        raise UkiError(f"{source} is not a UKI of a Twinhull image: {error}") from error


def _content(texts: list[tuple[str, str]]) -> UkiContent:
    lines = [text for name, text in texts if name == _COMMAND_LINE]
    hashes = {found.lower() for line in lines for found in _ROOT_HASH.findall(line)}
    # Further profiles of the same UKI (a rescue entry) have a command line of their own, and the same root.
    if len(hashes) != 1 or not all(_ROOT_HASH.search(line) for line in lines):
        raise ValueError(f"its command lines name {len(hashes)} root hashes")
    release = next((text for name, text in texts if name == _OS_RELEASE), "")
    image, version = _value(release, "IMAGE_ID"), _value(release, "IMAGE_VERSION")
    if not _IMAGE.fullmatch(image):
        raise ValueError(f"its IMAGE_ID is {image[:80]!r}")
    return UkiContent(hashes.pop(), image, Version.from_text(version))


def _texts(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    """The names and contents of the sections that are text."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    for section in section_table(stream.read(HEADERS_MAX)):
        if section.name not in (_COMMAND_LINE, _OS_RELEASE):
            continue
        if section.size_bytes > _TEXT_MAX or section.offset + section.size_bytes > size:
            raise ValueError(f"its section {section.name} has {section.size_bytes} bytes at {section.offset}")
        stream.seek(section.offset)
        yield section.name, stream.read(section.size_bytes).rstrip(b"\0").decode()


def _value(release: str, key: str) -> str:
    """A variable of an os-release file, without quotes; empty when it is missing."""
    for line in release.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == key:
            return value.strip().strip("\"'")
    return ""
