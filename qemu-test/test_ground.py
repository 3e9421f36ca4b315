"""What is under a host's system: its disk, `/var` and its state, whole and damaged, alone and next to others.

One disk lives through all of it, with its firmware's memory; the tests stand in the order of its life.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hosts import BOOT_TIMEOUT_S, Host, host_config, machine_folder, read_json, updater_credential
from workbench import FIRST, OUT, Workbench

from bedrock.digest import file_sha256
from imagebuild.vm.machine import VirtualMachine
from partitions.blockio import FileBlockDevice
from partitions.disk import read_table
from partitions.gpt import GptEntry
from partitions.layout import BUILT_ESP_UUID, STATE_BYTES
from updater.agent.efi import FAILURE, FAILURE_VENDOR

pytestmark = pytest.mark.all_faults

VARIABLE = f"/sys/firmware/efi/efivars/{FAILURE}-{FAILURE_VENDOR}"
OWN = "$(lsblk -no PKNAME $(findmnt -no SOURCE /var/lib/twinhull))"
EXIT_TIMEOUT_S = 120
EXT4_GROUP_BYTES = 128 << 20


@dataclass(frozen=True)
class Life:
    """A disk and its machine, switched on as often as a test wants."""

    bench: Workbench
    disk: Path
    folder: Path

    @contextmanager
    def machine(self, *others: Path) -> Iterator[VirtualMachine]:
        """The machine, switched on, next to other disks."""
        config = host_config(self.bench, self.disk, updater_credential("http://10.0.2.2:9"))
        config = replace(config, snapshot=False, more_disks=others)
        accelerator = self.bench.finding.accelerator
        with VirtualMachine(config, tools=self.bench.tools, accelerator=accelerator, folder=self.folder) as machine:
            yield machine

    @contextmanager
    def boot(self, *others: Path) -> Iterator[Host]:
        """The host, up and settled; it is switched off properly at the end."""
        with self.machine(*others) as machine:
            host = Host(machine)
            host.wait_boot()
            host.wait_settled()
            yield host
            host.run("systemctl --no-block poweroff")
            machine.wait_exit(timeout_s=EXIT_TIMEOUT_S)

    def partition(self, label: str) -> GptEntry:
        """A partition of the disk, by its label."""
        return next(entry for entry in table_entries(self.disk) if entry.label == label)

    def spoil(self, label: str, data: bytes, *, at: int = 1024) -> None:
        """Write over the beginning of a partition, where its superblock is (writes to the disk)."""
        with self.disk.open("r+b") as stream:
            stream.seek(self.partition(label).offset_bytes + at)
            stream.write(data)

    def copy(self, name: str) -> Path:
        """A clone of the disk as it is."""
        target = self.disk.with_name(name)
        target.unlink(missing_ok=True)
        shutil.copyfile(self.disk, target)
        return target


def table_entries(disk: Path) -> tuple[GptEntry, ...]:
    with closing(FileBlockDevice.open(disk, writable=False)) as device:
        return read_table(device).entries


def notes(host: Host) -> list[tuple[str, str]]:
    """What the initrd did, as the status has it."""
    return [(one["what"], one["done"]) for one in host.status()["ground"]["storage"]]


def history(host: Host) -> list[str]:
    return [event["text"] for event in read_json(host.text("updater history --json")) if event["kind"] == "disk"]


@pytest.fixture(scope="module")
def life(bench: Workbench) -> Iterator[Life]:
    folder = machine_folder("ground")
    yield Life(bench, bench.disk_copy(FIRST, OUT / "ground"), folder)
    shutil.rmtree(OUT / "ground")


def test_a_new_host_has_a_state_and_identities_of_its_own(life: Life) -> None:
    with life.boot() as host:
        assert host.text("lsblk -no PARTLABEL $(findmnt -no SOURCE /var/lib/twinhull)") == "state"
        assert int(host.text("lsblk -bno SIZE $(findmnt -no SOURCE /var/lib/twinhull)")) == STATE_BYTES
        host.text("echo kept > /etc/twinhull-test && echo kept > /var/kept && sync")
        assert host.text("cat /var/lib/twinhull/etc/upper/twinhull-test") == "kept"
        assert host.status()["ground"] == {"storage": [], "other_disks": [], "reset": None}
        assert history(host) == ["the disk has identities of its own now"]
    assert BUILT_ESP_UUID not in {entry.uuid for entry in table_entries(life.disk)}


def test_damage_is_repaired_and_the_disk_of_another_host_is_left_alone(life: Life) -> None:
    # Superblocks and group descriptors of both.
    life.spoil("var", bytes(3 * 4096))
    life.spoil("state", bytes(2048))
    other = life.bench.disk_copy(FIRST, OUT / "ground/other")
    before = file_sha256(other)
    with life.boot(other) as host:
        assert sorted(notes(host)) == [("state", "repaired"), ("var", "repaired")]
        assert host.text("cat /etc/twinhull-test /var/kept") == "kept\nkept"
        own = host.text(f"echo {OWN}")
        assert own == "vdb"
        assert host.text("findmnt -no SOURCE /var").startswith(f"/dev/{own}")
        assert host.status()["ground"]["other_disks"] == [{"name": "vda", "same": ["release"]}]
        assert sum("repaired" in line for line in history(host)) == 2
    assert file_sha256(other) == before
    other.unlink()


def test_a_clone_is_refused_by_name(life: Life) -> None:
    clone = life.copy("clone.raw")
    with life.machine(clone) as machine:
        machine.panics_are_fatal = False
        machine.wait_for_console(r"the disks vd[ab] and vd[ab] hold the same slot", timeout_s=BOOT_TIMEOUT_S)
        machine.wait_for_console(r"cannot go on, rebooting", timeout_s=60)
        # Not before the firmware has kept what it was given.
        machine.wait_for_console(r"reboot: Restarting system", timeout_s=60)
    assert file_sha256(clone) == file_sha256(life.disk)
    clone.unlink()


def test_a_lost_state_and_a_foreign_var_stop_no_boot(life: Life) -> None:
    # Every copy of its superblock too: what is left has the signature of another file system and nothing to repair.
    for start in range(0, life.partition("var").size_bytes, EXT4_GROUP_BYTES):
        life.spoil("var", bytes(4096), at=start)
    life.spoil("var", b"XFSB", at=0)
    life.spoil("state", bytes(STATE_BYTES), at=0)
    with life.boot() as host:
        assert notes(host) == [("var", "volatile"), ("state", "reset")]
        assert host.text("findmnt -no FSTYPE /var") == "tmpfs"
        assert host.text("findmnt -no FSTYPE /var/lib/twinhull") == "ext4"
        assert host.run("ls /etc/twinhull-test").exit_code != 0
        assert "cannot be told apart" in host.text(f"cat {VARIABLE} 2>/dev/null; updater history --json")
        assert host.text("podman info --format '{{.Host.OCIRuntime.Name}}'")
        # A reset gives the host a whole /var again, and it stays who it is.
        host.text("echo edited > /etc/twinhull-test")
        who = host.text("cat /etc/machine-id")
        asked = host.text("updater reset --keep-identity --yes --no-reboot")
        assert asked.startswith("everything but the system is reset")
        host.machine.shell.reboot(timeout_s=BOOT_TIMEOUT_S)
        host.wait_settled()
        assert notes(host)[-2:] == [("var", "reset"), ("state", "reset")]
        assert host.text("findmnt -no FSTYPE /var") == "ext4"
        assert host.text("cat /etc/machine-id") == who
        assert host.run("ls /etc/twinhull-test").exit_code != 0
        assert host.status()["ground"]["reset"] is None
