"""This machine: the running system, its disk, its boot entries, and rebooting.

The disk is the one under the running root; the partitions are those of the table on the disk, not of the kernel's view
of it.  `root` is `/`, or another folder in tests.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from bedrock import process
from bedrock.clock import SYSTEM_CLOCK, Clock
from partitions.blockio import BlockDevice, FileBlockDevice
from partitions.disk import DiskMap, find_slots, read_table
from partitions.entries import ENTRIES_FOLDER, SUFFIX, BootEntry, parse_entry
from partitions.errors import UkiError
from partitions.gpt import GptEntry
from partitions.layout import EMPTY_LABEL, Slot, SlotIdentity, identity_of, root_types
from partitions.version import Version
from updater.agent.boot_options import ORDER, BootPlace, keep_options
from updater.agent.boot_partition import BootFolder, BootPartition, BootPartitionFolder, FatPartition, mounted
from updater.agent.boot_trust.databases import Databases, EfiDatabases
from updater.agent.boot_trust.judging import BootProgram
from updater.agent.boot_trust.programs import programs_in
from updater.agent.disk_gate import DeviceNumber, DiskGate
from updater.agent.efi import GLOBAL, EfiVariables, InitrdFailure
from updater.agent.ground.disks import own_disk
from updater.agent.host_paths import HostPaths
from updater.agent.loaders import keep_first_conf, keep_loaders
from updater.agent.state import HostFacts, SlotFacts, Stray
from updater.documents.release import Architecture
from updater.errors import SlotError, UpdaterError

REBOOT_TIMEOUT_S = 60.0
# Where the firmware and its boot entries find a loader, in any spelling that FAT may show.
LOADERS = ("EFI/[Bb][Oo][Oo][Tt]/*.[Ee][Ff][Ii]", "EFI/systemd/*.efi")
FOREIGN_ARGUMENTS = "run/twinhull/foreign-arguments"
_MAX_CMDLINE_BYTES = 64 << 10
_MACHINES = {"x86_64": Architecture.X86_64, "aarch64": Architecture.ARM64}


@dataclass(frozen=True)
class RunningSystem:
    """What was booted."""

    image: str
    version: Version
    root_hash: str
    architecture: Architecture
    host_id: str
    boot_id: str


class Machine(Protocol):
    """The interface between decisions and the machine."""

    @property
    def clock(self) -> Clock:
        """The machine's clocks."""

    def running(self) -> RunningSystem:
        """What was booted."""

    def disk(self, *, writable: bool) -> AbstractContextManager[BlockDevice]:
        """The disk the running system is on."""

    def close_gate(self) -> None:
        """Let no other process open the disk or the partitions of its slots for writing."""

    @property
    def boot(self) -> BootPartition:
        """The partition of the UKIs."""

    @property
    def esp(self) -> BootPartition:
        """The partition of the first boot loader, with the spare UKI."""

    def boot_programs(self, running: BootEntry | None) -> tuple[BootProgram, ...]:
        """Every program on the boot partitions; `running` is the entry that was booted."""

    def databases(self) -> Databases:
        """The firmware's lists of what it may start."""

    def keep_ways_in(self) -> tuple[str, ...]:
        """Keep both boot loaders whole and in the firmware's list; returns what had to be done (writes to both)."""

    def set_one_shot(self, entry_name: str) -> None:
        """Choose the entry for the next boot only (writes an EFI variable)."""

    def initrd_failure(self) -> InitrdFailure | None:
        """What the initrd of an earlier boot left, which could not go on."""

    def forget_initrd_failure(self) -> None:
        """Remove that (writes to the firmware's memory)."""

    def secure_boot(self) -> bool | None:
        """Whether the firmware enforces signatures."""

    def foreign_arguments(self) -> tuple[str, ...]:
        """Kernel arguments that came from outside the image; they have no effect."""

    def reboot(self, *, force: bool) -> None:
        """Request a reboot; `force` does not wait for services to end."""


class Restart(Protocol):
    """Requests a reboot; `force` does not wait for services to end."""

    def __call__(self, *, force: bool) -> None:
        """Request it."""


def systemd_reboot(*, force: bool) -> None:
    """Ask systemd for a reboot, which happens a moment later.

    Inhibitors were asked before (`updater.agent.before_reboot`), or do not count: a trial that is not healthy is left.
    """
    gently = ("systemctl", "--no-block", "--check-inhibitors=no", "reboot")
    words = ("systemctl", "--force", "reboot") if force else gently
    process.run(words, timeout_s=REBOOT_TIMEOUT_S)


@dataclass(frozen=True)
class ThisMachine:
    """The machine this program runs on, or one that is a folder."""

    root: Path = Path("/")
    clock: Clock = SYSTEM_CLOCK
    # Mounts a FAT partition for as long as a context lasts.
    mount: Callable[..., AbstractContextManager[Path]] = mounted
    restart: Restart = systemd_reboot
    # The files of XBOOTLDR on a host that is a folder: there is nothing to mount.
    boot_folder: Path | None = None
    gate: DiskGate | None = None

    def running(self) -> RunningSystem:
        """Read what was booted.

        Raises:
            SlotError: This is not a Twinhull host.
        """
        release = parse_os_release((self.root / "usr/lib/os-release").read_text())
        try:
            image, version = release["IMAGE_ID"], Version.from_text(release["IMAGE_VERSION"])
        except (KeyError, ValueError) as error:
            raise _not_a_host(f"usr/lib/os-release has no usable IMAGE_ID and IMAGE_VERSION ({error})") from error
        machine = platform.machine()
        if machine not in _MACHINES:
            raise UpdaterError(f"machine type {machine} is not one of {', '.join(_MACHINES)}")
        return RunningSystem(
            image=image,
            version=version,
            root_hash=root_hash_of((self.root / "proc/cmdline").read_text()),
            architecture=_MACHINES[machine],
            host_id=(self.root / "etc/machine-id").read_text().strip(),
            boot_id=(self.root / "proc/sys/kernel/random/boot_id").read_text().strip(),
        )

    @contextmanager
    def disk(self, *, writable: bool) -> Iterator[BlockDevice]:
        """Open the disk the running root is on."""
        gate = self.gate.opened(self._gated()) if writable and self.gate is not None else nullcontext()
        with gate:
            device = FileBlockDevice.open(self.root / "dev" / self.disk_name(), writable=writable)
        with device:
            yield device

    def close_gate(self) -> None:
        """Let no other process open the disk or the partitions of its slots for writing."""
        if self.gate is not None:
            self.gate.close(self._gated())

    def _gated(self) -> tuple[DeviceNumber, ...]:
        """The disk and the partitions of its slots."""
        disk = self.disk_name()
        with self.disk(writable=False) as device:
            table = read_table(device)
        found = find_slots(table, root_types(self.running().architecture.value))
        parts = (part for slot in Slot for part in (found.slot(slot).data, found.slot(slot).verity))
        names = (self._partition_name(disk, table.entries.index(part) + 1) for part in parts)
        blocks = self.root / "sys/class/block"
        return tuple(DeviceNumber.from_text((blocks / name / "dev").read_text()) for name in (disk, *names))

    @property
    def boot(self) -> BootPartition:
        """XBOOTLDR, on the disk of the running root."""
        if self.boot_folder is not None:
            return BootPartitionFolder(self.boot_folder)
        return FatPartition("xbootldr", lambda: self._partition(_xbootldr), self.root / "run/twinhull", self.clock)

    @property
    def esp(self) -> BootPartition:
        """The ESP, on the same disk."""
        if self.boot_folder is not None:
            return BootPartitionFolder(self.boot_folder.with_name("efi"))
        return FatPartition("esp", lambda: self._partition(_esp), self.root / "run/twinhull", self.clock)

    def boot_programs(self, running: BootEntry | None) -> tuple[BootProgram, ...]:
        """Read every program on ESP and XBOOTLDR."""
        with (
            self._mounted("esp", _esp) as esp,
            self._mounted("xbootldr", _xbootldr) as boot,
        ):
            loaders = [path for pattern in LOADERS for at in (esp, boot) for path in sorted(at.glob(pattern))]
            return programs_in(boot / ENTRIES_FOLDER, running=running, loaders=loaders)

    def databases(self) -> Databases:
        """The firmware's lists of what it may start."""
        return EfiDatabases(self.root / "sys/firmware/efi/efivars")

    def _partition(self, choose: Callable[[DiskMap], GptEntry]) -> Path:
        """The node of a partition of the disk."""
        with self.disk(writable=False) as device:
            table = read_table(device)
        found = find_slots(table, root_types(self.running().architecture.value))
        number = table.entries.index(choose(found)) + 1
        return self.root / "dev" / self._partition_name(self.disk_name(), number)

    def keep_ways_in(self) -> tuple[str, ...]:
        """Compare the copies of the boot loader, and add to the firmware's list what it lacks of them."""
        if self.boot_folder is not None:
            return ()
        esp = partial(self._mounted, "esp", _esp)
        lines = (*keep_loaders(esp, partial(self._mounted, "xbootldr", _xbootldr)), *keep_first_conf(esp))
        variables = EfiVariables(self.root / "sys/firmware/efi/efivars")
        if variables.value(ORDER, GLOBAL) is None:
            return lines
        with self.disk(writable=False) as device:
            table = read_table(device)
        found = find_slots(table, root_types(self.running().architecture.value))
        places = (BootPlace(table.entries.index(part) + 1, part) for part in (found.esp, found.xbootldr))
        if keep_options(variables, *places):
            return (*lines, "the firmware's list of what to start has both boot loaders now")
        return lines

    def _mounted(
        self, name: str, choose: Callable[[DiskMap], GptEntry], *, writable: bool = False
    ) -> AbstractContextManager[Path]:
        at = self.root / "run/twinhull" / f"{name}.{self.clock.steady():.6f}"
        return self.mount(self._partition(choose), at, writable=writable, clock=self.clock)

    def set_one_shot(self, entry_name: str) -> None:
        """Choose the entry for the next boot only (writes an EFI variable)."""
        EfiVariables(self.root / "sys/firmware/efi/efivars").set_one_shot(entry_name)

    def initrd_failure(self) -> InitrdFailure | None:
        """Read what the initrd of an earlier boot left."""
        return EfiVariables(self.root / "sys/firmware/efi/efivars").initrd_failure()

    def forget_initrd_failure(self) -> None:
        """Remove that (writes to the firmware's memory)."""
        EfiVariables(self.root / "sys/firmware/efi/efivars").remove_initrd_failure()

    def secure_boot(self) -> bool | None:
        """Whether the firmware enforces signatures."""
        return EfiVariables(self.root / "sys/firmware/efi/efivars").secure_boot()

    def foreign_arguments(self) -> tuple[str, ...]:
        """What the initrd kept of them."""
        try:
            with (self.root / FOREIGN_ARGUMENTS).open("rb") as stream:
                return tuple(stream.read(_MAX_CMDLINE_BYTES).decode(errors="replace").split())
        except FileNotFoundError:
            return ()

    def reboot(self, *, force: bool) -> None:
        """Request a reboot; it happens a moment later."""
        self.restart(force=force)

    def disk_name(self) -> str:
        """The kernel's name of the disk under the running root.

        Raises:
            SlotError: The running root is not on partitions of a disk.
        """
        return own_disk(self.root)

    def _partition_name(self, disk: str, number: int) -> str:
        for path in sorted((self.root / "sys/class/block").iterdir()):
            marker = path / "partition"
            if path.resolve().parent.name == disk and marker.exists() and marker.read_text().strip() == str(number):
                return path.name
        raise SlotError(f"disk {disk} has no partition {number} in the kernel's view")


def folder_machine(paths: HostPaths, clock: Clock = SYSTEM_CLOCK) -> ThisMachine:
    """A machine that is a folder: its disk is a file in `dev/`, its boot partition a folder, its reboot a file."""

    @contextmanager
    def opened(_partition: Path, _at: Path, **_: object) -> Iterator[Path]:
        yield paths.boot_folder

    def note_reboot(*, force: bool) -> None:
        paths.runtime.mkdir(parents=True, exist_ok=True)
        (paths.runtime / "reboot").write_text("force\n" if force else "")

    return ThisMachine(paths.root, clock, mount=opened, restart=note_reboot, boot_folder=paths.boot_folder)


def disk_map(device: BlockDevice, architecture: Architecture) -> DiskMap:
    """The slots and boot partitions according to the table on the disk."""
    return find_slots(read_table(device), root_types(architecture.value))


def read_facts(machine: Machine) -> HostFacts:
    """Gather facts about the running system and the disk; changes nothing.

    Raises:
        SlotError: This is not a Twinhull host, or the running slot cannot be determined.
        PartitionsError: The disk cannot be read or has another layout.
    """
    running = machine.running()
    with machine.disk(writable=False) as device:
        found = disk_map(device, running.architecture)
    slot = found.slot_booted_from(running.root_hash)
    if slot is None:
        raise SlotError(f"neither slot carries the identity of the running root hash {running.root_hash}")
    inactive = found.slot(slot.other)
    with machine.boot.mounted(writable=False) as folder:
        entries, strays = read_entries(folder, (identity_of(running.root_hash), inactive.identity))
    empty = EMPTY_LABEL in (inactive.data.label, inactive.verity.label)
    return HostFacts(
        image=running.image,
        running_version=running.version,
        running_root_hash=running.root_hash,
        slot=slot,
        inactive=SlotFacts(slot.other, inactive.data.label, has_identity=not empty, identity=inactive.identity),
        entries=entries,
        strays=strays,
    )


def read_entries(
    folder: BootFolder, slots: Collection[SlotIdentity]
) -> tuple[tuple[BootEntry, ...], tuple[Stray, ...]]:
    """What the loader may start: the entries of these slots under their own names, and everything else."""
    entries: list[BootEntry] = []
    strays: list[Stray] = []
    for name in folder.names():
        if not name.lower().endswith(SUFFIX):
            continue
        try:
            content = folder.uki(name)
        except (UkiError, OSError) as error:
            strays.append(Stray(name, folder.size_bytes(name), None, str(error)))
            continue
        entry = parse_entry(name)
        named = entry is not None and (entry.image, str(entry.version)) == (content.image, str(content.version))
        if entry is not None and named and identity_of(content.root_hash) in slots:
            entries.append(entry)
        else:
            strays.append(Stray(name, folder.size_bytes(name), content))
    return tuple(entries), tuple(strays)


def own_arguments(cmdline: str) -> tuple[str, ...]:
    """The words of a kernel command line that count: what follows `--` was added to the image's own."""
    words = cmdline.split()
    return tuple(words[: words.index("--")] if "--" in words else words)


def root_hash_of(cmdline: str) -> str:
    """The root hash on a kernel command line.

    Raises:
        SlotError: There is none, or more than one.
    """
    words = own_arguments(cmdline)
    found = [word.removeprefix("roothash=") for word in words if word.startswith("roothash=")]
    if len(found) != 1:
        raise _not_a_host(f"the kernel command line has {len(found) or 'no'} roothash=")
    return found[0].lower()


def parse_os_release(text: str) -> dict[str, str]:
    """The variables of an os-release file, without quotes."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def _esp(found: DiskMap) -> GptEntry:
    return found.esp


def _xbootldr(found: DiskMap) -> GptEntry:
    return found.xbootldr


def _not_a_host(why: str) -> SlotError:
    error = SlotError(f"this machine does not run from a Twinhull slot: {why}")
    error.add_note("`updater` works on a host booted from a Twinhull image")
    return error
