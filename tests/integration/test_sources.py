"""apt on repositories that the test makes and signs itself: one plays Debian, one a third party."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from bedrock.progress import Silent
from imagebuild.definition.sources import DEBIAN, LOCAL
from imagebuild.errors import BuildError, MirrorError, RefusedInputError
from imagebuild.inputs.archive import ensure_archive
from imagebuild.inputs.archives import AptSuite, Archives, Presence
from imagebuild.inputs.lockfile import LockedPackage, Selection
from imagebuild.inputs.resolve import Resolver
from imagebuild.inputs.store import Store, fetch_packages
from imagebuild.inputs.tools import ToolsTree
from tests.fakes.debian_packages import deb
from tests.fakes.http_server import Site, serving
from tests.fakes.signed_repository import RepositoryOnDisk, SigningKey, signing_key, write_repository

BASE = {
    "base-files_1_amd64.deb": deb("base-files", depends="base-libs"),
    "base-libs_1_amd64.deb": deb("base-libs", depends="base-files"),
    "jq_1.7_amd64.deb": deb("jq", "1.7", depends="base-libs"),
}
TOOLS = {
    "probe_2.0-1_amd64.deb": deb("probe", "2.0-1", {"/usr/bin/probe": b"#!/bin/sh\n"}, depends="base-libs, probe-data"),
    "probe-data_2.0-1_amd64.deb": deb("probe-data", "2.0-1", depends="base-libs"),
}


@pytest.fixture(scope="module")
def keys(tools: ToolsTree) -> Iterator[tuple[SigningKey, SigningKey, SigningKey]]:
    with ExitStack() as stack:
        names = ("debian", "owner", "stranger")
        first, second, third = (stack.enter_context(signing_key(tools, name)) for name in names)
        yield first, second, third


@dataclass
class World:
    """Two servers and a definition's folder."""

    folder: Path
    tools: ToolsTree
    debian: RepositoryOnDisk
    third: RepositoryOnDisk
    debian_site: Site
    third_site: Site
    listed: dict[str, str] = field(default_factory=dict)
    local: tuple[str, ...] = ()
    suite: str = "stable"
    components: tuple[str, ...] = ("main",)

    @property
    def definition(self) -> Path:
        return self.folder / "definition"

    @property
    def archives(self) -> Archives:
        own, theirs = self.definition / "debian.asc", self.definition / "tools.key"
        return Archives(
            suites=(
                AptSuite(DEBIAN, self.debian_site.url, "trixie", ("main",), own),
                AptSuite(DEBIAN, self.debian_site.url, "trixie-updates", ("main",), own, Presence.OPTIONAL),
                AptSuite("tools", self.third_site.url, self.suite, self.components, theirs),
            ),
            listed=self.listed,
            local=self.local,
            folder=self.definition,
        )

    def serve(self) -> None:
        self.debian_site.files = self.debian.files(self.folder)
        self.third_site.files = (
            self.third.flat_files(self.folder) if self.suite == "./" else self.third.files(self.folder)
        )

    def offer(self, **debs: bytes) -> None:
        """Let the third party have more packages."""
        named = {f"{name.replace('__', '-')}_amd64.deb": content for name, content in debs.items()}
        self.third = replace(self.third, debs={**self.third.debs, **named})
        self.serve()

    def select(self, *names: str) -> Selection:
        return Resolver(self.tools, self.archives, "trixie", self.folder / "cache").select(names)

    def chosen(self, *names: str) -> dict[str, LockedPackage]:
        return {package.name: package for package in self.select(*names).packages}


@pytest.fixture
def world(tools: ToolsTree, tmp_path: Path, keys: tuple[SigningKey, SigningKey, SigningKey]) -> Iterator[World]:
    debian = RepositoryOnDisk(keys[0], BASE, suite="trixie", origin="Debian", extra={"base-libs": ("Essential: yes",)})
    (tmp_path / "definition").mkdir()
    (tmp_path / "definition/debian.asc").write_bytes(keys[0].armored)
    (tmp_path / "definition/tools.key").write_bytes(keys[1].armored)
    with serving(Site()) as one, serving(Site()) as two:
        made = World(tmp_path, tools, debian, RepositoryOnDisk(keys[1], TOOLS), one, two)
        made.serve()
        yield made


def test_a_package_of_a_third_party_is_chosen_locked_and_fetched(
    world: World, keys: tuple[SigningKey, SigningKey, SigningKey]
) -> None:
    selection = world.select("probe", "jq")
    found = {package.name: (package.archive, package.path) for package in selection.packages}
    assert found["probe"] == ("tools", "pool/main/probe_2.0-1_amd64.deb")
    assert {name for name, (archive, _) in found.items() if archive == DEBIAN} == {"base-files", "base-libs", "jq"}
    suites = {(suite.archive, suite.name): suite for suite in selection.suites}
    assert suites.keys() == {(DEBIAN, "trixie"), ("tools", "stable")}
    assert suites["tools", "stable"].signed_by == (keys[1].fingerprint,)
    assert list(suites["tools", "stable"].indexes) == ["main/binary-amd64/Packages"]
    store = Store(world.folder / "files")
    fetch_packages(store, selection.packages, world.archives.bases, progress=Silent(), offline=False)
    index = (
        ensure_archive(selection, store, cache=world.folder) / "dists/trixie/main/binary-amd64/Packages"
    ).read_text()
    assert "Package: probe\n" in index


def test_a_binary_key_does_as_well(world: World, keys: tuple[SigningKey, SigningKey, SigningKey]) -> None:
    (world.definition / "tools.key").write_bytes(keys[1].binary)
    assert "probe" in world.chosen("probe")


def test_a_flat_repository_works(world: World) -> None:
    world.suite, world.components = "./", ()
    world.serve()
    found = world.chosen("probe")["probe"]
    assert (found.archive, found.path) == ("tools", "probe_2.0-1_amd64.deb")
    store = Store(world.folder / "files")
    fetch_packages(store, [found], world.archives.bases, progress=Silent(), offline=False)


def test_a_repository_of_files_works(world: World) -> None:
    write_repository(world.folder / "mirror", world.third_site.files)
    world.third_site.url = f"file:{world.folder / 'mirror'}"
    assert world.chosen("probe")["probe"].archive == "tools"


def test_a_higher_version_of_a_third_party_does_not_replace_debians(world: World) -> None:
    world.offer(jq_99=deb("jq", "99", depends="base-libs"))
    assert (world.chosen("jq", "probe")["jq"].archive, world.chosen("jq")["jq"].version) == (DEBIAN, "1.7")


def test_a_third_party_cannot_pass_itself_off_as_debian(world: World) -> None:
    world.third = replace(world.third, origin="Debian")
    world.offer(jq_99=deb("jq", "99", depends="base-libs"))
    assert world.chosen("jq", "probe")["jq"].archive == DEBIAN


def test_nothing_of_a_third_party_is_installed_because_it_calls_itself_essential(world: World) -> None:
    world.third = replace(world.third, extra={"spy": ("Essential: yes", "Important: yes")})
    world.offer(spy_1=deb("spy", "1", depends="base-libs"))
    assert "spy" not in world.chosen("probe")


def test_a_listed_package_comes_from_its_source(world: World) -> None:
    world.offer(jq_1=deb("jq", "1.0", depends="base-libs"))
    world.listed["jq"] = "tools"
    found = world.chosen("jq")["jq"]
    assert (found.archive, found.version) == ("tools", "1.0")


def test_one_version_of_different_bytes_in_two_sources_is_refused_until_one_is_named(world: World) -> None:
    world.offer(jq_17=deb("jq", "1.7", {"/usr/bin/jq": b"other"}, depends="base-libs"))
    with pytest.raises(RefusedInputError, match=r"jq 1\.7 \(amd64\) is of different bytes in two sources") as caught:
        world.select("jq")
    assert "list jq under packages:" in caught.value.hints[0]
    world.listed["jq"] = "tools"
    assert world.chosen("jq")["jq"].archive == "tools"


def test_the_definitions_own_package_is_chosen_with_what_it_needs(world: World) -> None:
    (world.definition / "debs").mkdir()
    content = deb("jq", "0.1+own", depends="probe")
    (world.definition / "debs/jq_own.deb").write_bytes(content)
    world.local = ("debs/jq_own.deb",)
    selection = world.select("jq")
    found = {package.name: package for package in selection.packages}
    assert (found["jq"].archive, found["jq"].path, found["jq"].version) == (LOCAL, "debs/jq_own.deb", "0.1+own")
    assert found["probe-data"].archive == "tools"
    assert LOCAL not in {suite.archive for suite in selection.suites}
    store = Store(world.folder / "files")
    fetch_packages(store, selection.packages, world.archives.bases, progress=Silent(), offline=False)
    assert store.path(found["jq"].sha256).read_bytes() == content


@pytest.mark.parametrize("content", [b"not a package", deb("jq")[:200]])
def test_an_own_file_that_is_no_package_is_refused_by_its_name(world: World, content: bytes) -> None:
    (world.definition / "jq_own.deb").write_bytes(content)
    world.local = ("jq_own.deb",)
    with pytest.raises(RefusedInputError, match=r"jq_own\.deb is not a Debian package"):
        world.select("jq")


def test_an_altered_signature_is_refused_and_leaves_nothing_behind(world: World) -> None:
    path = "/dists/stable/InRelease"
    right = world.third_site.files[path]
    world.third_site.files[path] = right.replace(b"Origin: Example", b"Origin: Exbmple", 1)
    for _ in range(2):
        with pytest.raises(RefusedInputError, match=r"the source tools \(stable\) are refused") as caught:
            world.select("probe")
        assert "signed_by" in caught.value.hints[0]
    world.third_site.files[path] = right
    assert "probe" in world.chosen("probe")


def test_a_repository_signed_by_another_key_is_refused(
    world: World, keys: tuple[SigningKey, SigningKey, SigningKey]
) -> None:
    (world.definition / "tools.key").write_bytes(keys[2].armored)
    with pytest.raises(RefusedInputError, match=r"the source tools \(stable\) are refused"):
        world.select("probe")


def test_debians_key_does_not_open_a_third_partys_repository_nor_the_reverse(
    world: World, keys: tuple[SigningKey, SigningKey, SigningKey]
) -> None:
    world.third = replace(world.third, key=keys[0])
    world.serve()
    with pytest.raises(RefusedInputError, match=r"the source tools \(stable\) are refused"):
        world.select("probe")
    world.third = replace(world.third, key=keys[1])
    world.debian = replace(world.debian, key=keys[1])
    world.serve()
    with pytest.raises((RefusedInputError, MirrorError), match="refused"):
        world.select("probe")


def test_an_unsigned_repository_is_refused(world: World) -> None:
    path = "/dists/stable/InRelease"
    text = world.third_site.files[path].decode()
    world.third_site.files[path] = text.partition("\n\n")[2].partition("-----BEGIN PGP SIGNATURE")[0].encode()
    with pytest.raises((RefusedInputError, MirrorError), match="source tools"):
        world.select("probe")


def test_indexes_that_are_out_of_date_are_refused_and_accepted_only_when_asked(world: World) -> None:
    world.third = replace(world.third, valid_for=timedelta(days=-3))
    world.serve()
    with pytest.raises(RefusedInputError, match=r"source tools \(stable\) are out of date") as caught:
        world.select("probe")
    assert "expired_indexes: accept" in caught.value.hints[0]
    lenient = replace(
        world.archives, suites=tuple(replace(suite, may_be_expired=True) for suite in world.archives.suites)
    )
    found = Resolver(world.tools, lenient, "trixie", world.folder / "cache").select(("probe",))
    assert "probe" in found.asked


@pytest.mark.parametrize(
    ("content", "said"), [(b"<html>not found</html>", "is not an OpenPGP public key"), (b"", "is not an OpenPGP")]
)
def test_a_file_that_is_no_key_is_refused(world: World, content: bytes, said: str) -> None:
    (world.definition / "tools.key").write_bytes(content)
    with pytest.raises(RefusedInputError, match=said):
        world.select("probe")


def test_a_private_key_is_refused(world: World, keys: tuple[SigningKey, SigningKey, SigningKey]) -> None:
    (world.definition / "tools.key").write_bytes(keys[1].private)
    with pytest.raises(RefusedInputError, match="private key"):
        world.select("probe")


def test_a_component_or_a_suite_that_a_source_lacks_is_named(world: World) -> None:
    world.components = ("main", "extras")
    with pytest.raises(BuildError, match="the suite stable of tools has no component extras") as caught:
        world.select("probe")
    assert caught.value.hints == ("it has: main",)
    world.components, world.suite = ("main",), "testing"
    with pytest.raises(MirrorError, match=r"the source tools \(testing\)"):
        world.select("probe")


def test_a_source_that_does_not_answer_is_named(world: World) -> None:
    world.third_site.url = "http://127.0.0.1:9"
    with pytest.raises(MirrorError, match=r"the source tools \(stable\)") as caught:
        world.select("probe")
    assert any("uris:" in hint for hint in caught.value.hints)


def test_an_altered_package_is_refused_when_it_is_fetched(world: World) -> None:
    selection = world.select("probe")
    path = "/pool/main/probe_2.0-1_amd64.deb"
    content = world.third_site.files[path]
    world.third_site.files[path] = content[:-1] + bytes([content[-1] ^ 1])
    store = Store(world.folder / "files")
    with pytest.raises(RefusedInputError, match=r"probe 2\.0-1 has the SHA-256"):
        fetch_packages(store, selection.packages, world.archives.bases, progress=Silent(), offline=False)
    assert store.missing([package for package in selection.packages if package.name == "probe"])
    world.third_site.files[path] = content
    fetch_packages(store, selection.packages, world.archives.bases, progress=Silent(), offline=False)


def test_an_index_that_the_signature_does_not_name_is_refused(world: World) -> None:
    for name in ("Packages", "Packages.xz"):
        path = f"/dists/stable/main/binary-amd64/{name}"
        world.third_site.files[path] = world.debian_site.files[f"/dists/trixie/main/binary-amd64/{name}"]
    with pytest.raises(MirrorError, match="source tools"):
        world.select("probe")


def test_a_suite_without_packages_is_no_error(world: World) -> None:
    empty = replace(world.debian, debs={}, suite="trixie-updates").files(world.folder)
    world.debian_site.files |= empty
    selection = world.select("jq")
    assert [(suite.name, list(suite.indexes)) for suite in selection.suites if suite.archive == DEBIAN] == [
        ("trixie", ["main/binary-amd64/Packages"]),
        ("trixie-updates", []),
    ]
