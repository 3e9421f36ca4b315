"""The order of a build, what a failure leaves behind, and the documents; the steps are played by small fakes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock import strict
from bedrock.errors import ProcessError
from imagebuild.errors import BuildError, BuiltBeforeError, SpaceError
from imagebuild.inspection.contents import CONTENTS_FILE, FORMAT, Contents, Entry, Kind, Package
from imagebuild.locking import held_folder
from imagebuild.pipeline import build as pipeline
from imagebuild.pipeline.build import build_image
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.signing import KeySource
from imagebuild.steps.workshop import Workshop
from keys.errors import PassphraseError, WrongModeError
from keys.keyring import Keyring
from keys.passphrase import FixedPassphrase, NoPassphrase, PassphraseSource
from partitions.version import Version
from tests.fakes.definitions import RecordedProgress, plan_in
from tests.fakes.keyrings import PASSPHRASE, production_folder
from updater.release import parse_release

ROOT_HASH = "ab" * 32
CONTENTS = Contents(
    format=FORMAT,
    image="host",
    version=Version.from_text("1.0.0"),
    asked={},
    packages=tuple(Package(name, "1", "amd64", name, "1", "", (), ()) for name in "abc"),
    entries=tuple(Entry(f"/{name}", Kind.FILE, 0o644, 1, name) for name in "ab"),
)


def make_everything(shop: Workshop, *_: object) -> None:
    """Write what all the steps together leave behind."""
    shop.log.write_text("all is well\n")
    (shop.work / "root-hash").write_text(ROOT_HASH)
    (shop.work / "initrd.cpio.zst").write_bytes(b"initrd")
    for name, content in (("uki.efi", b"uki"), ("root.erofs", bytes(8192)), ("root.verity", bytes(4096))):
        (shop.out / name).write_bytes(content)
    for name in ("disk.raw", "disk.qcow2"):
        (shop.out / name).write_bytes(b"disk")
    (shop.folders.output / "kernel-version").write_text("6.12\n")
    (shop.out / CONTENTS_FILE).write_bytes(strict.dump_json(CONTENTS))


def failing(error: BaseException) -> Callable[..., None]:
    def step(shop: Workshop, *_: object) -> None:
        shop.log.write_text("what the tools said\n")
        raise error

    return step


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildPlan:
    monkeypatch.setattr(pipeline, "STEPS", (("make_all", make_everything),))
    return plan_in(tmp_path)


def beside(plan: BuildPlan) -> list[str]:
    return sorted(path.name for path in plan.out.parent.iterdir())


def test_a_build_is_documented(plan: BuildPlan) -> None:
    built = build_image(plan)
    assert built.fresh
    assert beside(plan) == ["1.0.0"]
    release = parse_release((plan.out / "release.json").read_bytes(), source="release.json")
    assert (release.image, str(release.version), release.root_hash) == ("host", "1.0.0", ROOT_HASH)
    assert release.artifacts.root.sha256 == hashlib.sha256(bytes(8192)).hexdigest()
    assert release.artifacts.root.size_bytes == 8192
    assert [row["name"] for row in json.loads((plan.out / "packages.json").read_bytes())] == ["a", "b"]
    assert built.summary.kernel == "6.12"
    assert built.summary.packages == 2
    assert set(built.summary.seconds) == {"tools_tree", "make_all", "total"}
    assert built.summary.size_bytes["initrd"] == len(b"initrd")


def test_the_release_names_the_attachments_that_were_made(plan: BuildPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def attest(shop: Workshop, *_: object) -> None:
        for name in ("sbom.cdx.json", "provenance.json", "other.json"):
            (shop.out / name).write_text(name)

    monkeypatch.setattr(pipeline, "STEPS", (("make_all", make_everything), ("attestations", attest)))
    build_image(plan)
    release = parse_release((plan.out / "release.json").read_bytes(), source="release.json")
    assert set(release.attachments) == {"sbom"}
    assert release.attachments["sbom"].size_bytes == len("sbom.cdx.json")


def test_a_strict_umask_does_not_reach_the_image(plan: BuildPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def look(shop: Workshop, *_: object) -> None:
        make_everything(shop)
        modes.append((shop.out / "uki.efi").stat().st_mode & 0o777)

    monkeypatch.setattr(pipeline, "STEPS", (("all", look),))
    before = os.umask(0o077)
    try:
        build_image(plan)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert modes == [0o644]


def test_the_same_build_is_not_made_twice(plan: BuildPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_image(plan)
    monkeypatch.setattr(pipeline, "STEPS", (("make_all", failing(AssertionError("built again"))),))
    second = build_image(plan)
    assert not second.fresh
    assert second.summary == first.summary


def test_other_content_for_a_version_is_refused_before_any_step(plan: BuildPlan, tmp_path: Path) -> None:
    plan.out.mkdir(parents=True)
    (plan.out / "inputs.json").write_text(json.dumps({"digest": "0" * 64, "version": "1.0.0", "image": "host"}))
    progress = RecordedProgress()
    with pytest.raises(BuiltBeforeError):
        build_image(plan, progress=progress)
    assert progress.steps == []


def test_a_failed_program_is_told_with_its_cause_and_its_log(plan: BuildPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ProcessError("mkosi failed", returncode=1, tail="E: Unable to locate package nope")
    monkeypatch.setattr(pipeline, "STEPS", (("package_tree", failing(error)),))
    with pytest.raises(BuildError, match="the step package tree failed") as caught:
        build_image(plan)
    assert str(caught.value) == "the step package tree failed: the mirror has no package nope"
    kept = plan.out.parent / "1.0.0.failed.log"
    assert any(str(kept) in hint for hint in caught.value.hints)
    assert kept.read_text() == "what the tools said\n"
    assert beside(plan) == ["1.0.0.failed.log"]


def test_a_full_disk_in_the_middle_leaves_no_half_build(plan: BuildPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(pipeline, "STEPS", (("first", make_everything), ("disk", failing(error))))
    with pytest.raises(SpaceError, match="the step disk failed: the disk is full"):
        build_image(plan)
    assert beside(plan) == ["1.0.0.failed.log"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interrupted_build_leaves_nothing_behind(
    plan: BuildPlan, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    monkeypatch.setattr(pipeline, "STEPS", (("all", make_everything), ("disk", failing(interruption))))
    with pytest.raises(type(interruption)):
        build_image(plan)
    assert beside(plan) == []


def test_a_success_drops_the_log_of_an_earlier_failure(plan: BuildPlan) -> None:
    plan.out.parent.mkdir(parents=True)
    (plan.out.parent / "1.0.0.failed.log").touch()
    build_image(plan)
    assert beside(plan) == ["1.0.0"]


def test_what_a_killed_build_left_is_removed_and_a_living_one_is_not(plan: BuildPlan) -> None:
    dead, living = (plan.out.parent / f".1.0.0.{name}.partial" for name in ("dead", "living"))
    for folder in (dead, living):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    with held_folder(living):
        build_image(plan)
    assert beside(plan) == [".1.0.0.living.partial", "1.0.0"]


def test_what_mkosi_makes_on_the_way_does_not_outlive_a_build(plan: BuildPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Path] = []

    def step(shop: Workshop, *_: object) -> None:
        used.append(shop.scratch)
        (shop.scratch / "file").touch()
        if len(used) == 1:
            raise BuildError("no")
        make_everything(shop)

    monkeypatch.setattr(pipeline, "STEPS", (("all", step),))
    with pytest.raises(BuildError):
        build_image(plan)
    build_image(plan)
    assert [folder.exists() for folder in used] == [False, False]


def test_jobs_beside_each_other_run_at_the_same_time(plan: BuildPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(2)

    def meet(_: Workshop) -> None:
        # Whoever came alone would be thrown out.
        meeting.wait(timeout=30)

    def step(shop: Workshop, *_: object) -> None:
        make_everything(shop)
        pipeline._beside(shop, meet, meet)

    monkeypatch.setattr(pipeline, "STEPS", (("both", step),))
    assert build_image(plan).fresh


def test_a_failure_beside_another_job_is_told_when_both_have_ended(
    plan: BuildPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, ended = threading.Event(), []

    def fail(_: Workshop) -> None:
        failed.set()
        raise ProcessError("mkosi failed", returncode=1, tail="E: Unable to locate package nope")

    def last(_: Workshop) -> None:
        failed.wait(timeout=30)
        ended.append(True)
        raise BuildError("the second")

    def step(shop: Workshop, *_: object) -> None:
        pipeline._beside(shop, fail, last)

    monkeypatch.setattr(pipeline, "STEPS", (("both", step),))
    with pytest.raises(BuildError, match="the step both failed: the mirror has no package nope"):
        build_image(plan)
    assert ended == [True]


def with_keys(plan: BuildPlan, folder: Path, passphrase: PassphraseSource) -> BuildPlan:
    keys = production_folder(folder / "production")
    return replace(plan, signatures=KeySource(Keyring.load(keys), passphrase))


@pytest.mark.parametrize("passphrase", [NoPassphrase(), FixedPassphrase("wrong")])
def test_a_key_that_does_not_open_is_told_before_any_step(
    plan: BuildPlan, tmp_path: Path, passphrase: PassphraseSource
) -> None:
    progress = RecordedProgress()
    (tmp_path / "production").mkdir()
    with pytest.raises(PassphraseError):
        build_image(with_keys(plan, tmp_path, passphrase), progress=progress)
    assert progress.steps == []


def test_the_right_passphrase_opens_it(plan: BuildPlan, tmp_path: Path) -> None:
    (tmp_path / "production").mkdir()
    assert build_image(with_keys(plan, tmp_path, FixedPassphrase(PASSPHRASE))).fresh


def test_a_key_open_to_others_is_told_before_any_step(plan: BuildPlan, tmp_path: Path) -> None:
    (tmp_path / "keys/db.pem").chmod(0o644)
    progress = RecordedProgress()
    with pytest.raises(WrongModeError):
        build_image(plan, progress=progress)
    assert progress.steps == []
