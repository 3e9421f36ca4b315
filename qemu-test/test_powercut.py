"""A recorded life of a host, judged at every write; `make powercut` does more of the same.

A good update to its blessing and a bad one to its fallback are recorded once.  All states are judged; four are booted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import pytest
from disks import map_of
from powercut import PowercutOptions, PowercutResult, make_judge, run
from powercut_boots import Booted
from powercut_disk import Piece
from powercut_judge import Judge, Problem
from powercut_log import DiskRequest, RequestKind, WriteLog
from powercut_orders import CutKind
from powercut_recording import Recording, record
from powercut_var import FileSystemState
from powercut_walk import WalkOptions
from workbench import FIRST, SECOND, SICK, Workbench

BOOTS = 4
# A recording has hundreds of writes; far fewer would mean that it does not show the updates.
LEAST_WRITES = 500
LEAST_CUTS = 200


@pytest.fixture(scope="module")
def recording(bench: Workbench) -> Recording:
    return record(bench)


@pytest.fixture(scope="module")
def result(bench: Workbench, recording: Recording) -> PowercutResult:
    walk = WalkOptions(cuts_per_epoch=24)
    return run(bench, recording, PowercutOptions(walk, boots=BOOTS, file_system_checks=8, hash_checks=4))


def test_the_recording_shows_both_updates(result: PowercutResult) -> None:
    found = result.findings
    assert found.writes >= LEAST_WRITES
    assert found.prefixes == found.writes + 1
    assert all(found.cuts[kind] >= LEAST_CUTS for kind in CutKind)
    states = [state.verdict for states in found.kinds.values() for state in states]
    assert {verdict.first.version for verdict in states if verdict.first} >= {FIRST, SECOND, SICK}
    assert {verdict.boots[0] for verdict in states if verdict.boots} >= {FIRST, SECOND}


def test_every_state_comes_up_by_itself(result: PowercutResult) -> None:
    assert result.findings.problems == {}, result.findings.first_bad


def test_the_host_s_own_file_systems_are_repaired(result: PowercutResult) -> None:
    checked = result.file_systems.found
    assert checked.total() > 0
    assert checked[FileSystemState.LOST] == 0


def test_sampled_states_come_up_as_judged(result: PowercutResult) -> None:
    assert len(result.booted) == BOOTS
    wrong: list[Booted] = [booted for booted in result.booted if not booted.as_judged]
    assert wrong == []


@dataclass
class Permuted:
    """The recording up to the middle of the first slot that is written, and what is written from there to the flip."""

    judge: Judge
    log: WriteLog
    rest: list[DiskRequest]

    def early(self, region: str) -> list[Piece]:
        """What is written to a region until the flip, as if all of it came before the rest of the slot."""
        touched = [each for each in self.rest if self.judge.disk.touches(region, each.offset, each.length)]
        return [Piece(each.offset, self.log.data(each)) for each in touched]


@pytest.fixture(scope="module")
def permuted(bench: Workbench, recording: Recording) -> Permuted:
    log = WriteLog(recording.log)
    judge = make_judge(bench, recording)
    writes = [request for request in log.requests() if request.kind is not RequestKind.FLUSH]
    slot = map_of(recording.before).b.data
    inside = [at for at, each in enumerate(writes) if slot.offset_bytes <= each.offset < slot.offset_bytes + (64 << 20)]
    middle = inside[len(inside) // 2]
    for request in islice(writes, middle):
        judge.disk.apply(request.offset, log.data(request))
    ahead = make_judge(bench, recording)
    for flip, request in enumerate(writes):
        ahead.disk.apply(request.offset, log.data(request))
        first = ahead.verdict().first
        if flip > middle and first is not None and first.version == SECOND:
            return Permuted(judge, log, writes[middle : flip + 1])
    pytest.fail("the recording has no flip")


@pytest.mark.parametrize(("region", "problem"), [("xbootldr", Problem.BROKEN_FIRST), ("table", Problem.MISNAMED_SLOT)])
def test_the_same_writes_in_a_wrong_order_are_caught(permuted: Permuted, region: str, problem: Problem) -> None:
    assert permuted.judge.verdict().problems == frozenset()
    with permuted.judge.disk.trial(permuted.early(region)):
        assert problem in permuted.judge.verdict().problems
    assert permuted.judge.verdict().problems == frozenset()
