"""What counts as a passed run of the power cut proof."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from powercut import PowercutResult
from powercut_boots import Booted
from powercut_disk import ReplayedDisk
from powercut_judge import Problem, Start, Verdict
from powercut_orders import CutKind
from powercut_var import FileSystems, FileSystemState
from powercut_walk import Findings, State

from imagebuild.inputs.tools import ToolsTree
from partitions.layout import Slot

VERDICT = Verdict(
    frozenset(),
    first=Start("esp", "host_2+3-0.efi", "2"),
    second=Start("xbootldr", "host_1.efi", "1"),
    boots=("2", Slot.B),
    starts=1,
)
STATE = State(7, (), None, VERDICT)


def result(tmp_path: Path, *booted: Booted) -> PowercutResult:
    (tmp_path / "disk").write_bytes(b"x")
    tools = ToolsTree(tmp_path)
    file_systems = FileSystems(ReplayedDisk(tmp_path / "disk"), (), tools, tmp_path)
    findings = Findings(writes=9, flushes=2, prefixes=10, cuts=Counter({CutKind.TORN: 3, CutKind.REORDERED: 2}))
    return PowercutResult(findings, file_systems, 1, booted, 5, 1.25)


@pytest.mark.parametrize("entry", ["host_2+3-0.efi", "HOST_2+3-0.EFI", "host_2.efi"])
def test_the_entry_that_was_named_and_the_version_came_up(entry: str) -> None:
    assert Booted(STATE, "2", entry).as_judged


@pytest.mark.parametrize(("version", "entry"), [("1", "host_1.efi"), ("2", "host_3.efi"), (None, None)])
def test_anything_else_is_not_as_judged(version: str | None, entry: str | None) -> None:
    assert not Booted(STATE, version, entry).as_judged


def test_after_a_fallback_only_the_version_counts() -> None:
    state = replace(STATE, verdict=replace(VERDICT, boots=("1", Slot.A), starts=4))
    assert Booted(state, "1", "host_1.efi").as_judged
    assert not Booted(state, "2", "host_2+3-0.efi").as_judged


def test_nothing_comes_up_where_nothing_should() -> None:
    state = replace(STATE, verdict=Verdict(frozenset({Problem.UNBOOTABLE})))
    assert Booted(state, None, None).as_judged
    assert not Booted(state, "1", "host_1.efi").as_judged


def test_a_run_holds_only_without_problems(tmp_path: Path) -> None:
    assert result(tmp_path, Booted(STATE, "2", "host_2.efi")).held
    assert not result(tmp_path, Booted(STATE, "1", "host_1.efi")).held
    lost = result(tmp_path)
    lost.file_systems.found[FileSystemState.LOST] = 1
    assert not lost.held
    bad = result(tmp_path)
    bad.findings.problems[Problem.EMPTY_ENTRY] = 1
    assert not bad.held


def test_the_document_has_all_figures(tmp_path: Path) -> None:
    values = result(tmp_path, Booted(STATE, "2", "host_2.efi")).values()
    wanted = {"writes": 9, "flushes": 2, "states_checked": 15, "reordered": 2, "torn": 3, "booted": 1, "unbootable": 0}
    assert wanted.items() <= values.items()
    assert values["seeds"] == [5]
    assert values["problems"] == dict.fromkeys((problem.name.lower() for problem in Problem), 0)
