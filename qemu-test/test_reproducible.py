"""Two builds of one lock that have nothing in common but the lock; a published release that a stranger builds again.

`make reproducible` is the long form, with ten builds.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from reproducible import (
    VARIANTS,
    Cache,
    Inputs,
    Made,
    Place,
    Variant,
    differing,
    explained,
    prepare,
    ram_folder,
    run,
    sha256_of,
)
from workbench import OUT, SOURCE, Workbench, timed

from bedrock import process
from bedrock.process import Argument, Finished
from imagebuild.inputs.tools import cache_folder
from imagebuild.steps.scratch import remove_tree
from keys.passphrase import NoPassphrase
from tests.fakes.builds import Publisher
from updater.repository.access import KeyAccess

FOLDER = OUT / "reproducible"
HERE = next(variant for variant in VARIANTS if variant.name == "warm")
ELSEWHERE = Variant(
    "elsewhere",
    Cache.EMPTY,
    Place.RAM,
    {"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati"},
    {"alone": True, "cpus": 1, "umask": "077", "clock": "+400d"},
)
NAME = "container-host/1.0.0"
_TIMEOUT_S = 900


@dataclass(frozen=True)
class Pair:
    """The inputs and both builds."""

    inputs: Inputs
    here: Made
    elsewhere: Made


@pytest.fixture(scope="module")
def pair(bench: Workbench) -> Iterator[Pair]:
    """One build on the disk, from the network; one on a RAM disk, from a bundle, with only the tools in its cache."""
    assert bench.tools.root.is_dir()
    with timed("lock and bundle"):
        inputs = prepare(FOLDER, cache_folder())
    with timed("locked build"):
        here = run(HERE, inputs, place=FOLDER / "here", cache=cache_folder())
    with ram_folder() as ram, timed("offline build elsewhere"):
        cache = ram / "cache"
        cache.mkdir()
        (cache / "tools").symlink_to(cache_folder() / "tools")
        yield Pair(inputs, here, run(ELSEWHERE, inputs, place=ram / "there", cache=cache))


def test_a_build_without_a_network_elsewhere_has_the_same_bytes(bench: Workbench, pair: Pair) -> None:
    assert explained(pair.here, pair.elsewhere, bench.tools) == {}
    for name in ("root.erofs", "root.verity", "uki.unsigned.efi", "disk.raw", "release.json", "sbom.cdx.json"):
        assert name in pair.here.hashes


def test_a_difference_would_be_seen(bench: Workbench, pair: Pair, tmp_path: Path) -> None:
    """The comparison above could fail: one byte is enough, and its place is named."""
    changed = tmp_path / "build"
    changed.mkdir()
    for name in ("release.json", "root.verity", "signatures.json"):
        shutil.copy(pair.here.out / name, changed / name)
    with (changed / "root.verity").open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))
    names = ("release.json", "root.verity")
    folders = (pair.here.out, changed)
    first, other = (Made(HERE, folder, 0.0, {name: sha256_of(folder / name) for name in names}) for folder in folders)
    assert differing(first, other) == ("root.verity",)
    told = explained(first, other, bench.tools)
    assert told == {"root.verity": ("1 blocks of 4096 bytes differ, the first at byte 4096",)}


@pytest.fixture(scope="module")
def repository(bench: Workbench, pair: Pair) -> Path:
    """A repository with the locked release, as a stranger copied it; the keys stay away."""
    folder = FOLDER / "repository"
    shutil.copytree(OUT / "trust", folder)
    workshop = Publisher(folder, KeyAccess(bench.keyring, NoPassphrase()))
    with timed("publish the locked release"):
        workshop.publish_folders(pair.here.out, now=datetime.now(UTC))
    return workshop.base


def reproduced(repository: Path, definition: Path, *, check: bool = True) -> Finished:
    words: list[Argument] = [sys.executable, "-m", "imagebuild.cli", "reproduce", NAME, "--repo", repository, "--json"]
    return process.run([*words, "--definition", definition], timeout_s=_TIMEOUT_S, cwd=SOURCE, check=check)


def test_a_stranger_arrives_at_the_published_bytes(repository: Path, pair: Pair, tmp_path: Path) -> None:
    definition = tmp_path / "checkout"
    shutil.copytree(pair.inputs.definition, definition)
    with timed("reproduce"):
        document = json.loads(reproduced(repository, definition).stdout)
    assert document["identical"]
    names = {file["name"] for file in document["files"]}
    assert {"uki.efi", "root.erofs", "root.verity", "release.json", "sbom.cdx.json", "provenance.json"} <= names


def test_a_changed_lock_is_told_before_anything_is_built(repository: Path, pair: Pair, tmp_path: Path) -> None:
    definition = tmp_path / "checkout"
    shutil.copytree(pair.inputs.definition, definition)
    lock = definition / "image.lock"
    lock.write_text(lock.read_text().replace('"size_bytes": 3', '"size_bytes": 4', 1))
    done = reproduced(repository, definition, check=False)
    assert done.returncode == 3
    assert "size_bytes: 3" in done.stderr


def test_a_changed_object_is_named(repository: Path, pair: Pair, tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(repository, copy)
    largest = max(copy.glob("objects/*/*"), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(50_000)
        byte = file.read(1)[0]
        file.seek(50_000)
        file.write(bytes([byte ^ 1]))
    done = reproduced(copy, pair.inputs.definition, check=False)
    assert done.returncode == 3
    assert largest.name in done.stderr


@pytest.fixture(scope="module", autouse=True)
def room() -> Iterator[None]:
    """Nothing of this is needed by other tests."""
    yield
    if FOLDER.exists():
        remove_tree(FOLDER)
