"""What the image had at a path when the host's edit was made, remembered in `/var/lib/twinhull/etc-origins.json`.

It is noted at each boot, before a reboot, and whenever somebody looks; an edit that was made since the last time, just
before a cut of power and a new version, counts as made to that new version.  The file is a hint: it decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from bedrock import evolution, persist, strict
from bedrock.errors import DocumentError
from updater.agent.etcdiff.layers import Found, Kind, look, paths_in, shown

FILE_NAME = "etc-origins.json"
FORMAT = 1
# Texts above that are only remembered by their hash.
_MAX_TEXT_CHARS = 16 << 10
_MAX_ORIGINS = 256


@dataclass(frozen=True)
class Origin:
    """One edit, and what it was made to.

    Attributes:
        host: What the host made of it, as `mark` says.
        version: The image's version then.
        image: What the image had; empty: nothing.
        text: The image's text, where it is short.
    """

    host: str
    version: str
    image: str
    text: str | None = None


@dataclass(frozen=True)
class Origins:
    """All remembered edits by their paths."""

    format: Annotated[int, strict.Range(FORMAT, FORMAT)] = FORMAT
    files: dict[str, Origin] = field(default_factory=dict)


def mark(found: Found | None) -> str:
    """What is at a path, as text that is the same when it is the same."""
    if found is None:
        return ""
    return f"{found.kind.value} {found.mode:o} {found.owner[0]}:{found.owner[1]} {found.sha256}"


def load(folder: Path) -> Origins:
    """What is remembered; nothing where that cannot be read."""
    path = folder / FILE_NAME
    try:
        return evolution.read_json(Origins, path.read_bytes(), source=str(path))
    except (OSError, DocumentError):
        return Origins()


def renewed(known: Origins, edits: Mapping[str, tuple[Found | None, Found | None]], version: str) -> Origins:
    """The edits of now: an edit that is as it was keeps its origin, another one has its origin in this version.

    Args:
        known: What was remembered.
        edits: What the host and the image have at each edited path.
        version: The version that runs.
    """
    files = {}
    for path, (host, image) in sorted(edits.items())[:_MAX_ORIGINS]:
        before = known.files.get(path)
        if before is not None and before.host == mark(host):
            files[path] = before
            continue
        secret = image is not None and image.is_private
        text = image.text if image is not None and not secret else None
        short = text if text is not None and len(text) <= _MAX_TEXT_CHARS else None
        files[path] = Origin(mark(host), version, mark(image), short)
    return Origins(files=files)


def read_edits(upper: Path, lower: Path) -> dict[str, tuple[Found | None, Found | None]]:
    """What the host and the image have at each path of the host's layer where they differ."""
    edits: dict[str, tuple[Found | None, Found | None]] = {}
    for path in paths_in(upper):
        host, image = look(upper / path), look(lower / path)
        if host is not None and mark(host) != mark(image) and (host.kind is not Kind.REMOVED or image is not None):
            edits[path] = host, image
    return edits


def note(folder: Path, upper: Path, lower: Path, version: str) -> Origins:
    """Remember this moment's edits on the disk; what was remembered already is not written again."""
    known = load(folder)
    now = renewed(known, {shown(path): edit for path, edit in read_edits(upper, lower).items()}, version)
    if now != known:
        folder.mkdir(parents=True, exist_ok=True)
        persist.write_atomic(folder / FILE_NAME, strict.dump_json(now), mode=0o600)
    return now
