"""A build is held against its budget while it runs; the steps are played by small fakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock import strict
from imagebuild.definition.image import Budget
from imagebuild.errors import BudgetError
from imagebuild.inspection.contents import CONTENTS_FILE, FORMAT, Contents, Entry, Kind, Package
from imagebuild.pipeline import build as pipeline
from imagebuild.pipeline.build import build_image
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.workshop import Workshop
from partitions.version import Version
from tests.fakes.definitions import RecordedProgress, plan_in
from updater.repository.objects import DEFAULT_LEVEL, QUICK_LEVEL, packed_bytes

# Text, which level 19 packs better than level 9 does; of a root filesystem's whole blocks.
ROOT = b"".join(path.read_bytes() for path in sorted(Path(pipeline.__file__).parent.glob("*.py")))
ROOT = ROOT[: len(ROOT) // 4096 * 4096]


def contents_of(version: str, names: str) -> Contents:
    return Contents(
        format=FORMAT,
        image="host",
        version=Version(version),
        asked={},
        packages=tuple(Package(name, "1", "amd64", name, "1", "", (), ()) for name in names),
        entries=tuple(Entry(f"/{name}", Kind.FILE, 0o644, ord(name), name) for name in names),
    )


def record(names: str) -> Callable[..., None]:
    def step(shop: Workshop, *_: object) -> None:
        shop.log.write_text("all is well\n")
        (shop.out / CONTENTS_FILE).write_bytes(strict.dump_json(contents_of(str(shop.plan.version), names)))

    return step


def make_initrd(shop: Workshop, *_: object) -> None:
    (shop.work / "initrd.cpio.zst").write_bytes(bytes(700))
    (shop.folders.output / "kernel-version").write_text("6.12\n")


def make_rest(shop: Workshop, *_: object) -> None:
    (shop.work / "root-hash").write_text("ab" * 32)
    for name, content in (("uki.efi", bytes(900)), ("root.erofs", ROOT), ("root.verity", bytes(4096))):
        (shop.out / name).write_bytes(content)
    for name in ("disk.raw", "disk.qcow2"):
        (shop.out / name).touch()


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildPlan:
    steps = (("contents", record("ab")), ("initrd", make_initrd), ("rest", make_rest))
    monkeypatch.setattr(pipeline, "STEPS", steps)
    return plan_in(tmp_path)


def within(plan: BuildPlan, budget: Budget, *, version: str = "1.0.0") -> BuildPlan:
    out = plan.out.with_name(version)
    definition = replace(plan.definition, budget=budget)
    return replace(plan, definition=definition, version=Version(version), out=out)


def refusal(plan: BuildPlan, progress: RecordedProgress | None = None) -> str:
    with pytest.raises(BudgetError) as caught:
        build_image(plan, progress=progress)
    assert caught.value.exit_code == 1
    return str(caught.value)


def sent(level: int) -> int:
    contents = (bytes(900), ROOT, bytes(4096))
    return sum(packed_bytes([content], size_bytes=len(content), level=level) for content in contents)


def test_a_build_within_its_budget_is_finished(plan: BuildPlan) -> None:
    budget = Budget(packages=2, initrd=700, root=len(ROOT), uki=900, wire=sent(QUICK_LEVEL))
    assert build_image(within(plan, budget)).fresh


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(packages=1), "packages: 2, the limit is 1: 1 too many"),
        (Budget(initrd=699), "initrd: 700 bytes, the limit is 699: 1 too many"),
        (Budget(root=len(ROOT) - 1), f"root: {len(ROOT)} bytes"),
        (Budget(uki=899), "uki: 900 bytes, the limit is 899"),
        (Budget(wire=sent(DEFAULT_LEVEL) - 1), f"wire: {sent(DEFAULT_LEVEL)} bytes"),
    ],
)
def test_a_build_over_its_budget_leaves_nothing_but_its_log(plan: BuildPlan, budget: Budget, words: str) -> None:
    assert words in refusal(within(plan, budget))
    assert [path.name for path in plan.out.parent.iterdir()] == ["1.0.0.failed.log"]


def test_a_limit_is_held_as_soon_as_it_is_known_and_the_rest_is_named(plan: BuildPlan) -> None:
    progress = RecordedProgress()
    text = refusal(within(plan, Budget(packages=1, initrd=1, uki=1)), progress)
    assert progress.steps == ["contents"]
    assert "not measured, for the build ended here: initrd, uki" in text


def test_limits_that_become_known_together_are_told_together(plan: BuildPlan) -> None:
    text = refusal(within(plan, Budget(root=1, uki=1)))
    assert "root: " in text
    assert "uki: " in text


def test_the_slow_level_is_measured_only_when_the_quick_one_does_not_fit(plan: BuildPlan) -> None:
    assert sent(DEFAULT_LEVEL) < sent(QUICK_LEVEL)
    asked = []
    for number, limit in enumerate((sent(QUICK_LEVEL), sent(DEFAULT_LEVEL))):
        progress = RecordedProgress()
        build_image(within(plan, Budget(wire=limit), version=f"1.0.{number}"), progress=progress)
        asked.append([step.rpartition(" ")[2] for step in progress.steps if "budget" in step])
    assert asked == [["9"], ["9", "19"]]


def test_without_a_limit_nothing_is_packed(plan: BuildPlan) -> None:
    progress = RecordedProgress()
    built = build_image(plan, progress=progress)
    assert not any("budget" in step for step in progress.steps)
    assert "budget" not in built.summary.seconds


def test_growth_is_told_against_the_newest_lower_version(plan: BuildPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, names in (("1.0.9", "abc"), ("1.0.10", "abd"), ("2.0.0", "a")):
        steps = (("contents", record(names)), ("initrd", make_initrd), ("rest", make_rest))
        monkeypatch.setattr(pipeline, "STEPS", steps)
        build_image(within(plan, Budget(), version=version))
    monkeypatch.setattr(pipeline, "STEPS", (("contents", record("abe")), ("initrd", make_initrd), ("rest", make_rest)))
    text = refusal(within(plan, Budget(packages=2), version="1.0.11"))
    assert "packages new against 1.0.10: e" in text
    assert "packages gone against 1.0.10: d" in text


def test_a_damaged_earlier_build_is_told_and_the_one_before_it_is_taken(plan: BuildPlan) -> None:
    for version in ("1.0.0", "1.0.1"):
        build_image(within(plan, Budget(), version=version))
    (plan.out.with_name("1.0.1") / CONTENTS_FILE).write_text("[]")
    text = refusal(within(plan, Budget(root=1), version="1.0.2"))
    assert f"not compared with {plan.out.with_name('1.0.1')}: " in text
    assert "no package has another size than in 1.0.0" in text


def test_another_image_and_an_unfinished_build_are_not_compared(plan: BuildPlan) -> None:
    build_image(within(plan, Budget(), version="0.8"))
    build_image(within(plan, Budget(), version="0.9"))
    (plan.out.with_name("0.9") / "inputs.json").unlink()
    inputs = plan.out.with_name("0.8") / "inputs.json"
    inputs.write_text(json.dumps({**json.loads(inputs.read_text()), "image": "other"}))
    assert "no earlier build of it lies in" in refusal(within(plan, Budget(root=1)))
