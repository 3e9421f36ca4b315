"""A host with two proven slots, made by a real update, and copies of its disk that a test damages while it is off.

Slot A holds the first version, slot B the second one, which runs and whose entry is guarded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hosts import BOOT_TIMEOUT_S, Host, host_config, machine_folder, read_json, updater_credential
from update_server import UpdateServer, running
from workbench import FIRST, IMAGE, OUT, SECOND, Workbench, sparse_copy, timed

from imagebuild.vm.config import Credential
from imagebuild.vm.machine import VirtualMachine
from partitions.blockio import DeviceWindow, FileBlockDevice
from partitions.disk import DiskMap, find_slots, read_table
from partitions.entries import ENTRIES_FOLDER
from partitions.fat.directory import FatEntry
from partitions.fat.volume import FatVolume
from partitions.gpt import GptEntry
from partitions.layout import root_types

OLDER, NEWER = f"{IMAGE}_{FIRST}.efi", f"{IMAGE}_{SECOND}+3-6.efi"
# A host that comes back by itself may need some boots to do so.
COMES_BACK_S = 900.0
# Nobody answers there.
NO_SERVER = "http://10.0.2.2:9"
SECTOR = 512


@dataclass(frozen=True)
class Disk:
    """A disk that is switched off."""

    path: Path

    @contextmanager
    def opened(self) -> Iterator[FileBlockDevice]:
        """The disk, for reading and writing."""
        with FileBlockDevice.open(self.path, writable=True) as device:
            yield device

    def map(self) -> DiskMap:
        """Its partitions."""
        with self.opened() as device:
            return find_slots(read_table(device), root_types("x86-64"))

    @contextmanager
    def fat(self, part: GptEntry) -> Iterator[tuple[FatVolume, DeviceWindow]]:
        """The file system of a boot partition."""
        with self.opened() as device:
            window = DeviceWindow(device, part.offset_bytes, part.size_bytes)
            yield FatVolume.open(window), window

    def entry(self, name: str) -> FatEntry:
        """A boot entry."""
        with self.fat(self.map().xbootldr) as (volume, _):
            return volume.folder(ENTRIES_FOLDER).require(name)

    def flip(self, at: int) -> None:
        """Flip one bit of the byte at this place on the disk."""
        with self.opened() as device:
            byte = device.pread(at, 1)[0]
            device.pwrite(at, bytes((byte ^ 0x10,)))
            device.sync()

    def lose(self, at: int, length: int = SECTOR) -> None:
        """Fill a part of the disk with what no program wrote there."""
        with self.opened() as device:
            device.pwrite(at, b"\xde" * length)
            device.sync()

    def flip_in_file(self, part: GptEntry, path: str, at: int) -> None:
        """Flip one bit of a file of a boot partition; `at` counts from its end when it is negative."""
        with self.fat(part) as (volume, _):
            entry = volume.find(path)
            assert entry is not None, path
            wanted = at % entry.size_bytes
            for extent in volume.extents(entry):
                if wanted < extent.length:
                    place = part.offset_bytes + extent.offset + wanted
                    break
                wanted -= extent.length
        self.flip(place)


@dataclass(frozen=True)
class TwoSlots:
    """The disk as the update left it, and machines that start from copies of it."""

    bench: Workbench
    whole: Path

    def copy(self, name: str) -> Disk:
        """A copy to be damaged."""
        folder = machine_folder(name)
        return Disk(sparse_copy(self.whole, folder / "disk.raw"))

    @contextmanager
    def booted(self, disk: Disk, *credentials: Credential) -> Iterator[Host]:
        """A machine with this disk, switched on; the disk's file stays as it is."""
        settings = credentials or (updater_credential(NO_SERVER),)
        config = host_config(self.bench, disk.path, *settings)
        machine = VirtualMachine(
            config, tools=self.bench.tools, accelerator=self.bench.finding.accelerator, folder=disk.path.parent
        )
        # A slot that cannot be booted ends in a panic or a reboot, and that is not the end of the machine.
        machine.panics_are_fatal = False
        with machine:
            yield Host(machine)
        disk.path.unlink()


def make_two_slots(bench: Workbench) -> TwoSlots:
    """Boot the first version, update it, and switch the machine off once the second one is proven."""
    whole = OUT / "two-slots" / "disk.raw"
    whole.parent.mkdir(parents=True, exist_ok=True)
    repository = bench.repository("two-slots", FIRST, SECOND)
    repository.point(SECOND)
    folder = machine_folder("two-slots")
    disk = bench.disk_copy(FIRST, folder)
    with running(UpdateServer(repository.base)) as server, timed("two slots"):
        config = replace(host_config(bench, disk, updater_credential(server.guest_url)), snapshot=False)
        machine = VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder)
        with machine:
            host = Host(machine)
            proven(host, SECOND)
            status = host.status()
            assert status["entries"] == [OLDER, NEWER], status
            host.run("systemctl poweroff")
            machine.wait_exit(timeout_s=BOOT_TIMEOUT_S)
    shutil.move(disk, whole)
    return TwoSlots(bench, whole)


def proven(host: Host, version: str) -> dict[str, Any]:
    """Wait until the host runs this version, over any number of reboots, and this boot of it is found healthy."""
    with timed(f"until {version}"):
        host.wait_status(
            lambda status: status["version"] == version and bool(status["blessed"]), timeout_s=COMES_BACK_S
        )
        # An entry may be a proven one before the agent has looked at anything.
        host.text("until test -e /run/twinhull/blessed; do sleep 1; done", timeout_s=COMES_BACK_S)
        return host.status()


def told(host: Host) -> str:
    """What happened on the host, in words."""
    return "\n".join(event["text"] for event in read_json(host.text("updater history --json")))
