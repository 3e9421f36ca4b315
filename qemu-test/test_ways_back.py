"""A host that was damaged while it was off comes back by itself, on a slot that is whole, and repairs what it can.

Each test damages a copy of a disk with two proven slots, of which the newer one runs, and switches it on.
One of them runs with all tests, the rest with `make test-faults`.
"""

from __future__ import annotations

import re

import pytest
from two_slots import NEWER, OLDER, TwoSlots, proven, told
from workbench import FIRST, IMAGE, SECOND

from partitions.entries import ENTRIES_FOLDER
from partitions.fat.change import SectorWrite, plan_rename
from partitions.fat.writing import write_sector
from partitions.loader_conf import LOADER_CONF, REMOVABLE_LOADER

UKI = f"{ENTRIES_FOLDER}/{NEWER}"


def test_one_byte_of_the_newest_uki_costs_one_boot_and_is_repaired(two: TwoSlots) -> None:
    disk = two.copy("damaged-uki")
    disk.flip_in_file(disk.map().xbootldr, UKI, -5_000_000)
    with two.booted(disk) as host:
        status = proven(host, FIRST)
        assert "Access denied" in host.machine.console_text() or "Security Violation" in host.machine.console_text()
        # Firmware may start the first loader more than once, under different names of its own; each time is counted.
        assert re.search(rf"{IMAGE}_{SECOND}\+\d-\d\.efi was damaged and is restored from slot b", told(host))
        assert status["inactive"] == {"slot": "b", "state": "blessed", "version": SECOND}
        host.machine.shell.reboot(timeout_s=600)
        assert proven(host, SECOND)["entries"] == [OLDER, NEWER]


@pytest.mark.all_faults
def test_a_damaged_first_loader_costs_nothing_and_is_repaired(two: TwoSlots) -> None:
    disk = two.copy("damaged-loader")
    for path in (REMOVABLE_LOADER, LOADER_CONF):
        disk.flip_in_file(disk.map().esp, path, 0)
    with two.booted(disk) as host:
        proven(host, FIRST)
        assert f"the boot loader {REMOVABLE_LOADER} on esp was damaged and is restored from another copy" in told(host)


@pytest.mark.all_faults
def test_a_proven_slot_with_a_damaged_block_is_left_after_three_boots(two: TwoSlots) -> None:
    disk = two.copy("damaged-slot")
    # The first block of a file system, which every boot reads.
    disk.flip(disk.map().b.data.offset_bytes + 1024 + 8)
    with two.booted(disk) as host:
        status = proven(host, FIRST)
        assert status["inactive"]["state"] == "given-up"
        assert "slot b is damaged" in told(host)


@pytest.mark.all_faults
def test_an_entry_that_lost_its_long_name_is_adopted(two: TwoSlots) -> None:
    disk = two.copy("lost-name")
    with disk.fat(disk.map().xbootldr) as (volume, window):
        entries, settings = volume.folder(ENTRIES_FOLDER), volume.folder("loader")
        lost = [entries.offset_of(slot) for slot in entries.require(NEWER).slots[:-1]]
        # And all of the second loader's settings.
        lost += [settings.offset_of(slot) for slot in settings.require("loader.conf").slots]
        for offset in lost:
            # The mark of a slot that is free: of the entry only its short name stays.
            window.pwrite(offset, b"\xe5")
        window.sync()
    with two.booted(disk) as host:
        assert proven(host, SECOND)["entries"] == [OLDER, NEWER]
        assert f"is called {IMAGE}_{SECOND}" in told(host)
        host.text("mount --mkdir -o ro /dev/disk/by-partlabel/xbootldr /run/xbootldr")
        assert f"default {IMAGE}_{FIRST}" in host.text(f"cat /run/xbootldr/{LOADER_CONF}")


@pytest.mark.all_faults
def test_an_old_uki_under_a_new_name_is_understood_by_its_content(two: TwoSlots) -> None:
    disk = two.copy("wrong-name")
    with disk.fat(disk.map().xbootldr) as (volume, window):
        planned = plan_rename(volume.folder(ENTRIES_FOLDER), OLDER, f"{IMAGE}_99.0.0.efi")
        assert isinstance(planned, SectorWrite)
        write_sector(window, planned)
    with two.booted(disk) as host:
        status = proven(host, SECOND)
        assert status["entries"] == [OLDER, NEWER]
        assert f"{IMAGE}_99.0.0.efi on the boot partition is called {OLDER} again" in told(host)


@pytest.mark.all_faults
@pytest.mark.parametrize("name", ["xbootldr", "esp"])
def test_a_lost_file_system_is_made_anew_with_all_that_belongs_on_it(two: TwoSlots, name: str) -> None:
    disk = two.copy(f"lost-{name}")
    part = disk.map().xbootldr if name == "xbootldr" else disk.map().esp
    disk.lose(part.offset_bytes, 1 << 20)
    with two.booted(disk) as host:
        # By the spare on the ESP, or by the second boot loader.
        proven(host, FIRST)
        assert "was lost and is made anew" in told(host)
        host.machine.shell.reboot(timeout_s=600)
        assert proven(host, SECOND)["entries"] == [OLDER, NEWER]
