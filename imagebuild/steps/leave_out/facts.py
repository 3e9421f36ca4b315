"""The content of a package tree as values: names and their needs, owners, and requests.  Pure."""

from __future__ import annotations

import posixpath
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from imagebuild.steps.dpkg import InstalledPackage
from imagebuild.steps.leave_out.patterns import covers, merged
from imagebuild.steps.leave_out.survey import PATH_FOLDERS

_MOST_LINKS = 40
_is_documentation = covers(f"/usr/share/{name}" for name in ("bug", "doc", "info", "lintian", "locale", "man"))


@dataclass(frozen=True)
class TreeItem:
    """A name in the tree and what it needs; paths in `runs`, `calls` and `mentions` are of the leave-out set.

    Attributes:
        path: From the tree's root.
        folder: Whether it is a folder.
        executable: Whether it is a file that can be run.
        target: Where a link leads, as written; None for what is no link.
        needed: Names of the libraries it is linked to.
        required: Names of libraries that its notes call required; of each group one is enough.
        optional: The same for libraries that its notes call optional.
        interpreter: What runs the script, a path or a name; empty for what is no script.
        runs: Paths of programs that it starts.
        loads: Names of modules (PAM, NSS) that are loaded because of it.
        calls: Paths of programs that a shell script calls, and of units that a unit names.
        mentions: Paths that it contains as text.
    """

    path: str
    folder: bool = False
    executable: bool = False
    target: str | None = None
    needed: tuple[str, ...] = ()
    required: tuple[tuple[str, ...], ...] = ()
    optional: tuple[tuple[str, ...], ...] = ()
    interpreter: str = ""
    runs: tuple[str, ...] = ()
    loads: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackageRequest:
    """How an installed package was requested: by name, or by one that depends on it.

    Attributes:
        chain: Where that is written, and the packages from there to this one, itself included.
        by_name: Whether it was named, or is a dependency of a named package without files of its own.
    """

    chain: tuple[str, ...]
    by_name: bool = True

    def __str__(self) -> str:
        return " → ".join(self.chain)


@dataclass(frozen=True)
class Requests:
    """The requests for packages and paths.

    Attributes:
        packages: Packages that were requested, or came with a requested one.
        ours: Paths that Twinhull puts into every image.
        definition: Paths that the image definition puts there.
        keep: Patterns of `image.yaml` for paths that stay.
        drop: Patterns of `image.yaml` for paths to remove, whatever needs them.
    """

    packages: Mapping[str, PackageRequest] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()
    definition: frozenset[str] = frozenset()
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class TreeFacts:
    """Everything in a package tree; `owners` maps paths to the package that brought them."""

    items: Mapping[str, TreeItem]
    owners: Mapping[str, str]

    @cached_property
    def by_name(self) -> Mapping[str, tuple[str, ...]]:
        """The paths of files and links by their last name."""
        found: dict[str, list[str]] = defaultdict(list)
        for path, item in self.items.items():
            if not item.folder:
                found[posixpath.basename(path)].append(path)
        return {name: tuple(paths) for name, paths in found.items()}

    def way(self, path: str) -> tuple[str, ...]:
        """A link and all links on the way to its target, and the target if it exists; each once."""
        found: list[str] = []
        while path in self.items and path not in found and len(found) < _MOST_LINKS:
            found.append(path)
            target = self.items[path].target
            if target is None:
                break
            path = self.through_folders(posixpath.normpath(posixpath.join(posixpath.dirname(path), target)))
        return tuple(found)

    def interpreters(self, item: TreeItem) -> tuple[str, ...]:
        """Where the program may be that runs a script; empty for what is no script."""
        if not item.interpreter or item.interpreter.startswith("/"):
            return (item.interpreter,) if item.interpreter else ()
        return tuple(f"{folder}/{item.interpreter}" for folder in PATH_FOLDERS)

    def through_folders(self, path: str) -> str:
        """A path with the links among its folders followed."""
        for _ in range(_MOST_LINKS):
            path = merged(path)
            folder = next((each for each in folders_of(path) if self._target(each) is not None), None)
            if folder is None:
                return path
            target = posixpath.join(posixpath.dirname(folder), self._target(folder) or "")
            path = posixpath.normpath(target + path[len(folder) :])
        return path

    def _target(self, path: str) -> str | None:
        item = self.items.get(path)
        return item.target if item else None


def folders_of(path: str) -> Iterator[str]:
    """The folders that a path is in, the topmost first."""
    return (path[:at] for at, letter in enumerate(path) if letter == "/" and at)


def read_items(rows: Iterable[Mapping[str, Any]]) -> dict[str, TreeItem]:
    """Parse the output of the survey."""
    return {row["path"]: _item(row) for row in rows}


def _item(row: Mapping[str, Any]) -> TreeItem:
    dlopen = row.get("dlopen", ())
    return TreeItem(
        path=row["path"],
        folder=row["kind"] == "d",
        executable=row.get("executable", False),
        target=row.get("target"),
        needed=tuple(row.get("needed", ())),
        required=tuple(tuple(each["names"]) for each in dlopen if each["priority"] == "required"),
        optional=tuple(tuple(each["names"]) for each in dlopen if each["priority"] != "required"),
        interpreter=row.get("interpreter", ""),
        runs=tuple(row.get("runs", ())),
        loads=tuple(row.get("loads", ())),
        calls=tuple(row.get("calls", ())),
        mentions=tuple(row.get("mentions", ())),
    )


def owners_of(installed: Iterable[InstalledPackage]) -> dict[str, str]:
    """The owner of each path, as the tree spells it."""
    return {merged(path): package.name for package in installed for path in package.files}


def requested_packages(
    installed: Iterable[InstalledPackage], *, asked: Mapping[str, str], base: Collection[str]
) -> dict[str, PackageRequest]:
    """The requested packages, and those that came only because of them.

    A package without files of its own (such as `gnupg`) requests its dependencies.

    Args:
        installed: All packages of the image.
        asked: The packages requested by name, and where each request is written.
        base: The packages that every image has.
    """
    packages = {package.name: package for package in installed}
    providers: dict[str, list[str]] = defaultdict(list)
    for package in packages.values():
        for name in (package.name, *package.provides):
            providers[name].append(package.name)

    def needed(name: str) -> list[str]:
        wanted = (each for alternatives in packages[name].depends for each in alternatives)
        return [found for each in wanted for found in providers.get(each, ())]

    always = _closure((name for name in base if name in packages), needed)
    found: dict[str, PackageRequest] = {}
    waiting = deque((name, PackageRequest((where, name))) for name, where in asked.items() if name in packages)
    while waiting:
        name, request = waiting.popleft()
        if name in found:
            continue
        found[name] = request
        empty = request.by_name and not has_content(packages[name])
        follow = (each for each in needed(name) if empty or each not in always)
        waiting += ((each, PackageRequest((*request.chain, each), by_name=empty)) for each in follow)
    # The mkosi.conf of a definition requests packages as well.
    others = (name for name in packages if name not in always and name not in found)
    return found | {name: PackageRequest(("mkosi.conf", name), by_name=False) for name in others}


def _closure(start: Iterable[str], needed: Callable[[str], Iterable[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needed(name)
    return frozenset(found)


def has_content(package: InstalledPackage) -> bool:
    """Whether a package brings more than documentation; if not, it exists for its dependencies."""
    folders = {folder for path in package.files for folder in folders_of(path)}
    return any(path not in folders and not _is_documentation(path) for path in package.files)
