"""What surrounds the steps of a build: when it runs, what a failure leaves behind, and the documents."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from bedrock.locks import held_folder
from imagebuild.errors import BuildError, BuiltBeforeError, SpaceError
from imagebuild.pipeline.build import build_image
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.signing import KeySource
from imagebuild.steps.workshop import Workshop
from keys.errors import PassphraseError, WrongModeError
from keys.keyring import Keyring
from keys.passphrase import FixedPassphrase, NoPassphrase, PassphraseSource
from tests.fakes.definitions import RecordedProgress, plan_in
from tests.fakes.image_makers import ROOT_HASH, FakeMaker, failing
from tests.fakes.keyrings import PASSPHRASE, production_folder
from updater.documents.release import parse_release


@pytest.fixture
def plan(tmp_path: Path) -> BuildPlan:
    return plan_in(tmp_path)


def neighbours(plan: BuildPlan) -> list[str]:
    """What is in the folder of the build's place."""
    return sorted(path.name for path in plan.out.parent.iterdir())


def test_a_build_is_documented(plan: BuildPlan) -> None:
    built = build_image(plan, make=FakeMaker("ab", trimmed="c"))
    assert built.fresh
    assert neighbours(plan) == ["1.0.0"]
    release = parse_release((plan.out / "release.json").read_bytes(), source="release.json")
    assert (release.image, str(release.version), release.root_hash) == ("host", "1.0.0", ROOT_HASH)
    assert release.artifacts.root.sha256 == hashlib.sha256(bytes(8192)).hexdigest()
    assert release.artifacts.root.size_bytes == 8192
    assert [row["name"] for row in json.loads((plan.out / "packages.json").read_bytes())] == ["a", "b"]
    assert built.summary.kernel == "6.12"
    assert built.summary.packages == 2
    assert set(built.summary.seconds) == {"tools_tree", "contents", "file_systems", "uki", "disk", "total"}
    assert built.summary.size_bytes["initrd"] == 6
    assert built.summary.drivers is plan.definition.drivers


def test_the_release_names_the_attachments_that_were_made(plan: BuildPlan) -> None:
    def attest(shop: Workshop) -> None:
        for name in ("sbom.cdx.json", "provenance.json", "other.json"):
            (shop.out / name).write_text(name)

    build_image(plan, make=FakeMaker(before={"disk": attest}))
    release = parse_release((plan.out / "release.json").read_bytes(), source="release.json")
    assert set(release.attachments) == {"sbom"}
    assert release.attachments["sbom"].size_bytes == len("sbom.cdx.json")


def test_a_strict_umask_does_not_reach_the_image(plan: BuildPlan) -> None:
    before = os.umask(0o077)
    try:
        build_image(plan, make=FakeMaker())
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert (plan.out / "uki.efi").stat().st_mode & 0o777 == 0o644


def test_the_same_build_is_not_made_twice(plan: BuildPlan) -> None:
    maker = FakeMaker()
    first, second = build_image(plan, make=maker), build_image(plan, make=maker)
    assert len(maker.shops) == 1
    assert not second.fresh
    assert second.summary == first.summary


def test_other_content_for_a_version_is_refused_before_any_step(plan: BuildPlan) -> None:
    plan.out.mkdir(parents=True)
    (plan.out / "inputs.json").write_text(json.dumps({"digest": "0" * 64, "version": "1.0.0", "image": "host"}))
    maker = FakeMaker()
    with pytest.raises(BuiltBeforeError):
        build_image(plan, make=maker)
    assert maker.shops == []


def test_a_failed_program_is_explained_and_its_log_is_kept(plan: BuildPlan) -> None:
    error = ProcessError("mkosi failed", returncode=1, tail="E: Unable to locate package nope")
    with pytest.raises(BuildError, match="the step file systems failed: the mirror has no package nope") as caught:
        build_image(plan, make=FakeMaker(before={"file_systems": failing(error)}))
    kept = plan.out.parent / "1.0.0.failed.log"
    assert any(str(kept) in hint for hint in caught.value.hints)
    assert kept.read_text() == "what the tools said\n"
    assert neighbours(plan) == ["1.0.0.failed.log"]


def test_a_full_disk_in_the_middle_leaves_no_half_build(plan: BuildPlan) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(SpaceError, match="the step disk failed: the disk is full"):
        build_image(plan, make=FakeMaker(before={"disk": failing(error)}))
    assert neighbours(plan) == ["1.0.0.failed.log"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interrupted_build_leaves_nothing_behind(plan: BuildPlan, interruption: BaseException) -> None:
    with pytest.raises(type(interruption)):
        build_image(plan, make=FakeMaker(before={"disk": failing(interruption)}))
    assert neighbours(plan) == []


def test_a_success_drops_the_log_of_an_earlier_failure(plan: BuildPlan) -> None:
    plan.out.parent.mkdir(parents=True)
    (plan.out.parent / "1.0.0.failed.log").touch()
    build_image(plan, make=FakeMaker())
    assert neighbours(plan) == ["1.0.0"]


def test_what_a_killed_build_left_is_removed_and_a_living_one_is_not(plan: BuildPlan) -> None:
    dead, living = (plan.out.parent / f".1.0.0.{name}.partial" for name in ("dead", "living"))
    for folder in (dead, living):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    with held_folder(living):
        build_image(plan, make=FakeMaker())
    assert neighbours(plan) == [".1.0.0.living.partial", "1.0.0"]


def test_what_mkosi_makes_on_the_way_does_not_outlive_a_build(plan: BuildPlan) -> None:
    def touch(shop: Workshop) -> None:
        (shop.scratch / "file").touch()

    maker = FakeMaker(before={"contents": touch, "disk": failing(BuildError("no"))})
    with pytest.raises(BuildError):
        build_image(plan, make=maker)
    del maker.before["disk"]
    build_image(plan, make=maker)
    assert [shop.scratch.exists() for shop in maker.shops] == [False, False]


def with_keys(plan: BuildPlan, folder: Path, passphrase: PassphraseSource) -> BuildPlan:
    keys = production_folder(folder / "production")
    return replace(plan, signatures=KeySource(Keyring.load(keys), passphrase))


@pytest.mark.parametrize("passphrase", [NoPassphrase(), FixedPassphrase("wrong")])
def test_a_key_that_does_not_open_is_reported_before_any_step(
    plan: BuildPlan, tmp_path: Path, passphrase: PassphraseSource
) -> None:
    maker, progress = FakeMaker(), RecordedProgress()
    (tmp_path / "production").mkdir()
    with pytest.raises(PassphraseError):
        build_image(with_keys(plan, tmp_path, passphrase), progress=progress, make=maker)
    assert (maker.shops, progress.steps) == ([], [])


def test_the_right_passphrase_opens_it(plan: BuildPlan, tmp_path: Path) -> None:
    (tmp_path / "production").mkdir()
    assert build_image(with_keys(plan, tmp_path, FixedPassphrase(PASSPHRASE)), make=FakeMaker()).fresh


def test_a_key_open_to_others_is_reported_before_any_step(plan: BuildPlan, tmp_path: Path) -> None:
    (tmp_path / "keys/db.pem").chmod(0o644)
    maker = FakeMaker()
    with pytest.raises(WrongModeError):
        build_image(plan, make=maker)
    assert maker.shops == []
