"""Which disk a host takes for its own: the one the firmware started from, and never one that only looks like it."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.fakes.played_initrd import ROOT_HASH, SLOT, PlayedInitrd

ESP, OTHER_ESP = UUID(int=1), UUID(int=2)


def attach(machine: PlayedInitrd, disk: str, *, esp: UUID | None, slot: bool = True) -> None:
    """Another disk, with the same slot unless a test wants otherwise."""
    machine.add_disk(disk)
    if esp is not None:
        machine.elsewhere[f"/dev/{disk}1"] = esp
    if slot:
        machine.elsewhere |= {f"/dev/{disk}3": SLOT.data_uuid, f"/dev/{disk}4": SLOT.verity_uuid}


def own_esp(machine: PlayedInitrd, esp: UUID) -> None:
    machine.elsewhere[machine.device(1)] = esp


def assert_booted_from(machine: PlayedInitrd, disk: str) -> None:
    assert machine.calls_of("systemd-veritysetup") == [f"attach root /dev/{disk}3 /dev/{disk}4 {ROOT_HASH}"]
    other = "sda" if disk == "vda" else "vda"
    assert not [call for call in machine.calls if f"/dev/{other}" in call]
    assert "switch_root" in machine.calls[-1]


def assert_refused(machine: PlayedInitrd, why: str) -> None:
    assert any(why in line for line in machine.said)
    assert machine.calls_of("systemd-veritysetup") == []
    assert machine.calls[-1] == "reboot -f"


@pytest.mark.parametrize("disk", ["vda", "sda"])
def test_the_disk_the_firmware_started_from_is_the_one(machine: PlayedInitrd, disk: str) -> None:
    machine.disk = disk
    own_esp(machine, ESP)
    attach(machine, "sda" if disk == "vda" else "vda", esp=OTHER_ESP)
    machine.origin = ESP
    machine.boot()
    assert_booted_from(machine, disk)
    assert machine.said == []


def test_any_partition_of_the_disk_may_have_held_the_loader(machine: PlayedInitrd) -> None:
    own_esp(machine, ESP)
    machine.elsewhere[machine.device(2)] = machine.origin = UUID(int=9)
    attach(machine, "sda", esp=OTHER_ESP)
    machine.boot()
    assert_booted_from(machine, "vda")


def test_a_clone_cannot_be_told_apart_and_both_are_named(machine: PlayedInitrd) -> None:
    own_esp(machine, ESP)
    attach(machine, "sda", esp=ESP)
    machine.origin = ESP
    machine.boot()
    assert_refused(machine, "hold the same slot and cannot be told apart")
    named = [line for line in machine.said if " is /sys/devices/" in line]
    assert [line.split()[1] for line in named] == ["/dev/vda", "/dev/sda"]


def test_a_disk_that_shares_only_the_identity_of_the_esp_is_no_candidate(machine: PlayedInitrd) -> None:
    own_esp(machine, ESP)
    attach(machine, "sda", esp=ESP, slot=False)
    machine.origin = ESP
    machine.boot()
    assert_booted_from(machine, "vda")


def test_without_the_firmware_s_word_only_one_disk_may_have_the_slot(machine: PlayedInitrd) -> None:
    own_esp(machine, ESP)
    attach(machine, "sda", esp=OTHER_ESP)
    machine.boot()
    assert_refused(machine, "hold the same slot and cannot be told apart")


def test_without_the_firmware_s_word_the_only_disk_with_the_slot_is_taken(machine: PlayedInitrd) -> None:
    attach(machine, "sda", esp=OTHER_ESP, slot=False)
    machine.boot()
    assert_booted_from(machine, "vda")


def test_the_halves_of_a_slot_are_on_one_disk(machine: PlayedInitrd) -> None:
    machine.elsewhere = {"/dev/sda3": SLOT.data_uuid, "/dev/sda4": UUID(int=7)}
    machine.add_disk("sda")
    machine.boot()
    assert_booted_from(machine, "vda")


def test_the_slot_of_another_disk_than_the_firmware_s_is_not_taken(machine: PlayedInitrd) -> None:
    attach(machine, "sda", esp=ESP, slot=False)
    machine.origin = ESP
    machine.boot()
    assert_refused(machine, f"no disk holds the slot of root hash {ROOT_HASH}")
    assert_refused(machine, f"the firmware started from partition {ESP}, which is on: sda, the slot is on: /dev/vda3")


def test_variables_that_cannot_be_read_are_told(machine: PlayedInitrd) -> None:
    machine.origin = ESP
    own_esp(machine, ESP)
    machine.plays["mount"] = 'case "$*" in *efivarfs*) exit 1 ;; esac'
    machine.boot()
    assert "twinhull: the firmware's variables cannot be read" in machine.said
    assert "switch_root" in machine.calls[-1]


@pytest.mark.parametrize("file", ["wwid", "device/wwid"])
@pytest.mark.parametrize(
    ("own", "other", "taken"),
    [
        ("naa.5000c500a1b2c3d4", "naa.5000c500a1b2c3d4", True),
        ("eui.0025388b710116a1", "eui.0025388b710116a1", True),
        ("naa.5000c500a1b2c3d4", "naa.5000c500a1b2c3d5", False),
        ("t10.ATA     QEMU HARDDISK", "t10.ATA     QEMU HARDDISK", False),
    ],
)
def test_two_paths_to_one_disk_are_one_disk(
    machine: PlayedInitrd, file: str, own: str, other: str, *, taken: bool
) -> None:
    own_esp(machine, ESP)
    attach(machine, "sda", esp=ESP)
    machine.origin = ESP
    for disk, name in (("vda", own), ("sda", other)):
        path = machine.root / f"sys/devices/pci0000:00/{disk}/{file}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    machine.boot()
    if taken:
        assert_booted_from(machine, "vda")
    else:
        assert_refused(machine, "cannot be told apart")
