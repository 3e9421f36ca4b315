"""A build's identity: what decides an image's bytes counts, and nothing else does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imagebuild.errors import BuildError
from imagebuild.paths import SOURCE_ROOT
from imagebuild.steps.program import program_files, program_sha256


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of Twinhull's own packages."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("bedrock", "keys", "partitions", "updater", "imagebuild"):
        shutil.copytree(SOURCE_ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def changes_the_build(sources: Path, name: str) -> bool:
    """Whether a comment at the end of a file makes another build; the file is as before afterwards."""
    path, before = sources / name, program_sha256(sources)
    content = path.read_bytes()
    path.write_bytes(content + b"# a comment\n")
    try:
        return program_sha256(sources) != before
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "imagebuild/pipeline/build.py",
        "imagebuild/definition/config.py",
        "imagebuild/steps/initrd/image.py",
        "imagebuild/attest/sbom.py",
        "imagebuild/data/image.conf",
        "imagebuild/data/initrd/init",
        "imagebuild/data/agent.lock",
        "keys/signers.py",
        "partitions/layout.py",
        "updater/agent/agent.py",
        "updater/transfer/worker.py",
        "updater/documents/release.py",
        "updater/documents/signatures.py",
        "bedrock/strict.py",
    ],
)
def test_what_decides_the_bytes_makes_another_build(sources: Path, name: str) -> None:
    assert changes_the_build(sources, name)


@pytest.mark.parametrize(
    "name",
    [
        "imagebuild/cli.py",
        "imagebuild/data/image.yaml",
        "imagebuild/data/keep.yaml",
        "imagebuild/inputs/bundle.py",
        "imagebuild/inspection/report.py",
        "imagebuild/pipeline/budget.py",
        "imagebuild/trim/trimming.py",
        "imagebuild/vm/machine.py",
        "keys/generate.py",
        "updater/repository/publish.py",
        "updater/server/app.py",
    ],
)
def test_what_does_not_decide_the_bytes_makes_no_other_build(sources: Path, name: str) -> None:
    assert not changes_the_build(sources, name)


def test_byte_code_does_not_count(sources: Path) -> None:
    before = program_sha256(sources)
    compiled = sources / "imagebuild/data/__pycache__/a.pyc"
    compiled.parent.mkdir()
    compiled.touch()
    assert program_sha256(sources) == before


def test_sources_without_the_entries_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"holds no imagebuild\.pipeline\.build and no updater\.agent\.cli"):
        program_files(tmp_path)
