"""The part of a selection that holds everything some of its packages need.

The initrd's programs are taken from their own part, so their cached archive stays valid while unrelated packages
change.  The part is everything that can be reached through dependencies, by any alternative: a part that is too large
is harmless, and one that is too small cannot change the initrd, only fail the build.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from debian.deb822 import Packages

from imagebuild.errors import RefusedInputError
from imagebuild.inputs.archive import index_path
from imagebuild.inputs.lockfile import Selection


@dataclass(frozen=True)
class Described:
    """What an index says of a package: what it needs (any alternative) and what else it stands for."""

    needs: frozenset[str]
    stands_for: frozenset[str]


def part_of(selection: Selection, names: Iterable[str], *, archive: Path) -> Selection:
    """The part of a selection that `names` can draw in, by the index of its whole archive."""
    index = read_index(index_path(archive, selection.release).read_bytes())
    reached = reachable(index, names)
    packages = tuple(package for package in selection.packages if package.name in reached)
    return replace(selection, asked=tuple(sorted(names)), packages=packages)


def read_index(data: bytes) -> dict[str, Described]:
    """What an index (`Packages`) says of each package.

    Raises:
        RefusedInputError: An entry cannot be read.
    """
    try:
        rows = Packages.iter_paragraphs(data, use_apt_pkg=False)
        return {row["Package"]: _described(row) for row in rows}
    except (KeyError, ValueError) as error:
        raise RefusedInputError(f"an index of packages cannot be read: {error}") from error


def _described(row: Packages) -> Described:
    relations = row.relations
    needs = (name for kind in ("depends", "pre-depends") for name in _names(relations[kind]))
    return Described(frozenset(needs), frozenset(_names(relations["provides"])))


def _names(groups: Any) -> Iterator[str]:
    return (each["name"] for group in groups for each in group)


def reachable(index: Mapping[str, Described], names: Iterable[str]) -> frozenset[str]:
    """The packages that can be reached from `names`; a name that no package has or stands for is passed over."""
    by_name: dict[str, set[str]] = {}
    for name, described in index.items():
        for alias in (name, *described.stands_for):
            by_name.setdefault(alias, set()).add(name)
    todo = list(names)
    reached: set[str] = set()
    while todo:
        for package in by_name.get(todo.pop(), set()) - reached:
            reached.add(package)
            todo += index[package].needs
    return frozenset(reached)
