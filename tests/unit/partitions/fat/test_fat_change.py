"""Renames and replacements as single writes: what they change, what they refuse, and what a power cut leaves."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions.blockio import FileBlockDevice
from partitions.errors import FatError
from partitions.fat.change import SectorWrite, StraddlesSector, plan_forget, plan_move, plan_rename
from partitions.fat.check import FatFlaw, judge
from partitions.fat.directory import Folder
from partitions.fat.names import checksum, slots_needed
from partitions.fat.placement import fillers, place_of_new
from partitions.fat.volume import FatVolume
from partitions.fat.writing import write_sector
from tests.fakes.fat_image import FatImage, long_name, short_slot
from tests.fakes.memory_disk import MemoryDisk, PowerCut

FOLDER = "EFI/Linux"
OLD, NEW = "host_1.0.1+3-0.efi.new", "host_1.0.1+3-0.efi"
UKI = b"uki" * 700
OTHER = "host_1.0.0.efi"
_NAMES = st.text(st.sampled_from("abcXYZ019_+-.~ äß\U0001f600"), min_size=1, max_size=70).filter(
    lambda name: name[-1] not in " ." and name.strip(". ") != ""
)


def disk(*, skip: int = 0, name: str = OLD, bits: int = 32, after: tuple[str, ...] = ()) -> MemoryDisk:
    """A file behind another one and `skip` deleted slots."""
    made = FatImage(bits=bits)
    made.file(f"{FOLDER}/{OTHER}", b"other" * 200)
    made.file(f"{FOLDER}/{name}", UKI, skip=skip)
    for each in after:
        made.file(f"{FOLDER}/{each}", b"after")
    return MemoryDisk(bytes(made.build()))


def folder(device: MemoryDisk) -> Folder:
    return FatVolume.open(device).folder(FOLDER)


def content(device: MemoryDisk, name: str) -> bytes | None:
    entry = FatVolume.open(device).folder(FOLDER).find(name)
    return None if entry is None else FatVolume.open(device).read(entry)


def rename(device: MemoryDisk, old: str, new: str) -> None:
    change = plan_rename(folder(device), old, new)
    assert isinstance(change, SectorWrite)
    write_sector(device, change)


@pytest.mark.parametrize("bits", [16, 32])
def test_a_rename_is_one_write_of_one_sector(bits: int) -> None:
    device = disk(bits=bits)
    rename(device, OLD, NEW)
    assert device.journal == [("write", device.journal[0][1], 512), ("sync", 0, 0)]
    assert device.journal[0][1] % 512 == 0
    assert [each.name for each in folder(device).entries] == [OTHER, NEW]
    assert content(device, NEW) == UKI
    assert judge(device) == ()


def test_a_power_cut_leaves_the_old_name_or_the_new_one() -> None:
    seen = set()
    for steps in itertools.count():
        device = disk()
        device.torn = True
        device.cut_after(steps)
        try:
            rename(device, OLD, NEW)
        except PowerCut:
            device.cut(keep=(0,) if steps else ())
        else:
            break
        (name,) = (each.name for each in folder(device).entries if each.name != OTHER)
        assert content(device, name) == UKI
        assert judge(device) == ()
        seen.add(name)
    assert seen == {OLD, NEW}


def test_a_longer_name_takes_free_slots_next_to_it() -> None:
    device = disk(name=NEW)
    rename(device, NEW, OLD)
    assert content(device, OLD) == UKI
    assert content(device, OTHER) == b"other" * 200
    assert judge(device) == ()


def test_a_longer_name_without_room_in_its_sector_is_refused() -> None:
    device = disk(name=NEW, after=(*"abcde", "G", "H"))
    assert folder(device).require(NEW).in_one_sector
    refused = plan_rename(folder(device), NEW, f"{'x' * 80}.efi")
    assert isinstance(refused, StraddlesSector)
    assert refused.needed == 8
    assert "no 8 slots for its new name" in str(refused)


def test_an_entry_in_two_sectors_is_refused_and_moved() -> None:
    device = disk(skip=10)
    assert not folder(device).require(OLD).in_one_sector
    assert isinstance(plan_rename(folder(device), OLD, NEW), StraddlesSector)
    moves = plan_move(folder(device), OLD, NEW)
    assert len({move.offset // 512 for move in moves}) == len(moves) == 2
    for change in moves:
        write_sector(device, change)
        names = [each.name for each in folder(device).entries]
        assert names == [OTHER, NEW]
        assert content(device, NEW) == UKI
    assert judge(device) == ()


@pytest.mark.parametrize("skip", range(40))
def test_a_move_keeps_the_content_reachable_at_every_write(skip: int) -> None:
    device = disk(skip=skip, after=("a", "b"))
    moves = plan_move(folder(device), OLD, NEW)
    for change in moves:
        write_sector(device, change)
        found = [each.name for each in folder(device).entries]
        assert {OLD, NEW} & set(found)
        assert all(content(device, name) == UKI for name in (OLD, NEW) if name in found)
        assert {each.flaw for each in judge(device)} <= {FatFlaw.CROSS_LINKED, FatFlaw.ORPHAN_SLOTS}
    assert sorted(each.name for each in folder(device).entries) == sorted([OTHER, NEW, "a", "b"])
    assert folder(device).require(NEW).in_one_sector
    assert judge(device) == ()


def test_a_move_into_a_sector_behind_the_end_shows_nothing_that_was_hidden() -> None:
    # The entry fills the first sector to the last slot but one and there is no room for the longer name in it.
    device = disk(skip=5, after=("I",))
    before = folder(device)
    assert before.end == 14
    long = "y" * 120
    moves = plan_move(before, OLD, long)
    assert len(moves) == 3
    for change in moves:
        write_sector(device, change)
        assert folder(device).behind_end == ()
    assert content(device, long) == UKI
    assert judge(device) == ()


def test_a_full_folder_has_no_room_for_a_move() -> None:
    made = FatImage(folder_clusters=1)
    made.file(f"{FOLDER}/{NEW}", UKI, skip=9)
    device = MemoryDisk(bytes(made.build()))
    with pytest.raises(FatError, match="no sector of the folder has 16 free slots"):
        plan_move(folder(device), NEW, "z" * 195)


def test_one_of_two_names_of_a_content_is_forgotten_without_freeing_it() -> None:
    made = FatImage()
    first = made.file(f"{FOLDER}/{OLD}", UKI)
    made.add_slots(FOLDER, NEW, cluster=first, size=len(UKI))
    device = MemoryDisk(bytes(made.build()))
    for change in plan_forget(folder(device), folder(device).require(OLD)):
        write_sector(device, change)
    assert [each.name for each in folder(device).entries] == [NEW]
    assert content(device, NEW) == UKI
    assert judge(device) == ()
    with pytest.raises(FatError, match="the only name"):
        plan_forget(folder(device), folder(device).require(NEW))
    with pytest.raises(FatError, match="not an entry"):
        plan_forget(folder(disk()), folder(device).require(NEW))


@pytest.mark.parametrize("taken", [OTHER, OTHER.upper(), "name~3.tmp"])
def test_a_name_that_exists_is_refused(taken: str) -> None:
    with pytest.raises(FatError, match="already"):
        plan_rename(folder(disk()), OLD, taken)


def test_the_case_of_a_name_can_change() -> None:
    device = disk()
    rename(device, OLD, OLD.upper())
    assert content(device, OLD) == UKI
    assert OLD.upper() in [each.name for each in folder(device).entries]


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "a:b", "x.", "x ", "a\0", "a" * 256, "\ud800", ".", ".."])
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(FatError, match="cannot be the name"):
        plan_rename(folder(disk()), OLD, name)
    with pytest.raises(FatError, match="cannot be the name"):
        place_of_new(folder(disk()), name)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(FatError, match="0 entries are called none"):
        plan_rename(folder(disk()), "none", NEW)


def test_orphans_before_an_entry_never_become_a_part_of_its_name() -> None:
    # Part 4 of a name with four of them, left behind; Linux would go on with the part 3 that follows, whether or not
    # that is marked as the last one, if its checksum were the same.
    made = FatImage()
    made.folder(FOLDER)
    made.folders[FOLDER] += long_name("x" * 50, b"HOST_1~1EFI")[:1]
    made.file(f"{FOLDER}/{OLD}", UKI, skip=1)
    device = MemoryDisk(bytes(made.build()))
    longer = "host_1.0.1+3-0-longer-name.efi"
    rename(device, OLD, longer)
    entry = folder(device).require(longer)
    assert folder(device).orphans == (entry.first_slot - 1,)
    assert entry.short_name == b"HOST_1~2EFI"
    assert [each.flaw for each in judge(device)] == [FatFlaw.ORPHAN_SLOTS]


def test_the_short_name_is_fresh_in_name_and_checksum() -> None:
    device = disk()
    before = folder(device)
    rename(device, OLD, NEW)
    entry = folder(device).require(NEW)
    assert entry.short_name.startswith(b"HOST_1~")
    assert checksum(entry.short_name) not in before.checksums
    assert entry.short_name not in [each.short_name for each in before.entries]


def test_a_sector_that_changed_meanwhile_is_not_written() -> None:
    device = disk()
    change = plan_rename(folder(device), OLD, NEW)
    assert isinstance(change, SectorWrite)
    device.corrupt(change.offset + 31)
    with pytest.raises(FatError, match="changed meanwhile"):
        write_sector(device, change)
    assert device.journal == []


def test_a_sector_that_does_not_reach_the_disk_is_an_error() -> None:
    class Forgetful(MemoryDisk):
        def pwrite(self, offset: int, data: bytes | memoryview) -> None:
            super().pwrite(offset, self.pread(offset, len(data)))

    device = Forgetful(disk().content)
    change = plan_rename(folder(device), OLD, NEW)
    assert isinstance(change, SectorWrite)
    with pytest.raises(FatError, match="did not reach the disk"):
        write_sector(device, change)


def test_what_is_not_a_sector_is_not_written() -> None:
    with pytest.raises(FatError, match="not one sector"):
        write_sector(disk(), SectorWrite(100, bytes(512), bytes(512)))
    with pytest.raises(FatError, match="not one sector"):
        write_sector(disk(), SectorWrite(0, bytes(512), bytes(1024)))


def test_a_file_of_one_sector_is_replaced_by_one_write() -> None:
    made = FatImage()
    made.file("loader/loader.conf", b"default a\n".ljust(512, b"#"))
    made.file("loader/short.conf", b"default a\n")
    device = MemoryDisk(bytes(made.build()))
    new = b"default b\n".ljust(512, b"#")
    write_sector(device, FatVolume.open(device).plan_replace("loader/LOADER.conf", new))
    assert [step[0] for step in device.journal] == ["write", "sync"]
    entry = FatVolume.open(device).find("loader/loader.conf")
    assert entry is not None
    assert FatVolume.open(device).read(entry) == new
    with pytest.raises(FatError, match="10 bytes"):
        FatVolume.open(device).plan_replace("loader/short.conf", new)
    with pytest.raises(FatError, match="does not exist"):
        FatVolume.open(device).plan_replace("loader/none.conf", new)
    with pytest.raises(FatError, match="shall have 3"):
        FatVolume.open(device).plan_replace("loader/loader.conf", b"new")


def test_a_change_of_a_real_file_is_durable(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fat") / "image"
    path.write_bytes(disk().content)
    with FileBlockDevice.open(path, writable=True) as device:
        change = plan_rename(FatVolume.open(device).folder(FOLDER), OLD, NEW)
        assert isinstance(change, SectorWrite)
        write_sector(device, change)
    assert content(MemoryDisk(path.read_bytes()), NEW) == UKI


@given(
    names=st.lists(_NAMES, min_size=1, max_size=8, unique_by=str.upper),
    new=_NAMES,
    place=st.integers(0, 7),
    skips=st.lists(st.integers(0, 20), min_size=8, max_size=8),
)
def test_any_rename_keeps_all_the_rest(names: list[str], new: str, place: int, skips: list[int]) -> None:
    made = FatImage(folder_clusters=20)
    for name, skip in zip(names, skips, strict=False):
        made.file(f"f/{name}", name.encode(), skip=skip)
    device = MemoryDisk(bytes(made.build()))
    old = names[place % len(names)]
    before = FatVolume.open(device).folder("f")
    try:
        planned = plan_rename(before, old, new)
        writes = plan_move(before, old, new)
    except FatError:
        return
    if isinstance(planned, SectorWrite):
        writes = (planned,)
    for change in writes:
        write_sector(device, change)
    found = FatVolume.open(device)
    after = found.folder("f")
    assert {each.name: found.read(each) for each in after.entries} == {
        new if name == old else name: name.encode() for name in names
    }
    assert after.require(new).in_one_sector
    assert len(after.orphans) == 0


@given(
    skips=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    holes=st.lists(st.integers(0, 200)),
    length=st.integers(1, 120),
)
def test_fillers_bring_a_new_file_into_one_sector(skips: list[int], holes: list[int], length: int) -> None:
    made = FatImage(folder_clusters=40)
    made.folder("f")
    for number, skip in enumerate(skips):
        made.file(f"f/file-{number}-{'x' * skip}", b"", skip=skip)
    slots = made.folders["f"]
    # Holes of vfat: whole entries that were removed; any slot does for the search of free ones.
    for hole in holes:
        if 2 <= hole < len(slots):
            slots[hole] = b"\xe5" + slots[hole][1:]
    name = "n" * length
    wanted = fillers(FatVolume.open(MemoryDisk(bytes(made.build()))).folder("f"), name)
    for each in (*wanted, name):
        at = linux_puts(slots, slots_needed(each))
        slots[at : at + slots_needed(each)] = [b"\x01" + bytes(10) + b"\x0f" + bytes(20)] * slots_needed(each)
    assert at // 16 == (at + slots_needed(name) - 1) // 16


def linux_puts(slots: list[bytes], count: int) -> int:
    """The first free slots in a row, as fat_add_entries looks for them."""
    free = 0
    for index, slot in enumerate(slots):
        free = free + 1 if slot[0] in (0, 0xE5) else 0
        if free == count:
            return index + 1 - count
    return len(slots) - free


def test_no_filler_is_needed_where_there_is_room() -> None:
    assert fillers(folder(disk()), OLD) == ()
    assert place_of_new(folder(disk()), OLD).in_one_sector


def test_a_root_folder_of_fat16_cannot_grow() -> None:
    made = FatImage(bits=16)
    made.folders[""] = [short_slot(f"F{number:07}EXT".encode()) for number in range(510)]
    root = FatVolume.open(MemoryDisk(bytes(made.build()))).root()
    assert place_of_new(root, "x").first_slot == 510
    with pytest.raises(FatError, match="cannot grow"):
        place_of_new(root, "a-name-of-three-slots")


def test_a_name_longer_than_a_sector_has_no_fillers() -> None:
    with pytest.raises(FatError, match="needs 17 slots"):
        fillers(folder(disk()), "x" * 200)
