"""Which packages are installed: apt's answer, from indexes that Debian signed.

apt (of the tools tree) fetches `InRelease`, checks its signature with Debian's keyring, checks `Packages` against it
and chooses; we ask it for names, and take size and SHA-256 from the same indexes.  Nothing is downloaded or installed
here.  apt's view is empty: the build host's own packages and settings have no part in it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from debian.deb822 import Deb822, Release

from bedrock.digest import file_sha256
from bedrock.errors import ProcessError
from bedrock.locks import only_one
from imagebuild.diagnosis import explain
from imagebuild.errors import ImageBuildError, MirrorError
from imagebuild.inputs.lockfile import Archive, LockedPackage, Selection, Suite
from imagebuild.inputs.mirror import KEYRING, Mirrors, apt_sources
from imagebuild.inputs.tools import Access, ToolsTree

# What mkosi and mmdebstrap install first of all.
ESSENTIAL = ("?essential", "base-files")
_TIMEOUT_S = 600
_CHOSEN = re.compile(r"^'(?P<url>[^']+)' (?P<file>\S+) (?P<size>[0-9]+)( |$)", re.MULTILINE)
_UNTRUSTED = re.compile(r"is not signed|NO_PUBKEY|BADSIG|GPG error|invalid signature|verification failed|expired")
_SETTINGS = """\
Dir::Etc "{home}/etc";
Dir::Etc::trusted "/nonexistent";
Dir::State "{home}";
Dir::State::lists "{home}/lists";
Dir::State::status "{home}/status";
Dir::Cache "{home}/cache";
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Get::Assume-Yes "true";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Debug::NoLocking "true";
pkgCacheGen::ForceEssential ",";
"""


def lists_in(cache: Path) -> tuple[Path, ...]:
    """The indexes of packages that were fetched into the cache, whichever mirror and release they are of."""
    return tuple(sorted((cache / "apt").glob("*/lists/*_Packages")))


class Resolver:
    """apt's view of one release on one pair of mirrors, kept below the cache; indexes are fetched when they changed."""

    def __init__(self, tools: ToolsTree, mirrors: Mirrors, release: str, *, cache: Path, debian: str = "amd64") -> None:
        self._tools = tools
        self._mirrors = mirrors
        self._release = release
        self._architecture = debian
        name = hashlib.sha256("\n".join((apt_sources(mirrors, release), debian)).encode()).hexdigest()[:16]
        self._home = cache / "apt" / name
        self._lock = cache / "apt" / f"{name}.lock"

    def select(self, *asked: Sequence[str]) -> Selection:
        """The packages that each list of names installs by itself, in one selection.

        Raises:
            MirrorError: The mirror does not answer, or what it says is not signed by Debian.
            BuildError: A package is not there, or they cannot be installed together.
        """
        with only_one(self._lock):
            self._prepare()
            self._update()
            files: dict[str, Archive] = {}
            for names in asked:
                files |= dict(self._chosen(names))
            packages = self._described(files)
            suites = tuple(self._suites())
        wanted = tuple(sorted({name for names in asked for name in names}))
        return Selection(self._release, wanted, suites, tuple(sorted(packages, key=lambda each: each.name)))

    def _prepare(self) -> None:
        for name in ("lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
            (self._home / name).mkdir(parents=True, exist_ok=True)
        (self._home / "etc/sources.list").write_text("")
        folder = self._home / "etc/sources.list.d"
        folder.mkdir(exist_ok=True)
        (folder / "debian.sources").write_text(apt_sources(self._mirrors, self._release))
        (self._home / "status").write_text("")
        settings = _SETTINGS.format(home=self._home, architecture=self._architecture)
        (self._home / "apt.conf").write_text(settings)

    def _update(self) -> None:
        try:
            self._apt("apt-get", "update")
        except ProcessError as error:
            # What was fetched may be half of something; the next run starts clean.
            shutil.rmtree(self._home / "lists", ignore_errors=True)
            raise self._update_error(error) from error

    def _update_error(self, error: ProcessError) -> ImageBuildError:
        if _UNTRUSTED.search(error.tail):
            found = next(line for line in error.tail.splitlines() if _UNTRUSTED.search(line))
            refused = MirrorError(f"the mirror's indexes are refused: {found.strip()}")
            refused.add_note(f"they must be signed by a key of {KEYRING} and not be out of date")
            return refused
        failed = explain("the mirror's indexes could not be read", error)
        if not isinstance(failed, MirrorError):
            failed = MirrorError(str(failed))
        failed.add_note("set mirror: in image.yaml, or TWINHULL_MIRROR, to one that this machine reaches")
        return failed

    def _chosen(self, names: Sequence[str]) -> Iterator[tuple[str, Archive]]:
        try:
            text = self._apt("apt-get", "--print-uris", "install", *ESSENTIAL, *names)
        except ProcessError as error:
            raise explain("the packages could not be chosen", error) from error
        for match in _CHOSEN.finditer(text):
            yield self._place(match["url"])

    def _place(self, url: str) -> tuple[str, Archive]:
        bases = ((self._mirrors.security, Archive.SECURITY), (self._mirrors.main, Archive.MAIN))
        for base, archive in bases:
            if base is not None and url.startswith(f"{base}/"):
                return unquote(url.removeprefix(f"{base}/")), archive
        raise MirrorError(f"apt chose {url}, which lies on no mirror it was given")

    def _described(self, files: Mapping[str, Archive]) -> Iterator[LockedPackage]:
        """The chosen files as the signed indexes describe them."""
        # A file's name carries no epoch, so all versions of each package are looked at, and the path decides.
        names = sorted({path.rpartition("/")[2].partition("_")[0] for path in files})
        missing = set(files)
        for row in _paragraphs(self._apt("apt-cache", "show", *names) if names else ""):
            path = row["Filename"]
            if path in missing:
                missing.remove(path)
                yield LockedPackage(
                    name=row["Package"],
                    version=row["Version"],
                    architecture=row["Architecture"],
                    archive=files[path],
                    path=path,
                    size_bytes=int(row["Size"]),
                    sha256=row["SHA256"],
                )
        if missing:
            raise MirrorError(f"the mirror's indexes do not describe {', '.join(sorted(missing))}")

    def _suites(self) -> Iterator[Suite]:
        for url, name in self._mirrors.sources(self._release):
            stem = re.sub(r"^[a-z]+:/*", "", f"{url}/dists/{name}").replace("/", "_")
            signed = (self._home / "lists" / f"{stem}_InRelease").read_bytes()
            index = self._home / "lists" / f"{stem}_main_binary-{self._architecture}_Packages"
            yield self._suite(name, url, signed, index)

    def _suite(self, name: str, url: str, signed: bytes, index: Path) -> Suite:
        release = Release(signed)
        path = f"main/binary-{self._architecture}/Packages"
        named = next((row["sha256"] for row in release["SHA256"] if row["name"] == path), None)
        found = file_sha256(index)
        if named != found:
            raise MirrorError(f"{path} of {name} is not what its InRelease names")
        return Suite(
            archive=Archive.SECURITY if url == self._mirrors.security else Archive.MAIN,
            name=name,
            origin=release.get("Origin", ""),
            date=release.get("Date", ""),
            inrelease_sha256=hashlib.sha256(signed).hexdigest(),
            packages_sha256=found,
        )

    def _apt(self, *words: str) -> str:
        access = Access(write=(self._home,), network=True, read=self._local_mirrors())
        env = {"APT_CONFIG": str(self._home / "apt.conf")}
        return self._tools.run(words, access, timeout_s=_TIMEOUT_S, env=env).stdout

    def _local_mirrors(self) -> tuple[Path, ...]:
        urls = (self._mirrors.main, self._mirrors.security)
        return tuple(Path(re.sub(r"^(file|copy):/*", "/", url)) for url in urls if url and url[0] in "fc")


def _paragraphs(text: str) -> Iterator[Deb822]:
    return Deb822.iter_paragraphs(text, use_apt_pkg=False)
