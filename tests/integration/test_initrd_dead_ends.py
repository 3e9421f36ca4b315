"""Boots that cannot go on, or hang: each of them ends in a reboot."""

from __future__ import annotations

import os
import tty
from pathlib import Path
from uuid import UUID

import pytest

from tests.fakes.played_initrd import ROOT_HASH, SLOT, PlayedInitrd
from updater.agent.efi import FAILURE, FAILURE_VENDOR, EfiVariables, InitrdFailure

DEAD_END = "twinhull: the initrd cannot go on, rebooting"
# A reboot would end what hangs, so it ends with what is played for one, and at the latest after ten seconds.
HANGS = "left=100; until [ -e /rebooted ] || [ $left = 0 ]; do sleep 0.1; left=$((left - 1)); done; exit 8"


def assert_dead_end(machine: PlayedInitrd) -> None:
    """It rebooted at once, said so last, and never handed over."""
    assert machine.calls[-2:] == ["dmesg ", "reboot -f"]
    assert machine.calls.count("reboot -f") == 1
    assert machine.console == f"{DEAD_END}\n"
    assert machine.calls_of("switch_root") == [] or "switch_root" in machine.plays


@pytest.mark.parametrize(
    "cmdline", ["", "quiet ro", f"-- roothash={ROOT_HASH}", "roothash=", "roothash=abc", f"roothash={ROOT_HASH}0"]
)
def test_a_command_line_without_a_root_hash_is_a_dead_end(machine: PlayedInitrd, cmdline: str) -> None:
    machine.boot(cmdline)
    assert_dead_end(machine)
    assert machine.said[0] == "twinhull: the command line names no root hash"
    assert machine.calls_of("blkid") == []


@pytest.mark.parametrize("other", ["ab" * 32, ROOT_HASH, ""])
def test_two_root_hashes_are_a_dead_end(machine: PlayedInitrd, other: str) -> None:
    machine.boot(f"roothash={ROOT_HASH} quiet roothash={other}")
    assert_dead_end(machine)
    assert machine.said[0] == "twinhull: the command line names 2 root hashes"
    assert machine.calls_of("systemd-veritysetup") == []


@pytest.mark.parametrize("found", [(), (3,), (4,)], ids=["neither", "no tree", "no data"])
def test_a_slot_that_no_disk_holds_is_a_dead_end_once_the_limit_is_over(
    machine: PlayedInitrd, found: tuple[int, ...]
) -> None:
    tags = {3: SLOT.data_uuid, 4: SLOT.verity_uuid}
    machine.plays["blkid"] = machine.finds({number: tags[number] for number in found})
    machine.boot()
    assert_dead_end(machine)
    assert machine.said[0] == f"twinhull: no disk holds the slot of root hash {ROOT_HASH}"
    # Ten times a second, and once more.
    assert machine.calls_of("blkid") == ["-c /dev/null -s PARTUUID"] * 11


def test_a_disk_that_does_not_come_names_the_controllers_that_have_no_driver(machine: PlayedInitrd) -> None:
    machine.add_controller("0000:01:00.0", "0x010400", driven=False)
    machine.add_controller("0000:02:00.0", "0x010802", driven=True)
    machine.add_controller("0000:03:00.0", "0x0c0330", driven=False)
    machine.add_controller("0000:04:00.0", "0x020000", driven=False)
    machine.plays["blkid"] = "exit 2"
    machine.boot()
    assert_dead_end(machine)
    assert machine.said[:4] == [
        "twinhull: no driver for the controller 0000:01:00.0, 0x1000:0x005b of class 0x010400",
        "twinhull: no driver for the controller 0000:03:00.0, 0x1000:0x005b of class 0x0c0330",
        "twinhull: set drivers: server (or all) and kernel: linux-image-amd64 in image.yaml",
        f"twinhull: no disk holds the slot of root hash {ROOT_HASH}",
    ]


def test_a_disk_that_is_found_at_once_is_no_reason_to_speak_of_drivers(machine: PlayedInitrd) -> None:
    machine.add_controller("0000:01:00.0", "0x010400", driven=False)
    machine.boot()
    assert machine.said == []


@pytest.mark.parametrize(
    ("program", "play", "last"),
    [
        ("modprobe", 'case "$*" in *dm_verity*) exit 1 ;; esac', "modprobe -a dm_verity erofs ext4 overlay"),
        ("systemd-veritysetup", "exit 1", "systemd-veritysetup attach"),
        ("systemd-veritysetup", "missing", "blkid"),
        ("switch_root", "missing", "mount -o move /sys /sysroot/sys"),
    ],
    ids=lambda value: value.replace('case "$*" in *dm_verity*) exit 1 ;; esac', "fails")[:20],
)
def test_a_program_that_fails_or_is_missing_is_a_dead_end(
    machine: PlayedInitrd, program: str, play: str, last: str
) -> None:
    machine.plays[program] = play
    machine.boot()
    assert_dead_end(machine)
    assert machine.calls[-3].startswith(last)


@pytest.mark.parametrize(
    "mounted",
    [
        "-t devtmpfs",
        "-t proc",
        "-t sysfs",
        "-t tmpfs",
        "-t erofs",
        "-t overlay",
        "-o move /dev",
        "-o move /sys",
    ],
)
def test_a_mount_that_fails_is_a_dead_end(machine: PlayedInitrd, mounted: str) -> None:
    machine.plays["mount"] = f'case "$*" in "{mounted} "*) exit 32 ;; esac'
    machine.boot()
    assert_dead_end(machine)
    assert machine.calls[-3].startswith(f"mount {mounted} ")


def test_what_failed_is_in_the_kernels_log(machine: PlayedInitrd) -> None:
    machine.plays["systemd-veritysetup"] = "echo the root hash is wrong >&2; exit 1"
    machine.boot()
    assert machine.said == ["the root hash is wrong", DEAD_END]


def test_a_program_that_never_ends_is_ended_by_a_reboot(machine: PlayedInitrd) -> None:
    machine.limits["LIMIT_S"] = 2
    machine.plays["systemd-veritysetup"] = HANGS
    machine.plays["reboot"] = "touch /rebooted"
    machine.boot()
    assert "twinhull: the initrd takes longer than 2 s" in machine.said
    assert machine.calls_of("reboot")[0] == "-f"
    assert machine.calls_of("switch_root") == []


def test_the_guard_ends_with_the_initrd(machine: PlayedInitrd) -> None:
    machine.limits["LIMIT_S"] = 5
    machine.plays["switch_root"] = "sleep 7"
    machine.boot()
    assert machine.calls_of("reboot") == []
    assert machine.said == []


def test_a_watchdog_is_fed_as_long_as_the_initrd_works(machine: PlayedInitrd) -> None:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    try:
        machine.watchdog = Path(os.ttyname(theirs))
        machine.plays["e2fsck"] = "sleep 2.5"
        machine.boot()
        fed = os.read(ours, 100)
    finally:
        os.close(ours)
        os.close(theirs)
    # Nothing else may be written: a letter V would switch it off before systemd takes it over.
    assert set(fed) == {ord("\n")}
    assert len(fed) >= 2
    assert "switch_root" in machine.calls[-1]


def test_a_watchdog_that_cannot_be_opened_costs_no_boot(machine: PlayedInitrd) -> None:
    machine.watchdog = Path("/dev/tty")
    machine.plays["e2fsck"] = "sleep 1.5"
    machine.boot()
    assert "switch_root" in machine.calls[-1]
    assert machine.calls_of("reboot") == []


def test_a_hang_is_ended_where_the_watchdog_cannot_be_opened(machine: PlayedInitrd) -> None:
    machine.watchdog = Path("/dev/tty")
    machine.limits["LIMIT_S"] = 2
    machine.plays["systemd-veritysetup"] = HANGS
    machine.plays["reboot"] = "touch /rebooted"
    machine.boot()
    assert "twinhull: the initrd takes longer than 2 s" in machine.said


def failure(machine: PlayedInitrd) -> InitrdFailure | None:
    """What the agent of the next system reads."""
    return EfiVariables(machine.root / "sys/firmware/efi/efivars").initrd_failure()


@pytest.mark.parametrize("before", [False, True], ids=["none before", "another before"])
def test_a_dead_end_leaves_its_reason_in_the_firmware(machine: PlayedInitrd, *, before: bool) -> None:
    machine.origin = UUID(int=1)
    machine.elsewhere[machine.device(1)] = machine.origin
    variable = machine.root / f"sys/firmware/efi/efivars/{FAILURE}-{FAILURE_VENDOR}"
    if before:
        variable.parent.mkdir(parents=True)
        variable.write_bytes(bytes(4) + b"an old one" * 50)
    # The reboot waits for it.
    machine.plays["chattr"] = "sleep 0.5"
    machine.plays["systemd-veritysetup"] = "exit 1"
    machine.plays["dmesg"] = f"echo long ago; echo one; echo two; echo {'x' * 600}"
    machine.boot()
    assert machine.calls[-1] == "reboot -f"
    found = failure(machine)
    assert found is not None
    assert found.root_hash == ROOT_HASH
    assert found.text.startswith("one two xxx")
    assert len(variable.read_bytes()) == 4 + 64 + 1 + 400
    assert variable.read_bytes()[:4] == b"\7\0\0\0"
    assert machine.calls_of("chattr") == ([f"-i /sys/firmware/efi/efivars/{variable.name}"] if before else [])


def test_a_good_boot_leaves_nothing_in_the_firmware(machine: PlayedInitrd) -> None:
    machine.origin = UUID(int=1)
    machine.elsewhere[machine.device(1)] = machine.origin
    machine.boot()
    assert failure(machine) is None


def test_a_boot_that_takes_too_long_leaves_its_reason_too(machine: PlayedInitrd) -> None:
    machine.origin = UUID(int=1)
    machine.elsewhere[machine.device(1)] = machine.origin
    machine.limits["LIMIT_S"] = 2
    machine.plays["systemd-veritysetup"] = HANGS
    machine.plays["reboot"] = "touch /rebooted"
    machine.boot()
    found = failure(machine)
    assert found is not None
    assert found.root_hash == ROOT_HASH


def test_firmware_that_hangs_does_not_keep_a_host_from_rebooting(machine: PlayedInitrd) -> None:
    machine.origin = UUID(int=1)
    variable = machine.root / f"sys/firmware/efi/efivars/{FAILURE}-{FAILURE_VENDOR}"
    variable.parent.mkdir(parents=True)
    variable.write_bytes(bytes(4))
    machine.limits["EVIDENCE_LIMIT_S"] = 1
    machine.plays["chattr"] = HANGS
    machine.plays["reboot"] = "touch /rebooted"
    machine.plays["systemd-veritysetup"] = "exit 1"
    machine.elsewhere[machine.device(1)] = machine.origin
    machine.boot()
    assert machine.calls_of("reboot") == ["-f"]
