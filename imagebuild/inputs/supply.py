"""Gets the tools and the packages of one build, from a definition or its lock.

    newest_supply   what the mirrors offer now (fetches only tools and indexes)
    locked_supply   exactly the packages in the lock, from a network or a bundle
    make_lock       the lock itself

A build installs from the archive that a supply makes (`open_archive`), so the steps after it are always the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bedrock.digest import file_sha256
from bedrock.progress import Progress
from imagebuild.definition.image import LOCK_FILE, ImageDefinition, load_definition
from imagebuild.errors import LockError, RefusedInputError
from imagebuild.inputs.archive import archive_path, ensure_archive
from imagebuild.inputs.archives import archives_of, debian_archives, local_bases
from imagebuild.inputs.lockfile import FORMAT, Lock, LockedWheel, Selection, read_lock
from imagebuild.inputs.mirror import Mirrors
from imagebuild.inputs.requested import asked_packages
from imagebuild.inputs.resolve import Resolver
from imagebuild.inputs.store import Store, fetch_packages
from imagebuild.inputs.tools import PACKAGES as TOOLS_PACKAGES
from imagebuild.inputs.tools import RELEASE as TOOLS_RELEASE
from imagebuild.inputs.tools import ToolsTree, ensure_tools, ensure_tools_from
from imagebuild.inputs.updates import missing_updates
from imagebuild.inputs.wheels import agent_wheels


@dataclass(frozen=True)
class Supply:
    """The tools and packages of one build.

    Attributes:
        tools: The tools tree.
        packages: What may be installed into the image and its initrd.
        bases: Base URLs of the archives that packages are fetched from, by name.
        offline: Whether nothing may be fetched over a network.
        cache: Twinhull's cache folder.
        locked: The lock all of it comes from.
        seconds: How long it took to make the tools tree ready.
        warnings: Warnings about the packages, one line each.
    """

    tools: ToolsTree
    packages: Selection
    bases: Mapping[str, str]
    offline: bool
    cache: Path
    locked: Lock | None
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def archive(self) -> Path:
        """Base folder of the archive to install from, once `open_archive` ran."""
        return archive_path(self.packages, cache=self.cache)

    def open_archive(self, progress: Progress) -> Path:
        """Fetch what is missing and make the archive (writes below the cache).

        Raises:
            MirrorError: A mirror does not answer, or no longer has a file.
            RefusedInputError: A file is not what was promised.
        """
        store = store_in(self.cache)
        fetch_packages(store, self.packages.packages, self.bases, progress=progress, offline=self.offline)
        return ensure_archive(self.packages, store, cache=self.cache)


def store_in(cache: Path) -> Store:
    """Twinhull's store of fetched files."""
    return Store(cache / "files")


def newest_supply(folder: Path, *, mirrors: Mirrors, cache: Path, progress: Progress) -> Supply:
    """What the mirrors offer now for the definition in `folder`.

    Raises:
        DocumentError: The definition has errors.
        MirrorError: A mirror does not answer, or it is not signed by Debian.
        BuildError: A package is not there, or they cannot be installed together.
        ToolsError: The tools tree could not be made.
    """
    definition, cache = load_definition(folder), cache.absolute()
    began = time.monotonic()
    progress.step("tools tree")
    tools = ensure_tools(mirrors, cache=cache, progress=progress)
    seconds = time.monotonic() - began
    progress.step("choose packages")
    packages, _ = _choose(folder, definition, tools, mirrors, cache)
    return Supply(
        tools=tools,
        packages=packages,
        bases=archives_of(definition, folder, mirrors).bases,
        offline=False,
        cache=cache,
        locked=None,
        seconds=seconds,
        warnings=missing_updates(packages, definition.security, definition.expired_indexes),
    )


def locked_supply(folder: Path, lock: Lock, *, mirrors: Mirrors | None, cache: Path, progress: Progress) -> Supply:
    """What the lock names, and nothing else; without mirrors it is offline: everything must be in the cache already.

    Raises:
        LockError: The lock is of another image or release, or does not name what the definition asks for.
        MirrorError: A mirror does not answer, or no longer has a locked file.
        RefusedInputError: A file is not the locked one.
        BuildError: Something is missing and there is no network.
    """
    definition, cache = load_definition(folder), cache.absolute()
    if (lock.image, lock.image_packages.release) != (definition.id, definition.release):
        message = f"the lock is of {lock.image} on {lock.image_packages.release}, not of {definition.id}"
        raise LockError(f"{message} on {definition.release}").with_hint("`twinhull lock --update` makes a new one")
    offline = mirrors is None
    bases = local_bases(folder) if mirrors is None else archives_of(definition, folder, mirrors).bases
    began = time.monotonic()
    progress.step("tools tree")
    store = store_in(cache)
    fetch_packages(store, lock.tools_packages.packages, bases, progress=progress, offline=offline)
    base = ensure_archive(lock.tools_packages, store, cache=cache)
    tools = ensure_tools_from(base, lock.tools_packages.release, cache=cache, progress=progress)
    seconds = time.monotonic() - began
    _require_asked(lock, asked_packages(folder, definition, tools=tools).lines)
    _require_wheels(lock, _wheels(tools, cache, offline=offline))
    return Supply(
        tools=tools,
        packages=lock.image_packages,
        bases=bases,
        offline=offline,
        cache=cache,
        locked=lock,
        seconds=seconds,
        warnings=missing_updates(lock.image_packages, definition.security, definition.expired_indexes),
    )


def make_lock(folder: Path, *, mirrors: Mirrors, cache: Path, progress: Progress) -> Lock:
    """Lock what the mirrors offer now for the definition in `folder`, tools and the agent's wheels too.

    Raises:
        MirrorError: A mirror does not answer, or it is not signed by Debian.
        BuildError: A package is not there, or they cannot be installed together.
    """
    definition, cache = load_definition(folder), cache.absolute()
    progress.step("tools tree")
    tools = ensure_tools(mirrors, cache=cache, progress=progress)
    progress.step("choose packages")
    packages, asks = _choose(folder, definition, tools, mirrors, cache)
    missing_updates(packages, definition.security, definition.expired_indexes)
    tools_archives = debian_archives(mirrors, TOOLS_RELEASE)
    tools_packages = Resolver(tools, tools_archives, TOOLS_RELEASE, cache).select(("apt", *TOOLS_PACKAGES))
    progress.step("the agent's packages")
    return Lock(FORMAT, definition.id, asks, packages, tools_packages, _wheels(tools, cache, offline=False))


def load_lock(folder: Path) -> Lock:
    """The lock next to a definition.

    Raises:
        LockError: There is none.
        DocumentError: It has errors, or is of another format.
    """
    path = folder / LOCK_FILE
    try:
        return read_lock(path.read_bytes(), source=str(path))
    except FileNotFoundError as error:
        raise LockError(f"{folder} holds no {LOCK_FILE}").with_hint(f"make one: twinhull lock {folder}") from error


def asks_of(folder: Path, *, mirrors: Mirrors, cache: Path, progress: Progress) -> tuple[str, ...]:
    """What the definition in `folder` asks for now, in the form a lock keeps it."""
    tools = ensure_tools(mirrors, cache=cache, progress=progress)
    return asked_packages(folder, load_definition(folder), tools=tools).lines


def missing_asks(lock: Lock, asks: tuple[str, ...]) -> tuple[str, ...]:
    """How a definition differs from its lock: `+` what the lock lacks, `-` what it has in excess."""
    return (
        *(f"+ {line}" for line in asks if line not in lock.definition_asks),
        *(f"- {line}" for line in lock.definition_asks if line not in asks),
    )


def _choose(
    folder: Path, definition: ImageDefinition, tools: ToolsTree, mirrors: Mirrors, cache: Path
) -> tuple[Selection, tuple[str, ...]]:
    # All profiles at once, so that one lock serves each of them.
    asked = asked_packages(folder, definition, tools=tools)
    archives = archives_of(definition, folder, mirrors)
    return Resolver(tools, archives, definition.release, cache).select(*asked.lists), asked.lines


def _require_asked(lock: Lock, asks: tuple[str, ...]) -> None:
    if different := missing_asks(lock, asks):
        message = "the definition requests other packages than its lock was made for:"
        raise LockError("\n".join((message, *different))).with_hint("`twinhull lock --update` makes a new one")


def _wheels(tools: ToolsTree, cache: Path, *, offline: bool) -> tuple[LockedWheel, ...]:
    wheels = agent_wheels(tools, cache, offline=offline)
    return tuple(LockedWheel(path.name, path.stat().st_size, file_sha256(path)) for path in wheels)


def _require_wheels(lock: Lock, found: tuple[LockedWheel, ...]) -> None:
    if found != lock.wheels:
        names = sorted({wheel.file for wheel in set(found) ^ set(lock.wheels)})
        raise RefusedInputError(f"the agent's packages are not the locked ones: {', '.join(names)}").with_hint(
            "the lock belongs to another version of Twinhull; use that one, or `twinhull lock --update`"
        )
