"""Reads or changes an image's tree; runs as a script inside the tools tree, where the tree's files belong to root.

Rules: only the standard library; one JSON request from the given file, one JSON answer on stdout; no path leads out of
the tree, whatever links are in it; changed files get the times that a build gives files.
Not here: deciding what to read or change.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_LARGEST_TEXT = 4 << 20
_CAPABILITIES = "security.capability"


def read(tree: Path, patterns: Iterable[str]) -> dict[str, Any]:
    """Texts, links and folders that the patterns match, by their paths in the image."""
    texts: dict[str, str] = {}
    links: dict[str, str] = {}
    folders: list[str] = []
    for pattern in patterns:
        for path in sorted(tree.glob(pattern.lstrip("/"))):
            name = f"/{path.relative_to(tree)}"
            if path.is_symlink():
                links[name] = str(path.readlink())
            elif path.is_dir():
                folders.append(name)
            elif path.is_file() and path.stat().st_size <= _LARGEST_TEXT:
                texts[name] = path.read_bytes().decode(errors="replace")
    return {"texts": texts, "links": links, "folders": folders}


def change(
    tree: Path,
    *,
    epoch: int,
    remove: Iterable[str],
    write: Iterable[tuple[str, int, str]],
    copy: Iterable[tuple[str, str, int]],
    link: Iterable[tuple[str, str]],
    owners: Mapping[str, Mapping[str, int]],
) -> None:
    """Remove, write and link files, then give files to other users and groups (writes into the tree)."""
    for pattern in remove:
        for target in tree.glob(pattern.lstrip("/")):
            with kept_time(target.parent):
                target.unlink()
    for source, path, mode in copy:
        target = inside(tree, path)
        make_parents(target.parent, epoch)
        with kept_time(target.parent):
            target.unlink(missing_ok=True)
            target.write_bytes(Path(source).read_bytes())
        target.chmod(mode)
        os.utime(target, (epoch, epoch))
    for path, mode, text in write:
        target = inside(tree, path)
        make_parents(target.parent, epoch)
        with kept_time(target.parent):
            target.unlink(missing_ok=True)
            target.write_text(text)
        target.chmod(mode)
        os.utime(target, (epoch, epoch))
    for path, where in link:
        target = inside(tree, path)
        make_parents(target.parent, epoch)
        with kept_time(target.parent):
            target.unlink(missing_ok=True)
            target.symlink_to(where)
        os.utime(target, (epoch, epoch), follow_symlinks=False)
    users, groups = ({int(old): new for old, new in owners[kind].items()} for kind in ("users", "groups"))
    if users or groups:
        give(tree, users, groups)


def give(tree: Path, users: Mapping[int, int], groups: Mapping[int, int]) -> None:
    """Change the owners of everything in the tree, by id; mode bits that this clears are restored."""
    for path in everything(tree):
        found = path.lstat()
        user, group = users.get(found.st_uid, found.st_uid), groups.get(found.st_gid, found.st_gid)
        if (user, group) == (found.st_uid, found.st_gid):
            continue
        # Other names of a hard link already have the new owner when they are visited: ids must not be changed twice.
        capabilities = None
        if stat.S_ISREG(found.st_mode) and _CAPABILITIES in os.listxattr(path, follow_symlinks=False):
            capabilities = os.getxattr(path, _CAPABILITIES)
        os.chown(path, user, group, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            path.chmod(stat.S_IMODE(found.st_mode))
        if capabilities is not None:
            os.setxattr(path, _CAPABILITIES, capabilities)


def everything(tree: Path) -> Iterator[Path]:
    """Everything in the tree, the tree itself among it, each inode once."""
    seen: set[tuple[int, int]] = set()
    yield tree
    for folder, names, files in os.walk(tree):
        for name in (*names, *files):
            path = Path(folder, name)
            found = path.lstat()
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                yield path


def in_modules(tree: Path, words: Iterable[str]) -> list[str]:
    """Those of the words that are a string of some kernel module."""
    wanted = {word: f"\0{word}\0".encode() for word in words}
    found: set[str] = set()
    for path in (tree / "usr/lib/modules").rglob("*.ko"):
        content = path.read_bytes()
        found |= {word for word, sought in wanted.items() if word not in found and sought in content}
        if len(found) == len(wanted):
            break
    return sorted(found)


def inside(tree: Path, path: str) -> Path:
    """A path of the image as one of this host: links of its folders are followed inside the tree."""
    place = tree
    *folders, name = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in folders or name == "..":
        raise ValueError(f"{path} leaves the image")
    for part in folders:
        step = place / part
        if step.is_symlink():
            target = str(step.readlink())
            beyond = target if target.startswith("/") else f"/{place.relative_to(tree)}/{target}"
            step = inside(tree, os.path.normpath(beyond))
        place = step
    return place / name


def make_parents(folder: Path, epoch: int) -> None:
    """Make a folder and those above it, with the time of a build."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        with kept_time(each.parent):
            each.mkdir(mode=0o755)
        os.utime(each, (epoch, epoch))


class kept_time:  # noqa: N801 - reads as what it does
    """Gives a folder back the time it had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        found = self.folder.stat()
        self.times = (found.st_atime_ns, found.st_mtime_ns)

    def __exit__(self, *_: object) -> None:
        os.utime(self.folder, ns=self.times)


def make_locale(tree: Path, *, source: str, name: str, epoch: int) -> str:
    """Let localedef make a locale's data in the tree; what it said when it failed, else nothing."""
    folder = tree / "usr/lib/locale"
    make_parents(folder, epoch)
    made = folder / name
    words = ["localedef", "--no-archive", f"--inputfile={source}", "--charmap=UTF-8", str(made)]
    with kept_time(folder):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    for path in (made, *made.rglob("*")) if made.is_dir() else ():
        os.utime(path, (epoch, epoch))
    return "" if done.returncode == 0 else done.stderr or done.stdout or "localedef failed"


def main(request: Path) -> None:
    """Do what the request says."""
    wanted = json.loads(request.read_text())
    tree = Path(wanted["tree"])
    os.umask(0o022)
    answer: dict[str, Any] = {}
    if "read" in wanted:
        answer = read(tree, wanted["read"])
    elif "modules" in wanted:
        answer = {"found": in_modules(tree, wanted["modules"])}
    elif "locale" in wanted:
        answer = {"failed": make_locale(tree, **wanted["locale"])}
    else:
        change(tree, **wanted["change"])
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
