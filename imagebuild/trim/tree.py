"""The files of an image and their dependencies, as values.

Links are followed inside the image.  A program needs the libraries it is linked to, wherever they are (like the build's
own check, steps/leave_out/lost.py), a script needs its interpreter, a kernel module the modules it depends on.
Pure; `needs.py` reads it from an unpacked root.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from imagebuild.inspection.contents import Contents, EntryKind, ImageEntry

_MOST_LINKS = 40


@dataclass(frozen=True)
class Needs:
    """The dependencies of files.

    Attributes:
        links: The target of each link, as it is written.
        names: For a program or a library the file names of the libraries it is linked to; for a script the name of
            its interpreter.
        modules: For a kernel module the paths of the modules it depends on.
    """

    links: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageTree:
    """An image's names and their needs."""

    contents: Contents
    needs: Needs

    @cached_property
    def entries(self) -> dict[str, ImageEntry]:
        """Everything in the image by its path."""
        return {entry.path: entry for entry in self.contents.entries}

    @cached_property
    def by_name(self) -> Mapping[str, list[str]]:
        """The paths of files and links by their last name."""
        found: dict[str, list[str]] = defaultdict(list)
        for entry in self.contents.entries:
            if entry.kind is not EntryKind.FOLDER:
                found[posixpath.basename(entry.path)].append(entry.path)
        return found

    def resolve(self, path: str) -> str | None:
        """The target of a path with all links followed; None when it is not in the image."""
        waiting = [part for part in reversed(path.split("/")) if part]
        place, followed = "", 0
        while waiting:
            part = waiting.pop()
            if part in (".", ".."):
                place = posixpath.dirname(place) if part == ".." and place not in ("", "/") else place
                continue
            there = f"{place.rstrip('/')}/{part}"
            target = self.needs.links.get(there)
            if target is None:
                place = there
                continue
            followed += 1
            if followed > _MOST_LINKS:
                return None
            place = "" if target.startswith("/") else place
            waiting += [each for each in reversed(target.split("/")) if each]
        return place if place in self.entries else None

    def with_needs(self, start: Iterable[str]) -> frozenset[str]:
        """These names and everything they need, directly or not."""
        kept: set[str] = set()
        waiting = list(start)
        while waiting:
            path = waiting.pop()
            if path not in kept and path in self.entries:
                kept.add(path)
                waiting += self.needed(path)
        return frozenset(kept)

    def needed(self, path: str) -> Iterator[str]:
        """The direct needs of a name: a link's target, a program's libraries, a module's modules."""
        if self.entries[path].kind is EntryKind.LINK:
            target = self.resolve(path)
            # A link to a folder needs the folder, not all that is in it.
            if target is not None:
                yield target
        for name in self.needs.names.get(path, ()):
            yield from self.by_name.get(name, ())
        yield from self.needs.modules.get(path, ())
