"""Describes where two files differ; if diffoscope is installed, it writes a full report.

Nothing here decides whether they differ: their hashes do.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bedrock import process
from bedrock.errors import ProcessError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.reproduction.documents import places

MOST_LINES = 20
_TIMEOUT_S = 300
_DIFFOSCOPE_TIMEOUT_S = 1800
_BLOCK_BYTES = 4096


def where(old: Path, new: Path, *, tools: ToolsTree) -> tuple[str, ...]:
    """The places in which the file `new` differs from `old`, at most `MOST_LINES` of them; reads only.

    Raises:
        ProcessError: A file system or a program cannot be taken apart.
    """
    found = list(islice(_places(old.resolve(), new.resolve(), tools), MOST_LINES + 1))
    return (*found[:MOST_LINES], "…") if len(found) > MOST_LINES else tuple(found)


def ask_diffoscope(old: Path, new: Path, report: Path) -> bool:
    """Let diffoscope, where this host has it, write all differences as text to the file `report`."""
    if shutil.which("diffoscope") is None:
        return False
    words: list[str | Path] = ["diffoscope", "--no-progress", "--text", report, old, new]
    try:
        process.run(words, timeout_s=_DIFFOSCOPE_TIMEOUT_S, check=False)
    except ProcessError:
        # It is only a help for people; our own report does not need it.
        return False
    return report.is_file()


def _places(old: Path, new: Path, tools: ToolsTree) -> Iterator[str]:
    if new.suffix in {".json", ".lock"}:
        try:
            values = [json.loads(path.read_bytes()) for path in (old, new)]
        except ValueError:
            yield from _bytes(old, new)
            return
        yield from places(*values)
        return
    if new.suffix == ".erofs":
        yield from _files(old, new, tools)
    elif new.suffix == ".efi":
        yield from _sections(old, new, tools)
    yield from _bytes(old, new)


def _files(old: Path, new: Path, tools: ToolsTree) -> Iterator[str]:
    """Names in two erofs file systems whose kind, mode, size, time or content differ."""
    with tempfile.TemporaryDirectory(prefix="twinhull-differences-") as scratch:
        listings = []
        for name, image in (("old", old), ("new", new)):
            root = Path(scratch) / name
            tools.run(
                ["fsck.erofs", f"--extract={root}", "--preserve", image],
                Access(read=(image.parent,), write=(Path(scratch),)),
                timeout_s=_TIMEOUT_S,
            )
            listings.append({str(path.relative_to(root)): path for path in root.rglob("*")})
        before, after = listings
        for path in sorted(before.keys() | after.keys()):
            if path not in after or path not in before:
                yield f"/{path}: {'gone' if path in before else 'new'}"
            elif changed := ", ".join(_entry(before[path], after[path])):
                yield f"/{path}: {changed}"


def _entry(old: Path, new: Path) -> Iterator[str]:
    before, after = old.lstat(), new.lstat()
    for name, mine, theirs in (
        ("mode", oct(before.st_mode), oct(after.st_mode)),
        ("owner", f"{before.st_uid}:{before.st_gid}", f"{after.st_uid}:{after.st_gid}"),
        ("time", int(before.st_mtime), int(after.st_mtime)),
    ):
        if mine != theirs:
            yield f"{name} {mine} -> {theirs}"
    if old.is_symlink() and new.is_symlink():
        if old.readlink() != new.readlink():
            yield f"leads to {new.readlink()}, not {old.readlink()}"
    elif old.is_file() and new.is_file() and old.read_bytes() != new.read_bytes():
        yield "content"


def _sections(old: Path, new: Path, tools: ToolsTree) -> Iterator[str]:
    """Sections of two UKIs whose content differs."""
    before, after = (_inspected(path, tools) for path in (old, new))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"section {name}"
    if before == after:
        yield "all sections are alike: the signature or the header differs"


def _inspected(path: Path, tools: ToolsTree) -> dict[str, object]:
    words: list[str | Path] = ["/usr/lib/systemd/ukify", "inspect", path, "--json=short"]
    done = tools.run(words, Access(read=(path.parent,)), timeout_s=_TIMEOUT_S)
    found = json.loads(done.stdout)
    return {name: value.get("sha256") for name, value in found.items() if isinstance(value, dict)}


def _bytes(old: Path, new: Path) -> Iterator[str]:
    """How many blocks differ, and where the first does."""
    sizes = old.stat().st_size, new.stat().st_size
    if sizes[0] != sizes[1]:
        yield f"{sizes[1]} bytes, not {sizes[0]}"
    first, count, offset = None, 0, 0
    with old.open("rb") as before, new.open("rb") as after:
        while (mine := before.read(_BLOCK_BYTES)) and (theirs := after.read(_BLOCK_BYTES)):
            if mine != theirs:
                first = offset if first is None else first
                count += 1
            offset += _BLOCK_BYTES
    if first is not None:
        yield f"{count} blocks of {_BLOCK_BYTES} bytes differ, the first at byte {first}"
