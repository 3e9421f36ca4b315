"""Resolves the packages to install: apt chooses from indexes that Debian or a source's owner signed.

apt (of the tools tree) fetches `InRelease`, checks its signature with Debian's keyring or the source's key, checks
`Packages` against it and chooses; we ask it for names, and take size and SHA-256 from the same indexes.  Before it
chooses, each package is left in the index of one source only (`definition/sources.py` has the rule).
Nothing is downloaded or installed here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from debian.deb822 import Release

from bedrock.digest import bytes_sha256, file_sha256
from bedrock.locks import only_one
from imagebuild.definition.sources import DEBIAN, LOCAL
from imagebuild.errors import BuildError, MirrorError, RefusedInputError
from imagebuild.inputs.apt import Apt, Chosen, Index
from imagebuild.inputs.archives import AptSuite, Archives, apt_sources, source_of
from imagebuild.inputs.deb import local_names, write_local_archive
from imagebuild.inputs.indexes import Row, names_in, owners, rows_of, shown_to_apt
from imagebuild.inputs.keyfile import key_suffix
from imagebuild.inputs.lockfile import LockedPackage, Selection, Suite
from imagebuild.inputs.mirror import KEYRING
from imagebuild.inputs.probe import is_there
from imagebuild.inputs.tools import ToolsTree


def lists_in(cache: Path) -> tuple[Path, ...]:
    """The indexes of packages that were fetched into the cache, whichever mirror and release they are of."""
    return tuple(sorted((cache / "apt").glob("*/lists/*_Packages")))


@dataclass(frozen=True)
class Resolver:
    """Chooses packages of one release from some archives; apt's view of them is kept below the cache.

    Attributes:
        tools: Brings apt.
        archives: Where packages may come from.
        release: The Debian release.
        cache: Twinhull's cache folder.
        debian: The architecture as Debian calls it.
        exists: Whether a suite that may be missing is there.
    """

    tools: ToolsTree
    archives: Archives
    release: str
    cache: Path
    debian: str = "amd64"
    exists: Callable[[AptSuite], bool] = field(default=is_there)

    def select(self, *asked: Sequence[str]) -> Selection:
        """The packages that each list of names installs by itself, in one selection.

        Raises:
            MirrorError: A mirror or a source does not answer, or what Debian's says is not signed by Debian.
            RefusedInputError: A source is not signed by its key, or a package is of different bytes in two sources.
            BuildError: A package is not there, or they cannot be installed together.
        """
        key = (apt_sources(self.archives.suites), self.debian, self.release, *self.archives.local)
        home = self.cache / "apt" / bytes_sha256("\n".join(key).encode())[:16]
        with only_one(home.with_suffix(".lock")):
            home.mkdir(parents=True, exist_ok=True)
            suites = self._suites_in(home)
            apt = Apt(self.tools, home, suites, debian=self.debian)
            apt.prepare()
            apt.update()
            offer = Offer.read(apt, suites, self.archives, debian=self.debian)
            view = apt.narrowed(offer.shown) if offer.several else apt
            chosen = {each for names in asked for each in view.choose(names)}
            packages = sorted(offer.locked(chosen), key=lambda each: each.name)
            stood = tuple(_suite(apt, suite, offer.indexes) for suite in suites if suite.archive != LOCAL)
        wanted = tuple(sorted({name for names in asked for name in names}))
        return Selection(self.release, wanted, stood, tuple(packages))

    def _suites_in(self, home: Path) -> tuple[AptSuite, ...]:
        """The suites that are there, with their keys where apt finds them (writes to the disk)."""
        found = [_with_key(suite, home) for suite in self.archives.suites if self.exists(suite)]
        if self.archives.local and self.archives.folder is not None:
            place = home / "local"
            shutil.rmtree(place, ignore_errors=True)
            write_local_archive(self.archives.folder, self.archives.local, place)
            found.append(AptSuite(LOCAL, f"file:{place}", "./", (), None))
        return tuple(found)


@dataclass(frozen=True)
class Offer:
    """What all archives together offer, and which of them brings a package."""

    indexes: tuple[Index, ...]
    contents: Mapping[Path, bytes]
    owner: Mapping[str, str]
    listed: Mapping[str, str]

    @classmethod
    def read(cls, apt: Apt, suites: Sequence[AptSuite], archives: Archives, *, debian: str) -> Offer:
        """Read the indexes that apt fetched.

        Raises:
            BuildError: A source lacks a component, or a package that it lists.
        """
        indexes = apt.indexes()
        for suite in (each for each in suites if each.archive != LOCAL):
            _require_components(suite, Release(apt.signed(suite).read_bytes()), debian)
        contents = {index.file: index.file.read_bytes() for index in indexes}
        offered = [(source_of(index.suite.archive), names_in(contents[index.file])) for index in indexes]
        local = local_names(archives.folder, archives.local, debian=debian).values() if archives.folder else ()
        return cls(indexes, contents, owners(offered, listed=archives.listed, local=tuple(local)), archives.listed)

    @property
    def several(self) -> bool:
        """Whether more than Debian offers something."""
        return any(source_of(index.suite.archive) != DEBIAN for index in self.indexes)

    @property
    def shown(self) -> Mapping[Path, bytes]:
        """The indexes as apt is to see them."""
        return {
            index.file: shown_to_apt(self.contents[index.file], source_of(index.suite.archive), self.owner)
            for index in self.indexes
        }

    def locked(self, chosen: Collection[Chosen]) -> Iterator[LockedPackage]:
        """The chosen packages as the signed indexes describe them.

        Raises:
            RefusedInputError: Another source has one with different bytes.
            MirrorError: No index describes one.
        """
        names = {each.name for each in chosen}
        table: dict[tuple[str, str, str], list[tuple[Index, Row]]] = {}
        for index in self.indexes:
            for row in rows_of(self.contents[index.file], names):
                table.setdefault((row.name, row.version, row.architecture), []).append((index, row))
        for each in chosen:
            found = table.get((each.name, each.version, each.architecture), [])
            self._require_same(each, found)
            yield self._locked(each, found)

    def _locked(self, chosen: Chosen, found: Sequence[tuple[Index, Row]]) -> LockedPackage:
        for index, row in found:
            base = f"{index.suite.url}/"
            if source_of(index.suite.archive) != self.owner[chosen.name] or not chosen.url.startswith(base):
                continue
            if row.sha256 is None:
                raise MirrorError(f"the index of {index.suite.name} names no SHA-256 of {chosen.name}")
            return LockedPackage(
                name=row.name,
                version=row.version,
                architecture=row.architecture,
                archive=index.suite.archive,
                path=_tidy(unquote(chosen.url.removeprefix(base))),
                size_bytes=row.size_bytes,
                sha256=row.sha256,
            )
        raise MirrorError(f"no index describes {chosen.name} {chosen.version}, which apt chose")

    def _require_same(self, chosen: Chosen, found: Sequence[tuple[Index, Row]]) -> None:
        """Two files of one name and version are an error, unless the definition says which one it wants."""
        if chosen.name in self.listed or self.owner.get(chosen.name) == LOCAL:
            return
        by_hash = {row.sha256: source_of(index.suite.archive) for index, row in found}
        if len(by_hash) > 1:
            lines = [f"  {source}: SHA-256 {digest}" for digest, source in by_hash.items()]
            what = f"{chosen.name} {chosen.version} ({chosen.architecture}) is of different bytes in two sources:"
            raise RefusedInputError("\n".join((what, *lines))).with_hint(
                f"list {chosen.name} under packages: of the source that is to bring it"
            )


def _with_key(suite: AptSuite, home: Path) -> AptSuite:
    """The suite with its key where apt finds it, under a name by which apt knows its form (writes to the disk)."""
    if suite.key is None or suite.key == Path(KEYRING):
        return suite
    content = suite.key.read_bytes()
    source = source_of(suite.archive)
    target = home / "keys" / f"{source}{key_suffix(content, source=source, file=str(suite.key))}"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)
    return replace(suite, key=target)


def _require_components(suite: AptSuite, signed: Release, debian: str) -> None:
    """Fail when a suite lacks a component, which apt would pass over."""
    named = {row["name"] for row in signed.get("SHA256", ())}
    lacking = [
        component
        for component in suite.components
        if not {f"{component}/binary-{each}/Packages" for each in (debian, "all")} & named
    ]
    if lacking:
        words = f"the suite {suite.name} of {source_of(suite.archive)} has no component {', '.join(lacking)}"
        raise BuildError(f"{words} for {debian}").with_hint(f"it has: {signed.get('Components', 'none')}")


def _suite(apt: Apt, suite: AptSuite, indexes: Sequence[Index]) -> Suite:
    raw = apt.signed(suite).read_bytes()
    release = Release(raw)
    named = {row["name"]: row["sha256"] for row in release.get("SHA256", ())}
    fetched = {index.path: file_sha256(index.file) for index in indexes if index.suite == suite}
    for path, found in fetched.items():
        if named.get(path) != found:
            raise MirrorError(f"{path} of {suite.name} is not what its InRelease names")
    return Suite(
        archive=suite.archive,
        name=suite.name,
        label=release.get("Suite", ""),
        origin=release.get("Origin", ""),
        date=release.get("Date", ""),
        signed_by=apt.signers(suite),
        inrelease_sha256=bytes_sha256(raw),
        indexes=fetched,
    )


def _tidy(path: str) -> str:
    """A path below a base without the `./` of flat repositories."""
    return PurePosixPath(path).as_posix()
