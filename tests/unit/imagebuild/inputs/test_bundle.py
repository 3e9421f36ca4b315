"""A bundle is read with suspicion; packages and wheels are small fakes, laid out by the code under test."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from bedrock.progress import Silent
from imagebuild.errors import BuildError, LockError, RefusedInputError
from imagebuild.inputs.bundle import open_bundle, write_bundle
from imagebuild.inputs.lockfile import Lock, LockedWheel, write_lock
from imagebuild.inputs.mirror import Mirrors
from imagebuild.inputs.supply import store_in
from tests.fakes.debian_packages import deb
from tests.fakes.definitions import lock_of, package, supply_in, write_definition
from tests.fakes.tampering import flip_bits

CONTENTS = {name: deb(name, "1") for name in ("podman", "crun")}
WHEEL = b"a wheel"


class Case:
    """A definition with its lock, and a cache that holds everything the lock names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.definition = write_definition(folder / "host", "id: host\n")
        (self.definition / "mkosi.postinst").write_text("#!/bin/sh\n")
        (self.definition / "mkosi.postinst").chmod(0o755)
        packages = [package(name, content) for name, content in CONTENTS.items()]
        wheel = LockedWheel("tuf-7-py3-none-any.whl", len(WHEEL), package("x", WHEEL).sha256)
        self.lock: Lock = replace(lock_of(*packages), wheels=(wheel,))
        (self.definition / "image.lock").write_bytes(write_lock(self.lock))
        for each in packages:
            content = CONTENTS[each.name]
            store_in(folder / "cache").put([content], sha256=each.sha256, size_bytes=each.size_bytes, what=each.name)
        (folder / "tuf-7-py3-none-any.whl").write_bytes(WHEEL)

    def pack(self, name: str = "bundle") -> Path:
        out = self.folder / name
        write_bundle(
            self.definition,
            self.lock,
            out,
            mirrors=Mirrors("http://mirror.test", None),
            cache=self.folder / "cache",
            progress=Silent(),
            supply_of=lambda *_, **__: replace(supply_in(self.folder), packages=self.lock.image_packages),
            wheels_of=lambda *_: (self.folder / "tuf-7-py3-none-any.whl",),
        )
        return out

    def open(self, bundle: Path) -> Lock:
        return open_bundle(bundle, self.definition, cache=self.folder / "other-cache")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.mark.parametrize("name", ["bundle", "bundle.tar"])
def test_what_was_packed_lies_in_another_cache_afterwards(case: Case, name: str) -> None:
    assert case.open(case.pack(name)) == case.lock
    store = store_in(case.folder / "other-cache")
    assert [store.path(each.sha256).read_bytes() for each in case.lock.packages] == list(CONTENTS.values())
    wheels = list((case.folder / "other-cache/wheels").rglob("*.whl"))
    assert [path.read_bytes() for path in wheels] == [WHEEL]


def test_two_bundles_of_one_lock_are_the_same_bytes(case: Case) -> None:
    assert case.pack("a.tar").read_bytes() == case.pack("b.tar").read_bytes()


def test_a_bundle_overwrites_nothing_and_leaves_nothing_half_written(case: Case) -> None:
    case.pack("a.tar")
    with pytest.raises(BuildError, match="exists"):
        case.pack("a.tar")
    assert [path.name for path in case.folder.glob(".*")] == []


def a_package(base: Path) -> Path:
    return next(path for path in (base / "files").rglob("*") if path.is_file())


def alter(base: Path) -> None:
    flip_bits(a_package(base))


def swap_for_a_link(base: Path) -> None:
    path = a_package(base)
    path.rename(base.parent / "aside")
    path.symlink_to(base.parent / "aside")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda base: a_package(base).unlink(), "is missing"),
        (lambda base: (base / "files/extra").write_text("x"), "files/extra is not named"),
        (alter, "was altered"),
        (swap_for_a_link, "was altered"),
        (lambda base: (base / "definition/image.yaml").write_text("id: evil\n"), "definition/image.yaml was altered"),
        (lambda base: (base / "definition/image.lock").unlink(), "definition/image.lock is missing"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused_before_it_is_used(
    case: Case, harm: Callable[[Path], object], said: str
) -> None:
    base = case.pack()
    harm(base)
    with pytest.raises(RefusedInputError, match=said):
        case.open(base)
    assert not (case.folder / "other-cache").exists()


def test_a_file_the_lock_wants_and_the_index_forgot_is_missing(case: Case) -> None:
    base = case.pack()
    gone = a_package(base)
    index = json.loads((base / "bundle.json").read_bytes())
    index["files"] = [file for file in index["files"] if not file["path"].endswith(gone.name)]
    (base / "bundle.json").write_text(json.dumps(index))
    gone.unlink()
    with pytest.raises(RefusedInputError, match=f"{gone.name} is missing"):
        case.open(base)


def test_a_bundle_of_another_definition_is_not_built(case: Case) -> None:
    base = case.pack()
    (case.definition / "image.yaml").write_text("id: host\npackages: [jq]\n")
    with pytest.raises(LockError, match=r"another definition than .*: image\.yaml") as caught:
        case.open(base)
    assert "definition" in caught.value.hints[0]


def test_what_is_no_bundle_is_told(case: Case) -> None:
    with pytest.raises(BuildError, match="is not a bundle"):
        case.open(case.definition)
    (case.folder / "noise.tar").write_bytes(b"noise" * 999)
    with pytest.raises(BuildError, match="is not a bundle"):
        case.open(case.folder / "noise.tar")
    base = case.pack()
    (base / "bundle.json").write_text("{}")
    with pytest.raises(DocumentError, match="format"):
        case.open(base)


def test_a_tar_file_cannot_write_elsewhere(case: Case) -> None:
    path = case.folder / "evil.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(BuildError, match="is not a bundle"):
        case.open(path)
    assert not (case.folder / "evil").exists()
