"""A build is held against its budget while it runs; the steps are played by a small fake."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuild.definition.image import Budget
from imagebuild.errors import BudgetError
from imagebuild.inspection.contents import CONTENTS_FILE
from imagebuild.pipeline import build
from imagebuild.pipeline.build import build_image
from imagebuild.steps.plan import BuildPlan
from partitions.version import Version
from tests.fakes.definitions import RecordedProgress, plan_in
from tests.fakes.image_makers import FakeMaker
from updater.documents.release import ArtifactKind
from updater.repository.objects import DEFAULT_LEVEL, QUICK_LEVEL, packed_bytes

# Text, which level 19 packs better than level 9 does; of a root filesystem's whole blocks.
ROOT = b"".join(path.read_bytes() for path in sorted(Path(build.__file__).parent.glob("*.py")))
ROOT = ROOT[: len(ROOT) // 4096 * 4096]
ARTIFACTS = {ArtifactKind.UKI: bytes(900), ArtifactKind.ROOT: ROOT, ArtifactKind.VERITY: bytes(4096)}


@pytest.fixture
def plan(tmp_path: Path) -> BuildPlan:
    return plan_in(tmp_path)


def maker(names: str = "ab") -> FakeMaker:
    return FakeMaker(names, artifacts=ARTIFACTS, initrd_bytes=700)


def within(plan: BuildPlan, budget: Budget, *, version: str = "1.0.0") -> BuildPlan:
    out = plan.out.with_name(version)
    definition = replace(plan.definition, budget=budget)
    return replace(plan, definition=definition, version=Version(version), out=out)


def refusal(plan: BuildPlan, progress: RecordedProgress | None = None, make: FakeMaker | None = None) -> str:
    with pytest.raises(BudgetError) as caught:
        build_image(plan, progress=progress, make=maker() if make is None else make)
    assert caught.value.exit_code == 1
    return str(caught.value)


def sent(level: int) -> int:
    contents = ARTIFACTS.values()
    return sum(packed_bytes([content], size_bytes=len(content), level=level) for content in contents)


def test_a_build_within_its_budget_is_finished(plan: BuildPlan) -> None:
    budget = Budget(packages=2, initrd=700, root=len(ROOT), uki=900, wire=sent(QUICK_LEVEL))
    assert build_image(within(plan, budget), make=maker()).fresh


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
    assert "not measured, because the build ended here: initrd, uki" in text


def test_limits_that_become_known_together_are_told_together(plan: BuildPlan) -> None:
    text = refusal(within(plan, Budget(initrd=1, root=1)))
    assert "initrd: " in text
    assert "root: " in text


def test_the_slow_level_is_measured_only_when_the_quick_one_does_not_fit(plan: BuildPlan) -> None:
    assert sent(DEFAULT_LEVEL) < sent(QUICK_LEVEL)
    asked = []
    for number, limit in enumerate((sent(QUICK_LEVEL), sent(DEFAULT_LEVEL))):
        progress = RecordedProgress()
        build_image(within(plan, Budget(wire=limit), version=f"1.0.{number}"), progress=progress, make=maker())
        asked.append([step.rpartition(" ")[2] for step in progress.steps if step.startswith("budget:")])
    assert asked == [["9"], ["9", "19"]]


def test_without_a_limit_nothing_is_packed(plan: BuildPlan) -> None:
    progress = RecordedProgress()
    built = build_image(plan, progress=progress, make=maker())
    assert not any("budget" in step for step in progress.steps)
    assert "budget" not in built.summary.seconds


def test_growth_is_measured_against_the_newest_lower_version(plan: BuildPlan) -> None:
    for version, names in (("1.0.9", "abc"), ("1.0.10", "abd"), ("2.0.0", "a")):
        build_image(within(plan, Budget(), version=version), make=maker(names))
    text = refusal(within(plan, Budget(packages=2), version="1.0.11"), make=maker("abe"))
    assert "packages new against 1.0.10: e" in text
    assert "packages gone against 1.0.10: d" in text


def test_a_damaged_earlier_build_is_told_and_the_one_before_it_is_taken(plan: BuildPlan) -> None:
    for version in ("1.0.0", "1.0.1"):
        build_image(within(plan, Budget(), version=version), make=maker())
    (plan.out.with_name("1.0.1") / CONTENTS_FILE).write_text("[]")
    text = refusal(within(plan, Budget(root=1), version="1.0.2"))
    assert f"not compared with {plan.out.with_name('1.0.1')}: " in text
    assert "no package has another size than in 1.0.0" in text


def test_another_image_and_an_unfinished_build_are_not_compared(plan: BuildPlan) -> None:
    build_image(within(plan, Budget(), version="0.8"), make=maker())
    build_image(within(plan, Budget(), version="0.9"), make=maker())
    (plan.out.with_name("0.9") / "inputs.json").unlink()
    inputs = plan.out.with_name("0.8") / "inputs.json"
    inputs.write_text(json.dumps({**json.loads(inputs.read_text()), "image": "other"}))
    assert "no earlier build of it is in" in refusal(within(plan, Budget(root=1)))
