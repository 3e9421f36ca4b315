"""The judge of power cuts: a right order passes at every cut, and each wrong one is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from powercut_disk import Piece, ReplayedDisk
from powercut_judge import Judge, Problem, Start
from powercut_log import WriteLog
from powercut_orders import CutKind
from powercut_slots import whole_by_hashing
from powercut_walk import Findings, WalkOptions, walk

from partitions import verity
from partitions.blockio import DeviceWindow
from partitions.disk import write_identity
from partitions.errors import VerityError
from partitions.fat.change import SectorWrite, plan_rename
from partitions.fat.check import FatFlaw
from partitions.fat.volume import FatVolume
from partitions.fat.writing import write_sector
from partitions.layout import Slot
from tests.fakes.small_host import BLESSED, FIRST, LOADER, SECOND, STAGED, TRIAL, SmallHost, boot_partition, esp

ESP_LOADER = Start("esp", BLESSED, "1")


def flip(host: SmallHost, old: str = STAGED, new: str = TRIAL) -> None:
    where = host.where.xbootldr
    window = DeviceWindow(host.disk, where.offset_bytes, where.size_bytes)
    change = plan_rename(FatVolume.open(window).folder("EFI/Linux"), old, new)
    assert isinstance(change, SectorWrite)
    write_sector(window, change)


def verify(host: SmallHost) -> None:
    where = host.where.b
    data = DeviceWindow(host.disk, where.data.offset_bytes, where.data.size_bytes)
    tree = DeviceWindow(host.disk, where.verity.offset_bytes, where.verity.size_bytes)
    verity.verify(data, tree, root_hash=SECOND.root_hash)


def update(host: SmallHost) -> None:
    """The order that I4 demands."""
    host.write_slot()
    host.disk.sync()
    verify(host)
    host.set_identity()
    host.add_uki()
    host.disk.sync()
    flip(host)


@pytest.fixture
def host() -> SmallHost:
    return SmallHost()


def judge_of(host: SmallHost, path: Path) -> tuple[ReplayedDisk, Judge]:
    (path / "before").write_bytes(host.before)
    disk = ReplayedDisk(path / "before")
    return disk, Judge(disk, host.where, (FIRST, SECOND), frozenset({LOADER}))


def walked(host: SmallHost, path: Path, *, cuts: int = 8) -> Findings:
    disk, judge = judge_of(host, path)
    return walk(disk, judge, WriteLog(host.log(path / "log")), WalkOptions(cuts_per_epoch=cuts))


def test_the_right_order_passes_at_every_cut(host: SmallHost, tmp_path: Path) -> None:
    update(host)
    found = walked(host, tmp_path)
    assert found.problems == {}
    assert found.prefixes == found.writes + 1
    assert found.writes > 40
    assert found.flushes > 6
    assert found.cuts[CutKind.REORDERED] >= 20
    assert found.cuts[CutKind.TORN] >= 20
    boots = {state.verdict.boots for states in found.kinds.values() for state in states}
    assert boots == {("1", Slot.A), ("2", Slot.B)}
    firsts = {state.verdict.first for states in found.kinds.values() for state in states}
    assert firsts == {ESP_LOADER, Start("esp", TRIAL, "2")}


def test_the_second_loader_starts_the_other_entry(host: SmallHost, tmp_path: Path) -> None:
    update(host)
    disk, judge = judge_of(host, tmp_path)
    for request in filter(None, host.disk.requests):
        disk.apply(request.offset, request.data)
    verdict = judge.verdict()
    assert (verdict.first, verdict.second) == (Start("esp", TRIAL, "2"), Start("xbootldr", BLESSED, "1"))
    assert not verdict.fell_back
    where = host.where.xbootldr
    volume = FatVolume.open(DeviceWindow(disk, where.offset_bytes, where.size_bytes))
    (extent, *_) = volume.extents(volume.folder("EFI/Linux").require(TRIAL))
    disk.apply(where.offset_bytes + extent.offset + 600, b"?")
    damaged = judge.verdict()
    assert damaged.boots == ("1", Slot.A)
    assert damaged.fell_back
    assert damaged.problems == {Problem.BROKEN_FIRST}


def test_a_trial_of_a_broken_slot_falls_back_after_its_tries(host: SmallHost, tmp_path: Path) -> None:
    update(host)
    disk, judge = judge_of(host, tmp_path)
    for request in filter(None, host.disk.requests):
        disk.apply(request.offset, request.data)
    disk.apply(host.where.b.data.offset_bytes + 5000, b"?")
    verdict = judge.verdict()
    assert (verdict.boots, verdict.starts) == (("1", Slot.A), 4)
    assert verdict.problems == {Problem.BROKEN_FIRST, Problem.MISNAMED_SLOT}


def test_a_damaged_loader_is_passed_over(host: SmallHost, tmp_path: Path) -> None:
    disk, judge = judge_of(host, tmp_path)
    disk.apply(host.where.esp.offset_bytes, bytes(512))
    verdict = judge.verdict()
    assert (verdict.first, verdict.boots) == (None, ("1", Slot.A))
    assert verdict.fell_back
    disk.apply(host.where.xbootldr.offset_bytes, bytes(512))
    assert Problem.UNBOOTABLE in judge.verdict().problems


def test_a_spare_on_the_esp_boots_when_the_other_partition_is_lost(host: SmallHost, tmp_path: Path) -> None:
    made = esp()
    made.file(f"EFI/Linux/{BLESSED}", FIRST.uki)
    disk, judge = judge_of(host, tmp_path)
    disk.apply(host.where.esp.offset_bytes, bytes(made.build()))
    # Of two entries that are alike the loader takes the one of its own partition.
    assert judge.verdict().first == Start("esp", BLESSED, "1", "esp")
    assert judge.verdict().second == Start("xbootldr", BLESSED, "1")
    disk.apply(host.where.xbootldr.offset_bytes, bytes(512))
    verdict = judge.verdict()
    assert (verdict.first, verdict.second) == (Start("esp", BLESSED, "1", "esp"), None)
    assert verdict.problems == frozenset()
    where = host.where.esp
    volume = FatVolume.open(DeviceWindow(disk, where.offset_bytes, where.size_bytes))
    (extent,) = volume.extents(volume.folder("EFI/Linux").require(BLESSED))
    with disk.trial([Piece(where.offset_bytes + extent.offset + 600, b"?")]):
        assert judge.verdict().problems == {Problem.BROKEN_FIRST, Problem.UNBOOTABLE}


def test_a_table_is_lost_only_with_both_copies(host: SmallHost, tmp_path: Path) -> None:
    disk, judge = judge_of(host, tmp_path)
    disk.apply(512, bytes(512))
    assert judge.verdict().backup_table
    assert judge.verdict().problems == frozenset()
    disk.apply(disk.size_bytes - 512, bytes(512))
    assert judge.verdict().problems == {Problem.TABLE_LOST, Problem.UNBOOTABLE}


def test_a_step_that_is_taken_back_is_judged_as_before(host: SmallHost, tmp_path: Path) -> None:
    disk, judge = judge_of(host, tmp_path)
    before = judge.verdict()
    judged = judge.judged
    with disk.trial([Piece(host.where.a.data.offset_bytes, bytes(4096))]):
        assert judge.verdict().problems == {Problem.UNBOOTABLE, Problem.BROKEN_FIRST, Problem.MISNAMED_SLOT}
        assert judge.judged == judged + 1
    assert judge.verdict() == before
    assert judge.judged == judged + 1


def test_flaws_of_the_boot_partition_are_counted(host: SmallHost, tmp_path: Path) -> None:
    host.add_uki()
    host.disk.requests.pop()
    found = walked(host, tmp_path, cuts=0)
    assert found.flaws[FatFlaw.LOST_CLUSTERS.name] > 0
    assert found.problems == {}


def flip_before_verify(host: SmallHost) -> None:
    """A disk that lost a write; nobody looks before the flip."""
    where = host.where.b.data
    host.disk.lies.append(range(where.offset_bytes + 8192, where.offset_bytes + 12288))
    host.write_slot()
    host.disk.sync()
    host.add_uki()
    host.disk.sync()
    flip(host)


def flip_before_the_slot_is_durable(host: SmallHost) -> None:
    host.add_uki()
    host.disk.sync()
    host.write_slot()
    flip(host)
    host.set_identity()


def identity_before_data(host: SmallHost) -> None:
    host.set_identity()
    host.write_slot()
    host.disk.sync()
    host.add_uki()
    host.disk.sync()
    flip(host)


def uki_before_slot(host: SmallHost) -> None:
    host.add_uki(TRIAL)
    host.disk.sync()
    host.write_slot()
    host.disk.sync()
    host.set_identity()


def no_sync_between(host: SmallHost) -> None:
    update(host)
    host.disk.requests = [request for request in host.disk.requests if request is not None]


def blessed_slot_written(host: SmallHost) -> None:
    host.write_slot(Slot.A)
    host.disk.sync()


def blessed_name_in_two_steps(host: SmallHost) -> None:
    """As a driver renames: the old name goes, then the new one comes."""
    where = host.where.xbootldr
    made = boot_partition()
    raw, at = made.build(), made.offset(made.first["EFI/Linux"])
    sector = bytearray(raw[at : at + 512])
    for slot in range(2, 16):
        sector[slot * 32] = sector[slot * 32] and 0xE5
    host.disk.pwrite(where.offset_bytes + at, bytes(sector))
    host.disk.sync()
    host.disk.pwrite(where.offset_bytes + at, bytes(raw[at : at + 512]))


def empty_name_first(host: SmallHost) -> None:
    """As Linux' vfat renames: the name is durable with length 0 first (H27); here it is the blessed one's."""
    where = host.where.xbootldr
    made = boot_partition()
    at = made.offset(made.first["EFI/Linux"])
    raw = made.build()
    sector = bytearray(raw[at : at + 512])
    # The length in the last of the blessed entry's slots.
    last = 2 + 1
    sector[last * 32 + 28 : last * 32 + 32] = bytes(4)
    host.disk.pwrite(where.offset_bytes + at, bytes(sector))
    host.disk.sync()
    host.disk.pwrite(where.offset_bytes + at, bytes(raw[at : at + 512]))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (flip_before_verify, Problem.BROKEN_FIRST),
        (flip_before_the_slot_is_durable, Problem.BROKEN_FIRST),
        (identity_before_data, Problem.MISNAMED_SLOT),
        (uki_before_slot, Problem.BROKEN_FIRST),
        (no_sync_between, Problem.BROKEN_FIRST),
        (no_sync_between, Problem.MISNAMED_SLOT),
        (blessed_slot_written, Problem.UNBOOTABLE),
        (blessed_name_in_two_steps, Problem.UNBOOTABLE),
        (empty_name_first, Problem.UNBOOTABLE),
        (empty_name_first, Problem.EMPTY_ENTRY),
    ],
    ids=lambda value: getattr(value, "__name__", None) or value.name.lower(),
)
def test_a_wrong_order_is_caught(
    host: SmallHost, tmp_path: Path, wrong: Callable[[SmallHost], None], problem: Problem
) -> None:
    wrong(host)
    # Without flushes all the writes are one epoch, in which few of the cuts are the wrong ones.
    found = walked(host, tmp_path, cuts=64 if wrong is no_sync_between else 3)
    assert found.problems[problem] > 0
    assert found.first_bad[problem].verdict.problems >= {problem}


def test_reading_back_stops_an_update_whose_data_were_lost(host: SmallHost, tmp_path: Path) -> None:
    where = host.where.b.data
    host.disk.lies.append(range(where.offset_bytes + 8192, where.offset_bytes + 12288))
    with pytest.raises(VerityError):
        update(host)
    assert walked(host, tmp_path).problems == {}


def test_the_sample_has_every_kind_of_state(host: SmallHost, tmp_path: Path) -> None:
    update(host)
    found = walked(host, tmp_path)
    sample = found.sample(len(found.kinds), 1)
    assert {state.verdict.first for state in sample} == {ESP_LOADER, Start("esp", TRIAL, "2")}
    assert [state.requests for state in sample] == sorted(state.requests for state in sample)
    assert len(found.sample(3, 1)) == 3


def test_the_same_seed_finds_the_same(host: SmallHost, tmp_path: Path) -> None:
    update(host)
    one, two = walked(host, tmp_path), walked(host, tmp_path)
    assert (one.cuts, one.fell_back, one.sample(9, 1)) == (two.cuts, two.fell_back, two.sample(9, 1))


def test_an_identity_that_is_set_back_is_not_misnamed(host: SmallHost, tmp_path: Path) -> None:
    write_identity(host.disk, host.where.b.data_index, uuid=host.where.b.data.uuid, label="_empty")
    assert walked(host, tmp_path).problems == {}


def test_what_is_known_of_a_slot_is_what_its_hashes_say(host: SmallHost, tmp_path: Path) -> None:
    update(host)
    disk, judge = judge_of(host, tmp_path)
    for request in filter(None, host.disk.requests):
        disk.apply(request.offset, request.data)
    assert judge.content(Slot.B).holds(SECOND)
    whole_by_hashing(disk, host.where.b, SECOND)
    assert not judge.content(Slot.B).holds(FIRST)
    with pytest.raises(VerityError):
        whole_by_hashing(disk, host.where.b, FIRST)
    with disk.trial([Piece(host.where.b.verity.offset_bytes + 4100, b"?")]):
        assert not judge.content(Slot.B).holds(SECOND)
        with pytest.raises(VerityError):
            whole_by_hashing(disk, host.where.b, SECOND)
