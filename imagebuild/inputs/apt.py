"""apt from the tools tree, with an empty package database: the build host's packages and settings have no influence.

Everything is below one folder of the cache.  apt fetches the indexes and checks who signed them; `indexes.py` decides
which parts of them apt sees when it chooses.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from bedrock.errors import ProcessError
from imagebuild.diagnosis import explain
from imagebuild.errors import ImageBuildError, MirrorError, RefusedInputError
from imagebuild.inputs.archives import AptSuite, apt_sources, source_of
from imagebuild.inputs.mirror import KEYRING
from imagebuild.inputs.tools import Access, ToolsTree

# The packages that mkosi and mmdebstrap install first.
ESSENTIAL = ("?essential", "base-files")
_TIMEOUT_S = 600
_CHOSEN = re.compile(r"^'(?P<url>[^']+)' (?P<file>\S+) (?P<size>[0-9]+)( |$)", re.MULTILINE)
_UNTRUSTED = re.compile(r"is not signed|NO_PUBKEY|BADSIG|GPG error|invalid signature|verification failed|expired")
_FORMAT = "$(FILENAME)|$(BASE_URI)|$(METAKEY)"
# The characters apt quotes in the names of its lists (apt-pkg/contrib/strutl.cc, URItoFileName).
_QUOTED = frozenset('\\|{}[]<>"^~_=!@#$%&*')
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


@dataclass(frozen=True)
class Chosen:
    """A package that apt chose, and the URL it would fetch."""

    name: str
    version: str
    architecture: str
    url: str


@dataclass(frozen=True)
class Index:
    """An index of packages as apt fetched it: of which suite, its path as `InRelease` names it, and the file."""

    suite: AptSuite
    path: str
    file: Path


class Apt:
    """apt on some suites, kept below `home`; indexes are fetched when they changed."""

    def __init__(self, tools: ToolsTree, home: Path, suites: Sequence[AptSuite], *, debian: str) -> None:
        self._tools = tools
        self._home = home
        self._suites = tuple(suites)
        self._architecture = debian

    def prepare(self) -> None:
        """Write apt's configuration (to the disk)."""
        for name in ("lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
            (self._home / name).mkdir(parents=True, exist_ok=True)
        (self._home / "etc/sources.list").write_text("")
        folder = self._home / "etc/sources.list.d"
        folder.mkdir(exist_ok=True)
        (folder / "image.sources").write_text(apt_sources(self._suites))
        (self._home / "status").write_text("")
        settings = _SETTINGS.format(home=self._home, architecture=self._architecture)
        (self._home / "apt.conf").write_text(settings)

    def update(self) -> None:
        """Fetch the indexes, and have their signatures checked.

        Raises:
            MirrorError: A mirror or a source does not answer.
            RefusedInputError: A source's signature does not verify.
        """
        try:
            self._run("apt-get", "update")
        except ProcessError as error:
            # A fetch may be incomplete; the next run starts clean.
            shutil.rmtree(self._home / "lists", ignore_errors=True)
            raise self._update_error(error) from error

    def indexes(self) -> tuple[Index, ...]:
        """The indexes that were fetched; of an empty one there is no file."""
        text = self._run("apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages")
        by_base = {_without_dots(suite.base): suite for suite in self._suites}
        found = []
        for line in text.splitlines():
            file, base, path = line.split("|")
            if Path(file).is_file():
                found.append(Index(by_base[_without_dots(base)], path, Path(file)))
        return tuple(found)

    def signed(self, suite: AptSuite) -> Path:
        """The suite's `InRelease`, as it was fetched and checked.

        Raises:
            MirrorError: It has none.
        """
        path = self._home / "lists" / list_name(f"{suite.base}/InRelease")
        if not path.is_file():
            error = MirrorError(f"{_named(suite)} publishes no InRelease, only the older Release and Release.gpg")
            error.add_note("ask its owner for one; apt-ftparchive, reprepro and aptly all write it")
            raise error
        return path

    def signers(self, suite: AptSuite) -> tuple[str, ...]:
        """Fingerprints of the keys whose signatures of the suite verify.

        Raises:
            ProcessError: None does.
        """
        signed, output = self.signed(suite), self._home / "signed-text"
        output.unlink(missing_ok=True)
        done = self._run("sqv", "--keyring", str(suite.key), "--output", str(output), "--cleartext", str(signed))
        output.unlink(missing_ok=True)
        return tuple(sorted(set(re.findall(r"^[0-9A-F]{40,64}$", done, re.MULTILINE))))

    def narrowed(self, contents: Mapping[Path, bytes]) -> Apt:
        """The same apt, shown other indexes in place of those that were fetched; nothing is fetched again."""
        home = self._home / "view"
        shutil.rmtree(home, ignore_errors=True)
        view = Apt(self._tools, home, self._suites, debian=self._architecture)
        view.prepare()
        for path in (self._home / "lists").iterdir():
            if path in contents:
                (home / "lists" / path.name).write_bytes(contents[path])
            elif path.is_file():
                shutil.copyfile(path, home / "lists" / path.name)
        return view

    def choose(self, names: Sequence[str]) -> tuple[Chosen, ...]:
        """All packages that these names, and every system, need.

        Raises:
            BuildError: A package does not exist, or they cannot be installed together.
        """
        try:
            text = self._run("apt-get", "--print-uris", "install", *ESSENTIAL, *names)
        except ProcessError as error:
            raise explain("the packages could not be chosen", error) from error
        return tuple(_chosen(match) for match in _CHOSEN.finditer(text))

    def _run(self, *words: str) -> str:
        read = [Path(re.sub(r"^(file|copy):/*", "/", suite.url)) for suite in self._suites if suite.url[0] in "fc"]
        # The view of a narrowed apt is below the home of the one it was made of.
        places = tuple(path for path in dict.fromkeys(read) if not path.is_relative_to(self._home))
        access = Access(write=(self._home,), network=True, read=places)
        env = {"APT_CONFIG": str(self._home / "apt.conf")}
        return self._tools.run(words, access, timeout_s=_TIMEOUT_S, env=env).stdout

    def _update_error(self, error: ProcessError) -> ImageBuildError:
        lines = [line.strip() for line in error.tail.splitlines()]
        for line in lines:
            if _UNTRUSTED.search(line):
                return self._refusal(line)
        blamed = next((suite for line in lines if line.startswith("E:") and (suite := self._blamed(line))), None)
        failed = explain(f"the indexes of {_named(blamed)} could not be read", error)
        if not isinstance(failed, MirrorError):
            failed = MirrorError(str(failed))
        if blamed is None or blamed.key == Path(KEYRING):
            failed.add_note("set mirror: in image.yaml, or TWINHULL_MIRROR, to one that this machine reaches")
        else:
            failed.add_note("look at its uris: and suites: in image.yaml, and whether this machine reaches them")
        return failed

    def _refusal(self, line: str) -> ImageBuildError:
        suite = self._blamed(line)
        if "is expired" in line:
            return RefusedInputError(f"the indexes of {_named(suite)} are out of date: {line}").with_hint(
                "use a mirror that follows its archive; for one that is frozen on purpose (a snapshot), "
                "`expired_indexes: accept` in image.yaml builds without the updates it lacks"
            )
        if suite is None or suite.key == Path(KEYRING):
            refused = MirrorError(f"the mirror's indexes are refused: {line}")
            refused.add_note(f"they must be signed by a key of {KEYRING} and not be out of date")
            return refused
        return RefusedInputError(f"the indexes of {_named(suite)} are refused: {line}").with_hint(
            "they must be signed by the key that signed_by: in image.yaml names, and not be out of date"
        )

    def _blamed(self, line: str) -> AptSuite | None:
        """The suite that a line of apt's output is about: the one with the longest URL in it."""
        found = [suite for suite in self._suites if suite.url in line and suite.name.strip("./") in line]
        return max(found, key=lambda suite: len(suite.base), default=None)


def list_name(url: str) -> str:
    """The name that apt gives a file fetched from there, in its folder of lists."""
    bare = re.sub(r"^[a-z]+:/*", "" if url.startswith("http") else "/", url)
    return "".join(f"%{ord(sign):02x}" if sign in _QUOTED else sign for sign in bare).replace("/", "_")


def _chosen(match: re.Match[str]) -> Chosen:
    name, version, rest = match["file"].split("_", 2)
    return Chosen(name, unquote(version), rest.removesuffix(".deb"), match["url"])


def _named(suite: AptSuite | None) -> str:
    if suite is None or suite.key == Path(KEYRING):
        return "the mirror"
    return f"the source {source_of(suite.archive)} ({suite.name})"


def _without_dots(url: str) -> str:
    """A URL with no empty or `.` part at its end: apt writes flat repositories in more than one way."""
    return re.sub(r"(/\.?)+$", "", url)
