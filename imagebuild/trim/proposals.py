"""Derives the proposals from what was touched and what is kept.

    touched, or kept by a list, or put there by the definition or the agent
        → with all that these need → stays
        everything else → may go: whole folders where nothing stays, all versions of a library by one glob, single files

A link goes with its target.  A line of `drop:` is proposed only if everything it would remove may go.
Pure.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from imagebuild.definition.image import MODULE_PATTERN
from imagebuild.inspection.contents import AGENT, DEFINITION, EntryKind, ImageEntry
from imagebuild.trim.keeping import KeepList
from imagebuild.trim.page_cache import Sample
from imagebuild.trim.patterns import drop_line, matched_by, module_name, module_place
from imagebuild.trim.tree import ImageTree

# As in `/usr/share/doc`; the folders above are never dropped, however empty they look.
_LEAST_PARTS = 3
_LIBRARY = re.compile(r"(?P<stem>.+\.so)(\.[0-9.]+)?")


@dataclass(frozen=True)
class Proposal:
    """A proposal.

    Attributes:
        lines: What to write under `drop:`, or under `drop_modules:` when `modules` is set.
        modules: Whether it is kernel modules.
        files: The files that go, by path.
        needed_by: Files of other proposals that need one of these, so that this proposal requires those as well.
    """

    lines: tuple[str, ...]
    modules: bool
    files: tuple[ImageEntry, ...]
    needed_by: tuple[str, ...] = ()

    @property
    def raw_bytes(self) -> int:
        """Bytes of the files."""
        return sum(entry.size_bytes for entry in self.files)

    @property
    def packages(self) -> tuple[str, ...]:
        """The owners of the files."""
        return tuple(sorted({entry.owner for entry in self.files}))


def staying(tree: ImageTree, touched: Sample, keep: KeepList) -> frozenset[str]:
    """The names that stay: touched or kept ones, and everything they need."""

    def begins(entry: ImageEntry) -> bool:
        place = module_place(entry.path)
        if entry.path in touched.files or entry.owner in (AGENT, DEFINITION) or keep.keeps(entry.path):
            return True
        return place is not None and (module_name(place) in touched.modules or keep.keeps_module(place))

    return tree.with_needs(entry.path for entry in tree.contents.entries if begins(entry))


def propose(tree: ImageTree, stays: frozenset[str]) -> tuple[Proposal, ...]:
    """The proposals, in no order; no two remove the same file, and none is empty."""
    while True:
        found = _proposals(tree, stays)
        there = {entry.path for each in found for entry in each.files}
        left = {e.path for e in tree.contents.entries if e.kind is EntryKind.FILE} - stays - there
        if not left:
            return _with_users(tree, found)
        # A file that no line can name stays, and so does everything it needs.
        stays = tree.with_needs(stays | left)


def with_users(proposals: Sequence[Proposal], wanted: Iterable[int]) -> frozenset[int]:
    """The indexes of these proposals and of all that must go with them, because they need files of these."""
    places = {entry.path: place for place, each in enumerate(proposals) for entry in each.files}
    chosen: set[int] = set()
    waiting = list(wanted)
    while waiting:
        place = waiting.pop()
        if place not in chosen:
            chosen.add(place)
            waiting += [places[path] for path in proposals[place].needed_by]
    return frozenset(chosen)


def _proposals(tree: ImageTree, stays: frozenset[str]) -> tuple[Proposal, ...]:
    goes = _going(tree, stays)
    files = {path for path in goes if module_place(path) is None}
    modules = {place: path for path in goes if (place := module_place(path)) is not None}
    found = (*_paths(tree, files, stays), *_modules(tree, modules))
    return tuple(proposal for proposal in found if proposal.raw_bytes)


def _with_users(tree: ImageTree, found: tuple[Proposal, ...]) -> tuple[Proposal, ...]:
    places = {entry.path: place for place, each in enumerate(found) for entry in each.files}
    users: dict[int, set[str]] = defaultdict(set)
    for path, place in places.items():
        for needed in tree.needed(path):
            there = places.get(tree.resolve(needed) or needed)
            if there is not None and there != place:
                users[there].add(path)
    return tuple(replace(each, needed_by=tuple(sorted(users[place]))) for place, each in enumerate(found))


def _going(tree: ImageTree, stays: frozenset[str]) -> frozenset[str]:
    """Files that may go, and the links that lead only to them.

    Any other link stays: a unit is masked by one that leads nowhere, and others lead to what a boot makes.
    """
    files = {e.path for e in tree.contents.entries if e.kind is EntryKind.FILE and e.path not in stays}
    links = (e.path for e in tree.contents.entries if e.kind is EntryKind.LINK and e.path not in stays)
    return frozenset(files | {link for link in links if tree.resolve(link) in files})


def _paths(tree: ImageTree, goes: set[str], stays: frozenset[str]) -> Iterator[Proposal]:
    """Proposals for `drop:`; a link that is not next to its target has a line of its own."""
    folders = _whole_folders(tree, goes, stays)
    globs = _library_globs(tree, goes)

    def line_of(path: str) -> str:
        folder = _topmost(path, folders)
        if folder is None and tree.entries[path].kind is EntryKind.LINK:
            return line_of(str(tree.resolve(path)))
        return drop_line(folder) if folder else globs.get(path) or drop_line(path)

    groups: dict[str, set[str]] = defaultdict(set)
    for path in goes:
        groups[line_of(path)].add(path)
    for line, paths in groups.items():
        links = paths.difference(matched_by(line, paths))
        lines = (line, *sorted(map(drop_line, links)))
        if all(_removes_only(each, tree, paths) for each in lines):
            yield Proposal(lines, modules=False, files=_files(tree, paths))


def _removes_only(line: str, tree: ImageTree, paths: set[str]) -> bool:
    """Whether a line removes no file but these, and nothing that stays; without a wildcard it does so by itself."""
    if "*" not in line and "?" not in line:
        return True
    return all(
        path in paths for path in matched_by(line, tree.entries) if tree.entries[path].kind is not EntryKind.FOLDER
    )


def _whole_folders(tree: ImageTree, goes: set[str], stays: frozenset[str]) -> frozenset[str]:
    """The topmost folders below which everything goes.

    Empty folders stay, and so do the targets of links that stay.
    """
    leaves = tree.entries.keys() - {posixpath.dirname(path) for path in tree.entries}
    blocked = {parent for path in (leaves | stays) - goes for parent in _with_parents(path)}
    whole = {
        path
        for path, entry in tree.entries.items()
        if entry.kind is EntryKind.FOLDER and path not in blocked and path.count("/") >= _LEAST_PARTS
    }
    return frozenset(path for path in whole if posixpath.dirname(path) not in whole)


def _library_globs(tree: ImageTree, goes: set[str]) -> dict[str, str]:
    """For libraries the line that removes them in the next version, too, if it removes nothing that stays."""
    stems: dict[str, set[str]] = defaultdict(set)
    for path in goes:
        if match := _LIBRARY.fullmatch(path):
            stems[match["stem"]].add(path)
    lines = {stem: f"{drop_line(stem)}*" for stem in stems}
    return {
        path: lines[stem]
        for stem, paths in stems.items()
        if _removes_only(lines[stem], tree, paths)
        for path in paths
        if tree.entries[path].kind is EntryKind.FILE
    }


def _modules(tree: ImageTree, goes: Mapping[str, str]) -> Iterator[Proposal]:
    """Proposals for `drop_modules:`; `goes` maps places below `kernel/` to paths."""
    every = [place for path in tree.entries if (place := module_place(path)) is not None]
    blocked = {parent for place in every if place not in goes for parent in _with_parents(place)}
    groups: dict[str, set[str]] = defaultdict(set)
    for place, path in goes.items():
        parents = [parent for parent in _with_parents(place)[1:] if parent not in blocked]
        groups[f"{parents[-1]}/" if parents else place].add(path)
    for line, paths in groups.items():
        if re.fullmatch(MODULE_PATTERN, line):
            yield Proposal((line,), modules=True, files=_files(tree, paths))


def _files(tree: ImageTree, paths: Iterable[str]) -> tuple[ImageEntry, ...]:
    return tuple(tree.entries[path] for path in sorted(paths) if tree.entries[path].kind is EntryKind.FILE)


def _topmost(path: str, folders: frozenset[str]) -> str | None:
    return next((parent for parent in _with_parents(path) if parent in folders), None)


def _with_parents(path: str) -> list[str]:
    """A path and the folders it is in, from the inside out, the root left aside."""
    found = [path]
    while parent := posixpath.dirname(found[-1]).rstrip("/"):
        found.append(parent)
    return found
