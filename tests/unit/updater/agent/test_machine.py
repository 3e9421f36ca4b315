"""Finding this machine's disk, slots and boot entries; EFI variables; the folder of boot entries."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from partitions.layout import identity_of
from tests.fakes.clock import FakeClock
from tests.fakes.device_filters import MemoryFilters
from tests.fakes.host_folder import HostFolder, write_block_tree
from tests.fakes.twin_host import TwinHost, built
from updater.agent import boot_partition
from updater.agent.boot_partition import BootPartitionFolder, MountedBootFolder
from updater.agent.disk_gate import DeviceNumber, DiskGate, refusal
from updater.agent.efi import GLOBAL, LOADER, EfiVariables
from updater.agent.host_paths import HostPaths
from updater.agent.lock import exclusive
from updater.agent.machine import FOREIGN_ARGUMENTS, ThisMachine, folder_machine, read_facts, root_hash_of
from updater.agent.state import EventKind, Hints, Hold, SlotState
from updater.agent.store import HintStore
from updater.documents.channel import Instant
from updater.errors import BusyError, SlotError

RELEASE = built("1.0.0")
NOW = Instant.from_text("2026-03-01T12:00:00Z")


def machine_at(root: Path, *, disks: tuple[str, ...] = ("vda",)) -> ThisMachine:
    """A root folder that looks like a host; the first disk is a real image."""
    host = TwinHost(RELEASE)
    files = {
        "usr/lib/os-release": 'ID=debian\nIMAGE_ID="host"\nIMAGE_VERSION=1.0.0\n',
        "proc/cmdline": f"quiet roothash={RELEASE.release.root_hash} x=1\n",
        "proc/sys/kernel/random/boot_id": "boot\n",
        "etc/machine-id": "abc\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "dev").mkdir()
    for disk in disks:
        (root / "dev" / disk).write_bytes(host.disk.content)
    write_block_tree(root, disks, ("esp", "no", str(identity_of(RELEASE.release.root_hash).data_uuid)))
    return ThisMachine(root, FakeClock())


def test_the_disk_is_the_one_under_the_running_root(tmp_path: Path) -> None:
    machine = machine_at(tmp_path)
    assert machine.disk_name() == "vda"
    with machine.disk(writable=False) as disk:
        assert disk.size_bytes > 0
    running = machine.running()
    assert (running.image, str(running.version), running.host_id) == ("host", "1.0.0", "abc")


def test_a_cloned_disk_is_not_taken_for_the_own(tmp_path: Path) -> None:
    assert machine_at(tmp_path, disks=("vdb", "vda")).disk_name() == "vdb"


def test_a_machine_that_is_no_host_is_told_so(tmp_path: Path) -> None:
    machine = machine_at(tmp_path)
    (tmp_path / "usr/lib/os-release").write_text("ID=debian\n")
    with pytest.raises(SlotError, match="IMAGE_ID"):
        machine.running()
    with pytest.raises(SlotError, match="roothash"):
        root_hash_of("quiet")


def test_what_follows_the_images_own_arguments_does_not_count() -> None:
    assert root_hash_of("quiet roothash=AB -- roothash=cd") == "ab"
    with pytest.raises(SlotError, match="has no roothash="):
        root_hash_of("quiet -- roothash=cd")


def test_two_root_hashes_name_no_system() -> None:
    with pytest.raises(SlotError, match="has 2 roothash="):
        root_hash_of("roothash=ab roothash=ab")


def test_the_gate_is_open_while_the_agent_opens_the_disk_and_only_then(tmp_path: Path) -> None:
    filters = MemoryFilters()
    machine = replace(machine_at(tmp_path), gate=DiskGate(filters))
    uuids = ("esp", "no", str(identity_of(RELEASE.release.root_hash).data_uuid), "tree", "data b", "tree b")
    write_block_tree(tmp_path, ("vda",), uuids)
    machine.close_gate()
    (closed,) = filters.attached
    assert closed == refusal([DeviceNumber(253, minor) for minor in (0, 3, 4, 5, 6)])
    with machine.disk(writable=True) as device:
        assert filters.attached == [closed]
        device.pwrite(0, device.pread(0, 512))
    with machine.disk(writable=False):
        assert filters.attached == [closed]


def test_kernel_arguments_from_outside_are_those_the_initrd_kept(tmp_path: Path) -> None:
    machine = machine_at(tmp_path)
    assert machine.foreign_arguments() == ()
    kept = tmp_path / FOREIGN_ARGUMENTS
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b" rdinit=/usr/bin/sh \xff\n")
    assert machine.foreign_arguments() == ("rdinit=/usr/bin/sh", "\ufffd")


def test_facts_come_from_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "boot/EFI/Linux"
    folder.mkdir(parents=True)
    uki = RELEASE.content(RELEASE.release.artifacts.uki)
    for name in ("host_1.0.0.efi", "host_1.0.1+3-0.new"):
        (folder / name).write_bytes(uki)
    facts = read_facts(replace(machine_at(tmp_path), boot_folder=tmp_path / "boot"))
    assert facts.blessed
    assert facts.slot.value == "a"
    assert facts.inactive_state is SlotState.EMPTY
    assert [entry.file_name for entry in facts.entries] == ["host_1.0.0.efi"]
    assert not facts.strays


def test_a_file_is_known_by_what_it_boots_and_not_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "boot/EFI/Linux"
    folder.mkdir(parents=True)
    uki = RELEASE.content(RELEASE.release.artifacts.uki)
    old = built("0.9.0")
    files = {
        "host_99.0.0.efi": old.content(old.release.artifacts.uki),
        "host_98.0.0.efi": b"x",
        "host_97.0.0+3-0.efi": b"",
        "CONTAI~1.EFI": uki,
        "memtest.efi": b"MZ" + bytes(100),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    facts = read_facts(replace(machine_at(tmp_path), boot_folder=tmp_path / "boot"))
    assert not facts.entries
    assert {stray.name: stray.content and stray.content.root_hash for stray in facts.strays} == {
        "host_99.0.0.efi": old.release.root_hash,
        "host_98.0.0.efi": None,
        "host_97.0.0+3-0.efi": None,
        "CONTAI~1.EFI": RELEASE.release.root_hash,
        "memtest.efi": None,
    }
    assert Hints().newest_known(facts) is None


def test_a_host_that_is_a_folder_is_read_without_mounting_and_notes_its_reboot(tmp_path: Path) -> None:
    host = HostFolder.make(tmp_path / "host", RELEASE)
    machine = folder_machine(HostPaths(host.root))
    facts = read_facts(machine)
    assert (facts.blessed, facts.slot.value, facts.inactive_state) == (True, "a", SlotState.EMPTY)
    assert not host.wants_reboot()
    machine.reboot(force=False)
    assert host.wants_reboot()


def fake_programs(folder: Path, monkeypatch: pytest.MonkeyPatch, mount: str, *, sync: str = ":") -> Path:
    log = folder / "log"
    (folder / "bin").mkdir()
    for name, body in (("mount", mount), ("umount", ":"), ("sync", sync)):
        path = folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n{body}\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    return log


def test_the_boot_partition_is_mounted_only_as_long_as_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fake_programs(tmp_path, monkeypatch, ":")
    at = tmp_path / "run/boot"
    with boot_partition.mounted(Path("/dev/vda2"), at, writable=False, clock=FakeClock()) as mount:
        assert mount == at
    assert not at.exists()
    lines = log.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["mount", "umount"]
    assert "--read-only -t vfat -o nosuid,nodev,noexec" in lines[0]


def test_a_boot_partition_in_use_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fake_programs(tmp_path, monkeypatch, f'test "$(grep -c ^mount {tmp_path}/log)" -ge 3')
    clock = FakeClock()
    with boot_partition.mounted(Path("/dev/vda2"), tmp_path / "at", writable=True, clock=clock):
        pass
    assert len(clock.slept) == 2
    lines = log.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["mount", "mount", "mount", "sync", "umount"]
    # Not the option `rw`, with which mount(8) falls back to a read-only mount.
    assert "--read-write -t vfat -o nosuid" in lines[0]


def test_a_boot_partition_that_cannot_be_synced_is_unmounted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fake_programs(tmp_path, monkeypatch, ":", sync="false")
    with (
        pytest.raises(ProcessError),
        boot_partition.mounted(Path("/dev/vda2"), tmp_path / "at", writable=True, clock=FakeClock()),
    ):
        pass
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["mount", "sync", "umount"]


def test_a_boot_entry_is_written_synced_and_read_back(tmp_path: Path) -> None:
    folder = MountedBootFolder(tmp_path)
    content = os.urandom((4 << 20) + 777)
    with folder.create("host_1+3-0.new") as sink:
        sink.write(content[:1000])
        sink.write(memoryview(content)[1000:])
    assert folder.sha256_uncached("host_1+3-0.new") == hashlib.sha256(content).hexdigest()
    folder.sync()
    assert folder.names() == ("host_1+3-0.new",)
    assert folder.size_bytes("host_1+3-0.new") == len(content)
    assert folder.free_bytes() > 0
    folder.remove("host_1+3-0.new")
    assert folder.names() == ()


def test_a_boot_entry_that_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with MountedBootFolder(tmp_path).create("a.new") as sink:
            sink.write(b"half")
            raise SlotError("no")

    with pytest.raises(SlotError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_boot_entry_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "EFI/Linux"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode())
    with pytest.raises(SlotError, match="already exists"):
        BootPartitionFolder(tmp_path).rename("a", "b")
    with pytest.raises(FileExistsError), MountedBootFolder(folder).create("a"):
        pass
    assert (folder / "a").read_bytes() == b"a"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc/passwd"])
def test_a_name_with_a_path_in_it_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SlotError):
        MountedBootFolder(tmp_path).remove(name)


def test_efi_variables_are_read_and_the_one_shot_entry_is_written(tmp_path: Path) -> None:
    variables = EfiVariables(tmp_path)
    assert variables.secure_boot() is None
    (tmp_path / f"SecureBoot-{GLOBAL}").write_bytes(b"\6\0\0\0\1")
    assert variables.secure_boot() is True
    variables.set_one_shot("host_1+3-0.efi")
    written = (tmp_path / f"LoaderEntryOneShot-{LOADER}").read_bytes()
    assert written == b"\7\0\0\0" + "host_1+3-0.efi\0".encode("utf-16-le")


def test_a_machine_without_efi_variables_is_told(tmp_path: Path) -> None:
    with pytest.raises(SlotError, match=r"LoaderEntryOneShot.*does not take it"):
        EfiVariables(tmp_path / "none").set_one_shot("x")


def test_hints_survive_a_round_trip(tmp_path: Path) -> None:
    store = HintStore(tmp_path / "new/state.json")
    hints = Hints(hold=Hold("audit", NOW)).with_bad(RELEASE.release.version, "x", NOW)
    hints = hints.with_event(EventKind.HELD, "x", NOW)
    assert store.change(lambda _: hints, NOW) == hints
    assert store.load(NOW) == hints


def test_an_update_lock_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "run/lock"
    with exclusive(path, FakeClock()), pytest.raises(BusyError), exclusive(path, FakeClock(), patience_s=5.0):
        pass
    with exclusive(path, FakeClock()):
        pass
