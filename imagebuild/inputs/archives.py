"""The archives a build may take packages from: Debian's, the definition's sources, and its own `.deb` files.

Each has a name, which the lock keeps, and a base URL, which it does not: Debian's comes from this machine's mirrors,
a source's from `image.yaml`.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from imagebuild.definition.image import ImageDefinition
from imagebuild.definition.sources import DEBIAN, LOCAL, SECURITY, ExpiredIndexes, SecurityUpdates
from imagebuild.inputs.mirror import KEYRING, Mirrors

MAIN_ONLY = ("main",)


class Presence(Enum):
    """What it means when a suite is not there.

    REQUIRED: an error.  OPTIONAL: the release has none.  GUESSED: its very place is a guess, which may be wrong.
    That the server gives no answer is an error in any case.
    """

    REQUIRED = "required"
    OPTIONAL = "optional"
    GUESSED = "guessed"


@dataclass(frozen=True)
class AptSuite:
    """One suite of one archive, as apt is given it; without a key it is our own and needs no signature."""

    archive: str
    url: str
    name: str
    components: tuple[str, ...]
    key: Path | None
    presence: Presence = Presence.REQUIRED
    may_be_expired: bool = False

    @property
    def base(self) -> str:
        """The folder of the suite's `InRelease`."""
        return f"{self.url}/{self.name.rstrip('/')}" if self.flat else f"{self.url}/dists/{self.name}"

    @property
    def flat(self) -> bool:
        """Whether its index is next to its `InRelease`, with no components."""
        return self.name.endswith("/")

    @property
    def stanza(self) -> str:
        """The suite in deb822."""
        components = f"Components: {' '.join(self.components)}\n" if self.components else ""
        trust = f"Signed-By: {self.key}\n" if self.key else "Trusted: yes\n"
        expired = "Check-Valid-Until: no\n" if self.may_be_expired else ""
        return f"Types: deb\nURIs: {self.url}\nSuites: {self.name}\n{components}{trust}{expired}"


@dataclass(frozen=True)
class Archives:
    """Everything packages may be chosen from.

    Attributes:
        suites: Debian's first, then the definition's sources in their order.
        listed: The source that brings a package, for those that sources list.
        local: The definition's own packages: the path of each file.
        folder: The definition's folder, if it has any.
    """

    suites: tuple[AptSuite, ...]
    listed: Mapping[str, str]
    local: tuple[str, ...]
    folder: Path | None = None

    @property
    def bases(self) -> Mapping[str, str]:
        """The base URL of each archive by its name."""
        found = {suite.archive: suite.url for suite in self.suites}
        return found | ({LOCAL: f"file:{self.folder}"} if self.folder else {})


def debian_archives(
    mirrors: Mirrors,
    release: str,
    *,
    components: tuple[str, ...] = MAIN_ONLY,
    security: SecurityUpdates = SecurityUpdates.AUTO,
) -> Archives:
    """Debian's own archives of one release."""
    key = Path(KEYRING)
    suites = [
        AptSuite(DEBIAN, mirrors.main, release, components, key),
        AptSuite(DEBIAN, mirrors.main, f"{release}-updates", components, key, Presence.OPTIONAL),
    ]
    if security is not SecurityUpdates.NONE and (place := _security(mirrors)) is not None:
        url, presence = place
        suites.append(AptSuite(SECURITY, url, f"{release}-security", components, key, presence))
    return Archives(tuple(suites), {}, ())


def archives_of(definition: ImageDefinition, folder: Path, mirrors: Mirrors) -> Archives:
    """The archives of an image definition in `folder`."""
    folder = folder.absolute()
    debian = debian_archives(
        mirrors,
        definition.release,
        components=tuple(each.value for each in definition.components),
        security=definition.security,
    )
    suites = (*debian.suites, *_source_suites(definition, folder))
    may_be_expired = definition.expired_indexes is ExpiredIndexes.ACCEPT
    return Archives(
        suites=tuple(replace(suite, may_be_expired=may_be_expired) for suite in suites),
        listed={package: source.name for source in definition.sources for package in source.packages},
        local=definition.local_packages,
        folder=folder,
    )


def local_bases(folder: Path) -> Mapping[str, str]:
    """What can be fetched without a network: the definition's own packages."""
    return {LOCAL: f"file:{folder.absolute()}"}


def apt_sources(suites: Iterable[AptSuite]) -> str:
    """`apt.sources`, whole."""
    return "\n".join(suite.stanza for suite in suites)


def source_of(archive: str) -> str:
    """The source an archive belongs to: all of its URIs, and both of Debian's archives, are one."""
    return DEBIAN if archive == SECURITY else archive.partition(".")[0]


def _security(mirrors: Mirrors) -> tuple[str, Presence] | None:
    """Where security updates are: where something says, else next to the main archive, where many mirrors have them."""
    if mirrors.security is not None:
        return mirrors.security, Presence.OPTIONAL
    if mirrors.main.endswith("/debian"):
        return f"{mirrors.main}-security", Presence.GUESSED
    return None


def _source_suites(definition: ImageDefinition, folder: Path) -> Iterator[AptSuite]:
    for source in definition.sources:
        for archive, url in source.archives:
            for suite in source.suites:
                yield AptSuite(archive, url, suite, source.components, folder / source.signed_by)
