"""A Debian package that really changed: one that is installed, with another version and one other program."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagebuild.inputs.lockfile import LockedPackage
from imagebuild.inputs.supply import Supply, store_in
from imagebuild.inputs.tools import Access
from imagebuild.steps.scratch import remove_tree

_TIMEOUT_S = 120
# Behind the end of an ELF file nothing is read: the program stays what it was, its file does not.
_MORE = b"\0twinhull-bench\0"
_VERSION_LINE = re.compile(r"^Version: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Changed:
    """A package to change: its name, and the pattern of the one file of it that grows by some bytes."""

    name: str
    file: str


@contextmanager
def changed(supply: Supply, what: Changed, folder: Path) -> Iterator[Supply]:
    """The same supply with one package changed, in the place of the one Debian offers.

    Writes the package below `folder` and into the store, from which it is removed at the end.
    """
    store = store_in(supply.cache)
    old = next(package for package in supply.packages.packages if package.name == what.name)
    new, made = _make(supply, old, store.path(old.sha256), what, folder)
    store.put([made.read_bytes()], sha256=new.sha256, size_bytes=new.size_bytes, what=what.name)
    packages = tuple(new if package is old else package for package in supply.packages.packages)
    try:
        yield dataclasses.replace(supply, packages=dataclasses.replace(supply.packages, packages=packages))
    finally:
        store.path(new.sha256).unlink()


def next_version(control: str) -> tuple[str, str]:
    """A package's control file with a later version in it, and that version."""
    found = _VERSION_LINE.search(control)
    assert found is not None, control
    version = f"{found[1]}+bench1"
    return _VERSION_LINE.sub(f"Version: {version}", control, count=1), version


def _make(supply: Supply, old: LockedPackage, source: Path, what: Changed, folder: Path) -> tuple[LockedPackage, Path]:
    if folder.exists():
        remove_tree(folder)
    tree, made = folder / "tree", folder / f"{what.name}.deb"
    folder.mkdir(parents=True)
    access = Access(read=(source,), write=(folder,))
    supply.tools.run(["dpkg-deb", "--raw-extract", source, tree], access, timeout_s=_TIMEOUT_S)
    control, version = next_version((tree / "DEBIAN/control").read_text())
    (tree / "DEBIAN/control").write_text(control)
    (file,) = (path for path in tree.glob(what.file) if not path.is_symlink())
    with file.open("ab") as program:
        program.write(_MORE)
    words: list[str | Path] = ["dpkg-deb", "--root-owner-group", "--build", tree, made]
    supply.tools.run(words, access, timeout_s=_TIMEOUT_S)
    with made.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    size = made.stat().st_size
    return dataclasses.replace(old, version=version, sha256=digest, size_bytes=size), made
