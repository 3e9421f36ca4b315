"""Reading a FAT file system: folders, names, content, and what is refused."""

from __future__ import annotations

import struct

import pytest

from partitions.blockio import DeviceWindow
from partitions.errors import BlockIOError, FatError
from partitions.fat.check import FatFlaw, judge
from partitions.fat.geometry import FatKind
from partitions.fat.volume import FatVolume, plan_boot_sector
from partitions.fat.writing import write_sector
from tests.fakes.fat_image import SECTOR, FatImage, long_name, short_slot
from tests.fakes.memory_disk import MemoryDisk

UKI = bytes(range(256)) * 9
NAME = "EFI/Linux/host_1.0.0.efi"


def image(bits: int = 32, *, clusters: int = 200, per_cluster: int = 1) -> FatImage:
    made = FatImage(bits=bits, clusters=clusters, per_cluster=per_cluster)
    made.file(NAME, UKI)
    made.file("loader/loader.conf", b"timeout 0\n".ljust(512))
    made.file("EFI/BOOT/BOOTX64.EFI", b"loader")
    made.file("EMPTY", b"")
    return made


def volume(content: bytes | bytearray) -> FatVolume:
    return FatVolume.open(MemoryDisk(bytes(content)))


def flaws(content: bytes | bytearray) -> list[FatFlaw]:
    return [finding.flaw for finding in judge(MemoryDisk(bytes(content)))]


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("per_cluster", [1, 4])
def test_files_are_found_in_any_case_and_read(bits: int, per_cluster: int) -> None:
    found = volume(image(bits, per_cluster=per_cluster).build())
    assert found.geometry.kind is (FatKind.FAT16 if bits == 16 else FatKind.FAT32)
    for path in (NAME, NAME.upper(), NAME.lower()):
        entry = found.find(path)
        assert entry is not None
        assert (entry.name, entry.size_bytes) == ("host_1.0.0.efi", len(UKI))
        assert found.read(entry) == UKI
        assert b"".join(found.chunks(entry)) == UKI
        assert found.read(entry, 500, 1000) == UKI[500:1500]
        assert found.read(entry, len(UKI) - 3, 100) == UKI[-3:]
    assert [each.name for each in found.folder("EFI/BOOT").entries] == ["BOOTX64.EFI"]
    empty = found.find("empty")
    assert empty is not None
    assert found.read(empty) == b""
    assert found.find("EFI/Linux/none.efi") is None
    with pytest.raises(FatError, match="0 entries are called none"):
        found.folder("EFI/none")
    with pytest.raises(FatError, match="not a folder"):
        found.folder(NAME)


@pytest.mark.parametrize("bits", [16, 32])
def test_a_whole_file_system_has_no_flaw(bits: int) -> None:
    assert flaws(image(bits).build()) == []


def test_a_file_system_in_a_window_stays_in_it() -> None:
    content = bytes(image().build())
    disk = MemoryDisk(bytes(4096) + content + bytes(4096))
    found = FatVolume.open(DeviceWindow(disk, 4096, len(content)))
    assert found.find(NAME) is not None
    with pytest.raises(FatError, match="the partition"):
        FatVolume.open(DeviceWindow(disk, 4096, len(content) - 512))


def test_a_damaged_boot_sector_is_read_from_the_backup() -> None:
    content = image().build()
    content[:SECTOR] = bytes(SECTOR)
    found = volume(content)
    assert found.geometry.from_backup
    assert not found.geometry.firmware_readable
    assert found.find(NAME) is not None
    assert flaws(content) == [FatFlaw.BACKUP_USED]
    content[6 * SECTOR : 7 * SECTOR] = bytes(SECTOR)
    with pytest.raises(FatError, match="no signature"):
        volume(content)


def test_a_damaged_boot_sector_is_put_right_by_one_write() -> None:
    content = image().build()
    whole = bytes(content)
    assert plan_boot_sector(MemoryDisk(whole)) is None
    content[:SECTOR] = b"\xde" * SECTOR
    disk = MemoryDisk(bytes(content))
    planned = plan_boot_sector(disk)
    assert planned is not None
    write_sector(disk, planned)
    assert disk.content == whole
    content[6 * SECTOR : 7 * SECTOR] = bytes(SECTOR)
    assert plan_boot_sector(MemoryDisk(bytes(content))) is None


def test_fat16_has_no_backup() -> None:
    content = image(16).build()
    content[510] = 0
    with pytest.raises(FatError, match="no signature"):
        volume(content)


@pytest.mark.parametrize(
    ("offset", "form", "value", "message"),
    [
        (11, "<H", 513, "sectors of 513"),
        (13, "<B", 3, "clusters of 3 sectors"),
        (13, "<B", 0, "clusters of 0 sectors"),
        (14, "<H", 0, "0 reserved sectors"),
        (16, "<B", 3, "3 tables"),
        (17, "<H", 16, "fixed root entries"),
        (19, "<H", 5, "given as 5"),
        (32, "<I", 0xFFFFFFFF, "the partition"),
        (36, "<I", 0xFFFFFF, "does not fit"),
        (36, "<I", 1, "for .* clusters"),
        (40, "<H", 0x8F, "table 15 is to be used"),
        (42, "<H", 1, "version 1"),
        (44, "<I", 1, "root cluster 1"),
        (44, "<I", 0xFFFFFF, "root cluster 16777215"),
    ],
)
def test_an_impossible_boot_sector_is_refused(offset: int, form: str, value: int, message: str) -> None:
    content = image(clusters=400).build()
    content[6 * SECTOR : 7 * SECTOR] = bytes(SECTOR)
    struct.pack_into(form, content, offset, value)
    with pytest.raises(FatError, match=message):
        volume(content)


def test_a_device_without_room_for_a_boot_sector_is_refused() -> None:
    with pytest.raises(FatError, match="100 bytes"):
        volume(bytes(100))


def test_too_few_clusters_are_read_but_not_by_firmware() -> None:
    assert not volume(image().build()).geometry.firmware_readable
    assert volume(image(16).build()).geometry.firmware_readable


def test_an_unreadable_sector_is_an_error_of_the_device() -> None:
    disk = MemoryDisk(bytes(image().build()))
    disk.broken_ranges.append(range(32 * SECTOR, 33 * SECTOR))
    with pytest.raises(BlockIOError):
        FatVolume.open(disk)


def test_a_name_without_its_long_slots_is_the_short_one() -> None:
    made = image()
    slots = made.folders["EFI/Linux"]
    slots[2] = b"\xe5" + slots[2][1:]
    content = made.build()
    assert [each.name for each in volume(content).folder("EFI/Linux").entries] == ["NAME~3.TMP"]
    assert flaws(content) == [FatFlaw.ORPHAN_SLOTS]


def test_long_slots_of_another_short_name_are_orphans() -> None:
    made = image()
    made.folders["EFI/Linux"] += [*long_name("other.efi", b"OTHER   EFI"), short_slot(b"WRONG   EFI")]
    content = made.build()
    assert [each.name for each in volume(content).folder("EFI/Linux").entries] == ["host_1.0.0.efi", "WRONG.EFI"]
    assert flaws(content) == [FatFlaw.ORPHAN_SLOTS]


def test_orphans_before_a_name_do_not_harm_it() -> None:
    made = image()
    made.folders["EFI/Linux"] += long_name("left-behind_9.efi", b"LEFT~1  EFI")
    made.file("EFI/Linux/next_2.0.0.efi", b"next")
    folder = volume(made.build()).folder("EFI/Linux")
    assert [each.name for each in folder.entries] == ["host_1.0.0.efi", "next_2.0.0.efi"]
    assert len(folder.orphans) == 2


def test_lower_case_of_a_short_name_is_in_its_case_byte() -> None:
    made = image()
    made.folders[""].append(short_slot(b"README  TXT", case=0x18))
    assert "readme.txt" in [each.name for each in volume(made.build()).root().entries]


def test_the_name_of_the_volume_is_not_a_file() -> None:
    made = image()
    made.folders[""].append(short_slot(b"BOOT       ", attributes=0x08))
    content = made.build()
    assert volume(content).find("BOOT") is None
    assert flaws(content) == []


def test_what_is_behind_the_end_is_reported_and_not_read() -> None:
    made = image()
    made.folders["EFI/Linux"] += [bytes(32), short_slot(b"HIDDEN  EFI")]
    content = made.build()
    assert volume(content).find("EFI/Linux/HIDDEN.EFI") is None
    assert flaws(content) == [FatFlaw.BEHIND_END]


def test_lost_clusters_are_counted_and_harmless() -> None:
    made = image()
    made.take(7)
    found = judge(MemoryDisk(bytes(made.build())))
    assert [(each.flaw, each.detail) for each in found] == [(FatFlaw.LOST_CLUSTERS, "7")]
    assert FatFlaw.LOST_CLUSTERS.harmless
    assert "belong to no file (7)" in str(found[0])


def test_two_names_for_one_chain_are_cross_linked() -> None:
    made = image()
    first = made.file("EFI/Linux/second_1.efi", b"x" * 900)
    made.add_slots("EFI/Linux", "third_1.efi", cluster=first, size=900)
    assert flaws(made.build()) == [FatFlaw.CROSS_LINKED]


def test_a_chain_into_another_one_is_cross_linked() -> None:
    made = image()
    one, two = made.file("one-file", b"x" * 1500), made.file("two-file", b"x" * 1500)
    made.chains[two] = one + 1
    assert sorted(each.name for each in flaws(made.build())) == ["CROSS_LINKED", "LOST_CLUSTERS"]


@pytest.mark.parametrize("target", [0, 1, 150, 100_000])
def test_a_chain_into_nothing_is_broken(target: int) -> None:
    made = image()
    first = made.file("long-file", b"x" * 1500)
    made.chains[first] = target
    content = made.build()
    assert FatFlaw.BROKEN_CHAIN in flaws(content)
    entry = volume(content).find("long-file")
    assert entry is not None
    with pytest.raises(FatError):
        volume(content).read(entry)


def test_a_chain_that_comes_back_to_itself_ends() -> None:
    made = image()
    first = made.file("long-file", b"x" * 1500)
    made.chains[first + 2] = first
    content = made.build()
    assert FatFlaw.BROKEN_CHAIN in flaws(content)
    entry = volume(content).find("long-file")
    assert entry is not None
    assert volume(content).read(entry) == b"x" * 1500


def test_a_folder_in_itself_ends() -> None:
    made = image()
    made.folder("loop")
    made.add_slots("loop", "again", cluster=made.first["loop"], size=0, attributes=0x10)
    assert flaws(made.build()) == [FatFlaw.CROSS_LINKED]


def test_a_root_folder_that_comes_back_to_itself_is_refused() -> None:
    made = image()
    made.chains[made.first[""] + 3] = made.first[""]
    with pytest.raises(FatError, match="comes back"):
        judge(MemoryDisk(bytes(made.build())))


def test_a_chain_of_another_length_than_the_size_is_found() -> None:
    made = image()
    made.add_slots("", "longer", cluster=made.take(3), size=600)
    made.add_slots("", "shorter", cluster=made.take(1), size=600)
    made.add_slots("", "nothing", cluster=0, size=600)
    made.add_slots("", "empty-with", cluster=made.take(1), size=0)
    content = made.build()
    assert sorted(each.name for each in flaws(content)) == ["LONG_CHAIN", "LONG_CHAIN", "SHORT_CHAIN", "SHORT_CHAIN"]
    for name in ("shorter", "nothing"):
        entry = volume(content).find(name)
        assert entry is not None
        with pytest.raises(FatError, match="lacks"):
            volume(content).read(entry)


def test_a_name_twice_is_found() -> None:
    made = image()
    made.file("EFI/Linux/HOST_1.0.0.efi", b"x")
    content = made.build()
    assert flaws(content) == [FatFlaw.DOUBLED_NAME]
    with pytest.raises(FatError, match="2 entries"):
        volume(content).folder("EFI/Linux").require("host_1.0.0.efi")


def test_copies_of_the_table_that_differ_are_found() -> None:
    made = image()
    content = made.build()
    content[(made.reserved + made.table_sectors) * SECTOR + 100] ^= 1
    assert flaws(content) == [FatFlaw.TABLES_DIFFER]


def test_the_mark_of_an_unclean_stop_is_found() -> None:
    content = image().build()
    content[65] |= 1
    assert flaws(content) == [FatFlaw.NOT_CLEAN]


def test_a_folder_that_is_too_long_is_refused() -> None:
    made = FatImage(clusters=5000, folder_clusters=4097)
    with pytest.raises(FatError, match="more than 2097152 bytes"):
        volume(made.build()).root()
