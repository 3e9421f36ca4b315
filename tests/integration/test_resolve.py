"""apt itself on Debian's own signed indexes, served on loopback: right, altered, put together wrongly, or gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from imagebuild.errors import BuildError, MirrorError
from imagebuild.inputs.archives import debian_archives
from imagebuild.inputs.mirror import Mirrors, find_mirrors
from imagebuild.inputs.resolve import Resolver
from imagebuild.inputs.tools import ToolsTree
from tests.fakes.http_server import Site, serving

RELEASE = "trixie"


@pytest.fixture(scope="module")
def indexes() -> dict[str, bytes]:
    """The signed indexes of the release, as this machine's mirror serves them."""
    base = find_mirrors().main
    found = {}
    for suite in (RELEASE, f"{RELEASE}-updates"):
        for name in ("InRelease", "main/binary-amd64/Packages.xz"):
            answer = urllib3.request("GET", f"{base}/dists/{suite}/{name}", timeout=60)
            assert answer.status == 200
            found[f"/dists/{suite}/{name}"] = answer.data
    return found


@contextmanager
def resolver(files: dict[str, bytes], tools: ToolsTree, cache: Path) -> Iterator[Resolver]:
    with serving(Site(by_hash(files))) as site:
        yield Resolver(tools, debian_archives(Mirrors(site.url, None), RELEASE), RELEASE, cache)


def by_hash(files: dict[str, bytes]) -> dict[str, bytes]:
    """Clients also request the indexes below `by-hash/`, under the hash in `InRelease`."""
    found = dict(files)
    for path, content in files.items():
        if path.endswith("/InRelease"):
            folder = path.removesuffix("InRelease")
            named = re.search(
                r"^ ([0-9a-f]{64}) +[0-9]+ main/binary-amd64/Packages\.xz$", content.decode(), re.MULTILINE
            )
            assert named is not None
            found[f"{folder}main/binary-amd64/by-hash/SHA256/{named[1]}"] = files[
                f"{folder}main/binary-amd64/Packages.xz"
            ]
    return found


def test_signed_indexes_give_a_closed_selection(tools: ToolsTree, indexes: dict[str, bytes], tmp_path: Path) -> None:
    with resolver(indexes, tools, tmp_path) as apt:
        found = apt.select(("crun",))
        assert found == apt.select(("crun",))
    names = {package.name for package in found.packages}
    assert {"crun", "libc6", "base-files", "dpkg"} <= names
    assert all(package.path.startswith("pool/") for package in found.packages)
    assert [suite.name for suite in found.suites] == [RELEASE, f"{RELEASE}-updates"]
    assert {suite.origin for suite in found.suites} == {"Debian"}


def test_an_altered_inrelease_is_refused(tools: ToolsTree, indexes: dict[str, bytes], tmp_path: Path) -> None:
    path = f"/dists/{RELEASE}/InRelease"
    forged = indexes[path].replace(b"Origin: Debian\n", b"Origin: Debiam\n", 1)
    assert forged != indexes[path]
    with (
        resolver(indexes | {path: forged}, tools, tmp_path) as apt,
        pytest.raises(MirrorError, match="refused") as caught,
    ):
        apt.select(("crun",))
    assert "signed by a key" in caught.value.hints[0]


def test_an_unsigned_inrelease_is_refused(tools: ToolsTree, indexes: dict[str, bytes], tmp_path: Path) -> None:
    path = f"/dists/{RELEASE}/InRelease"
    text = indexes[path].decode()
    bare = text.partition("\n\n")[2].partition("-----BEGIN PGP SIGNATURE")[0].encode()
    with resolver(indexes | {path: bare}, tools, tmp_path) as apt, pytest.raises(MirrorError):
        apt.select(("crun",))


def test_an_index_that_inrelease_does_not_name_is_refused(
    tools: ToolsTree, indexes: dict[str, bytes], tmp_path: Path
) -> None:
    path = f"/dists/{RELEASE}/main/binary-amd64/Packages.xz"
    swapped = indexes | {path: indexes[path.replace(RELEASE, f"{RELEASE}-updates", 1)]}
    with resolver(swapped, tools, tmp_path) as apt, pytest.raises(MirrorError):
        apt.select(("crun",))


def test_a_refusal_leaves_nothing_that_is_believed_later(
    tools: ToolsTree, indexes: dict[str, bytes], tmp_path: Path
) -> None:
    path = f"/dists/{RELEASE}/InRelease"
    with serving(Site(by_hash(indexes))) as site:
        apt = Resolver(tools, debian_archives(Mirrors(site.url, None), RELEASE), RELEASE, tmp_path)
        right = site.files[path]
        site.files[path] = right.replace(b"Origin: Debian\n", b"Origin: Debiam\n", 1)
        for _ in range(2):
            with pytest.raises(MirrorError):
                apt.select(("crun",))
        site.files[path] = right
        assert apt.select(("crun",)).packages


def test_a_package_that_is_not_there_is_named(tools: ToolsTree, indexes: dict[str, bytes], tmp_path: Path) -> None:
    with (
        resolver(indexes, tools, tmp_path) as apt,
        pytest.raises(BuildError, match="the mirror has no package no-such-thing"),
    ):
        apt.select(("no-such-thing",))


def test_a_mirror_without_the_release_or_without_answer_is_told(tools: ToolsTree, tmp_path: Path) -> None:
    with (
        resolver({}, tools, tmp_path) as apt,
        pytest.raises(MirrorError, match="does not have a Release file") as caught,
    ):
        apt.select(("crun",))
    assert any("TWINHULL_MIRROR" in hint for hint in caught.value.hints)
    gone = Resolver(tools, debian_archives(Mirrors("http://127.0.0.1:9/debian", None), RELEASE), RELEASE, tmp_path)
    with pytest.raises(MirrorError, match="does not say whether there is a suite trixie-updates"):
        gone.select(("crun",))
