"""The parts of the power cut proof: the log, the replayed disk, other orders, and the model of the loader."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from powercut_disk import Piece, ReplayedDisk
from powercut_loader import LoaderEntry, default_of, in_order, make_entry, os_release_of, pick
from powercut_log import DISCARD, FLUSH, FUA, MAGIC, MARK, DiskRequest, PowercutError, RequestKind, WriteLog
from powercut_orders import CutKind, cuts, epochs

from partitions.errors import BlockIOError
from tests.fakes.small_host import uki

OS_RELEASE = {"NAME": "Host", "ID": "debian", "IMAGE_ID": "host", "IMAGE_VERSION": "1.0.0"}


def log_of(path: Path, *entries: tuple[int, int, int, bytes], count: int | None = None) -> WriteLog:
    """A log of (sector, sectors, flags, data)."""
    raw = struct.pack("<QQQI", MAGIC, 1, len(entries) if count is None else count, 512).ljust(512, b"\0")
    for sector, sectors, flags, data in entries:
        raw += struct.pack("<QQQQ", sector, sectors, flags, len(data) if flags & MARK else 0).ljust(512, b"\0")
        raw += data.ljust(-(-len(data) // 512) * 512, b"\0")
    path.write_bytes(raw)
    return WriteLog(path)


def test_a_log_is_read_in_order(tmp_path: Path) -> None:
    log = log_of(
        tmp_path / "log",
        (8, 1, 0, b"a" * 512),
        (0, 0, MARK, b"a mark"),
        (0, 0, FLUSH, b""),
        (16, 2, FUA, b"b" * 1024),
        (32, 4, DISCARD, b""),
        (40, 1, FLUSH, b"c" * 512),
    )
    requests = list(log.requests())
    kinds = ["write", "flush", "write", "flush", "discard", "flush", "write"]
    assert [request.kind.value for request in requests] == kinds
    assert [(each.offset, each.length) for each in requests if each.kind is not RequestKind.FLUSH] == [
        (8 * 512, 512),
        (16 * 512, 1024),
        (32 * 512, 2048),
        (40 * 512, 512),
    ]
    assert [log.data(each)[:1] for each in requests if each.kind is RequestKind.WRITE] == [b"a", b"b", b"c"]
    assert log.data(requests[4]) == bytes(2048)


@pytest.mark.parametrize("content", [b"", b"\0" * 512, struct.pack("<QQQI", MAGIC, 2, 0, 512).ljust(512, b"\0")])
def test_what_is_not_a_log_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(PowercutError, match="log of writes"):
        WriteLog(tmp_path / "log")


def test_a_log_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PowercutError, match="before request 1 of 2"):
        list(log_of(tmp_path / "log", (0, 0, FLUSH, b""), count=2).requests())
    with pytest.raises(PowercutError, match="request 0 has 1024 bytes"):
        list(log_of(tmp_path / "log", (0, 2, 0, b"a" * 512)).requests())


def test_a_step_is_taken_back_with_its_generations(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(range(256)) * 16)
    disk = ReplayedDisk(tmp_path / "disk", {"start": [range(1024)], "end": [range(3072, 4096)]})
    before = disk.pread(0, 4096), disk.generation("start", "end")
    with disk.trial([Piece(1000, b"x" * 100), Piece(1020, b"y" * 100)]):
        assert disk.pread(1018, 4) == b"xxyy"
        assert disk.generation("end") == before[1][1:]
        assert disk.generation("start") != before[1][:1]
    assert (disk.pread(0, 4096), disk.generation("start", "end")) == before
    disk.apply(4000, b"z")
    assert disk.generation("end") != before[1][1:]
    with pytest.raises(BlockIOError):
        disk.apply(4090, b"too long")
    assert (tmp_path / "disk").read_bytes() == before[0]


def test_pieces_that_hold_something_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate(16 << 20)
        stream.seek(5 << 20)
        stream.write(b"x" * 4096)
    disk = ReplayedDisk(path)
    disk.apply(9 << 20, b"y")
    listed = list(disk.data_chunks(range(4 << 20, 12 << 20)))
    assert (5 << 20, 1 << 20) in listed
    assert (9 << 20, 1 << 20) in listed
    assert (4 << 20, 1 << 20) not in listed


def test_epochs_end_with_flushes() -> None:
    flush, write = DiskRequest(RequestKind.FLUSH), DiskRequest(RequestKind.WRITE, 0, 512)
    found = list(epochs([write, write, flush, flush, write]))
    assert [(len(writes), flushed) for writes, flushed in found] == [(2, True), (0, True), (1, False)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers())
def test_every_cut_is_a_state_that_the_recorded_order_does_not_have(sizes: list[int], seed: int) -> None:
    starts = itertools.accumulate(sizes, initial=0)
    writes = [Piece(at * 512, bytes([at + 1]) * (size * 512)) for at, size in zip(starts, sizes, strict=False)]

    def after(pieces: list[Piece]) -> bytes:
        disk = bytearray(sum(sizes) * 512)
        for piece in pieces:
            disk[piece.offset : piece.offset + len(piece.data)] = piece.data
        return bytes(disk)

    beginnings = {after(writes[:count]) for count in range(len(writes) + 1)}
    made = list(cuts(writes, Random(seed), 5))  # noqa: S311 - choices, not secrets
    for cut in made:
        result = after(list(cut.pieces))
        assert result not in beginnings
        for at in range(0, len(result), 512):
            sector = result[at : at + 512]
            assert sector in (bytes(512), after(writes)[at : at + 512])
    assert {cut.kind for cut in made} <= set(CutKind)
    assert len(writes) == 1 or any(cut.kind is CutKind.REORDERED for cut in made)
    assert max(sizes) == 1 or any(cut.kind is CutKind.TORN for cut in made)


def entry(name: str, version: str, **more: str) -> LoaderEntry:
    made = make_entry(name, {**OS_RELEASE, "IMAGE_VERSION": version, **more})
    assert made is not None
    return made


def names(*entries: LoaderEntry) -> list[str]:
    return [each.file_name for each in in_order(entries)]


def test_the_newest_version_with_tries_left_is_first() -> None:
    old, trial, bad = (
        entry("h_1.0.9.efi", "1.0.9"),
        entry("h_1.0.10+2-1.efi", "1.0.10"),
        entry("h_1.0.11+0-3.efi", "1.0.11"),
    )
    assert names(old, bad, trial) == [trial.file_name, old.file_name, bad.file_name]
    assert pick([bad]) == bad
    assert pick([]) is None


def test_the_version_is_the_one_inside_and_not_the_name_s() -> None:
    assert names(entry("h_9.efi", "1"), entry("h_1.efi", "2")) == ["h_1.efi", "h_9.efi"]


def test_images_are_sorted_before_their_versions() -> None:
    assert names(entry("a.efi", "1", IMAGE_ID="b"), entry("b.efi", "1", IMAGE_ID="a")) == ["b.efi", "a.efi"]
    no_key = make_entry("z.efi", {"NAME": "x", "VERSION_ID": "9"})
    assert no_key is not None
    assert names(no_key, entry("a.efi", "1"))[-1] == "z.efi"


def test_of_two_counters_the_one_with_more_tries_is_first() -> None:
    assert names(entry("h+1-2.efi", "1"), entry("H+2-1.efi", "1"))[0] == "H+2-1.efi"


def test_a_default_is_taken_even_without_tries() -> None:
    new, old = entry("h_2.efi", "2"), entry("H_1+0-3.efi", "1")
    assert pick([new, old], default="h_1*") == old
    assert pick([new, old], default="h_[2].efi") == new
    assert pick([new, old], default="none*") == new


@pytest.mark.parametrize("name", ["x.conf", ".hidden.efi", "auto-x.efi", "x.efi.new"])
def test_other_files_are_skipped(name: str) -> None:
    assert make_entry(name, OS_RELEASE) is None


def test_a_program_without_an_os_release_is_skipped() -> None:
    assert make_entry("x.efi", None) is None
    assert make_entry("x.efi", {"ID": "debian"}) is None


@pytest.mark.parametrize(
    ("name", "left", "after"),
    [
        ("h_1+3-0.efi", 3, "h_1+2-1.efi"),
        ("h_1+3.efi", 3, "h_1+2-1.efi"),
        ("h_1+0-9.efi", 0, "h_1+0-10.efi"),
        ("h_1.efi", None, "h_1.efi"),
        ("h+1_2.efi", None, "h+1_2.efi"),
        ("h+x+3-0.EFI", 3, "h+x+2-1.EFI"),
    ],
)
def test_a_counter_is_read_and_counts_down(name: str, left: int | None, after: str) -> None:
    made = entry(name, "1")
    assert made.tries_left == left
    assert made.bumped().file_name == after


def test_the_default_of_a_configuration_is_its_last_one() -> None:
    assert default_of(b"timeout 0\n#default x\ndefault a*\n default  b*  \n") == "b*"
    assert default_of(b"timeout 0\ndefault\n\xff") is None


def test_the_os_release_of_a_uki_is_read() -> None:
    assert os_release_of(uki("7")) == {"NAME": "Host", "IMAGE_ID": "host", "IMAGE_VERSION": "7"}


@pytest.mark.parametrize("program", [b"", b"MZ", bytes(100), uki("7")[:0x60], b"MZ" + b"\xff" * 200])
def test_a_damaged_program_has_no_os_release(program: bytes) -> None:
    assert os_release_of(program) is None


@given(st.integers(0, 0x1FF), st.integers(0, 255))
def test_any_header_is_read_or_not(offset: int, value: int) -> None:
    program = bytearray(uki("7", filler=10))
    program[offset] = value
    os_release_of(bytes(program))
