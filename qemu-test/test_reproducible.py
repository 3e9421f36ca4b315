"""A published release that a stranger builds again, and what is said when something of it is not what was published.

The release is the image of everything: its packages are of Debian, of a third party, and of the definition's folder.
That two builds of one lock are the same, `test_everything.py` shows; `make reproducible` is the long form, with ten.
"""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from everything import IMAGE, Everything
from reproducible import Made, differing, explained, sha256_of
from workbench import OUT, SOURCE, Workbench, timed

from bedrock import process
from bedrock.process import Argument, Finished
from keys.passphrase import NoPassphrase
from tests.fakes.builds import Publisher
from updater.repository.access import KeyAccess

NAME = f"{IMAGE}/1.0.0"
_TIMEOUT_S = 900


def test_a_difference_would_be_seen(bench: Workbench, everything: Everything, tmp_path: Path) -> None:
    """The comparison of builds could fail: one byte is enough, and its place is named."""
    here = everything.here
    for name in ("release.json", "root.verity", "signatures.json"):
        shutil.copy(here.out / name, tmp_path / name)
    _flip(tmp_path / "root.verity", 5000)
    names = ("release.json", "root.verity")
    first, other = (
        Made(here.variant, folder, 0.0, {name: sha256_of(folder / name) for name in names})
        for folder in (here.out, tmp_path)
    )
    assert differing(first, other) == ("root.verity",)
    told = explained(first, other, bench.tools)
    assert told == {"root.verity": ("1 blocks of 4096 bytes differ, the first at byte 4096",)}


@pytest.fixture(scope="module")
def repository(bench: Workbench, everything: Everything) -> Path:
    """A repository with the locked release, as a stranger copied it; the keys stay away."""
    folder = OUT / "reproducible"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(OUT / "trust", folder)
    workshop = Publisher(folder, KeyAccess(bench.keyring, NoPassphrase()))
    with timed("publish the locked release"):
        workshop.publish_folders(everything.here.out, now=datetime.now(UTC))
    return workshop.base


def reproduced(repository: Path, definition: Path, *, check: bool = True) -> Finished:
    words: list[Argument] = [sys.executable, "-m", "imagebuild.cli", "reproduce", NAME, "--repo", repository, "--json"]
    return process.run([*words, "--definition", definition], timeout_s=_TIMEOUT_S, cwd=SOURCE, check=check)


def test_a_stranger_arrives_at_the_published_bytes(repository: Path, everything: Everything, tmp_path: Path) -> None:
    definition = tmp_path / "checkout"
    shutil.copytree(everything.inputs.definition, definition)
    with timed("reproduce"):
        document = json.loads(reproduced(repository, definition).stdout)
    assert document["identical"]
    names = {file["name"] for file in document["files"]}
    assert {"uki.efi", "root.erofs", "root.verity", "release.json", "sbom.cdx.json", "provenance.json"} <= names


def test_a_changed_lock_is_reported_before_anything_is_built(
    repository: Path, everything: Everything, tmp_path: Path
) -> None:
    definition = tmp_path / "checkout"
    shutil.copytree(everything.inputs.definition, definition)
    lock = definition / "image.lock"
    lock.write_text(lock.read_text().replace('"size_bytes": 3', '"size_bytes": 4', 1))
    done = reproduced(repository, definition, check=False)
    assert done.returncode == 3
    assert "size_bytes: 3" in done.stderr


def test_a_changed_object_is_named(repository: Path, everything: Everything, tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(repository, copy)
    largest = max(copy.glob("objects/*/*"), key=lambda path: path.stat().st_size)
    _flip(largest, 50_000)
    done = reproduced(copy, everything.inputs.definition, check=False)
    assert done.returncode == 3
    assert largest.name in done.stderr


def _flip(path: Path, offset: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
