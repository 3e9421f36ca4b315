"""A host that is a folder, for the real program: `updater --root DIR`.

Its disk is a file with two slots, its boot partition a folder, its kernel's view of both a few files.  `boot()` does
what firmware, loader and initrd do; nothing here is shared with the code under test but the format modules.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedrock import process
from bedrock.errors import TwinhullError
from bedrock.process import Finished, Running
from partitions.blockio import DeviceWindow, FileBlockDevice
from partitions.disk import DiskMap, find_slots, read_table
from partitions.entries import BootEntry, parse_entry
from partitions.layout import Slot, identity_of
from partitions.verity import verify
from tests.fakes.gpt_disk import PartitionSpec, twin_parts
from tests.fakes.loader import selected, sort_entries
from tests.fakes.twin_host import IMAGE, TYPES, BuiltRelease, TwinHost, asked_for
from updater.agent.efi import ATTRIBUTES_BYTES, LOADER

RUN_WITHIN_S = 60.0
# Time limits that a test can wait for.
SETTINGS = """\
url: {url}
channel: stable
health: {{engine: none, checks_dirs: [], failed_units: {{need: none}}, settle: 0, patience: 0, server_patience: 0}}
timeouts: {{connect: 1, read: 1, document: 2}}
"""


@dataclass
class HostFolder:
    """The host; it starts with one release, blessed, in slot A."""

    root: Path
    known: dict[str, BuiltRelease] = field(default_factory=dict)
    boots: int = 0

    @classmethod
    def make(
        cls,
        root: Path,
        first: BuiltRelease,
        *,
        root_of_trust: bytes = b"",
        url: str = "http://127.0.0.1:1",
        parts: Sequence[PartitionSpec] | None = None,
        fallback: BuiltRelease | None = None,
    ) -> HostFolder:
        """A new host in `root`, which trusts `root_of_trust` and asks the server at `url`.

        With a `fallback`, which must be older, slot B holds it, proven.
        """
        host, machine = cls(root), TwinHost(first, parts)
        host.know(first)
        if fallback is not None:
            machine.put(fallback, Slot.B)
            host.know(fallback)
        for name in ("dev", "boot/EFI/Linux", "sys/firmware/efi/efivars", "usr/lib/twinhull", "etc/twinhull"):
            (root / name).mkdir(parents=True)
        host.disk.write_bytes(machine.disk.content)
        for name in machine.folder.names():
            (host.entries_folder / name).write_bytes(machine.folder.durable[name])
        host.write("etc/machine-id", "abc\n")
        host.write("usr/lib/twinhull/root.json", root_of_trust.decode())
        host.settings(SETTINGS.format(url=url))
        assert host.boot() == str(first.release.version)
        return host

    @property
    def disk(self) -> Path:
        return self.root / "dev/vda"

    @property
    def entries_folder(self) -> Path:
        return self.root / "boot/EFI/Linux"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/twinhull"

    @property
    def spool(self) -> Path:
        return self.root / "var/cache/twinhull"

    def write(self, name: str, text: str) -> None:
        """Write a file of the host."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def settings(self, text: str) -> None:
        """The image's own settings."""
        self.write("usr/lib/twinhull/updater.yaml", text)

    def add_settings(self, text: str) -> None:
        """The host's own settings, over the image's."""
        self.write("etc/twinhull/updater.yaml", text)

    def know(self, *releases: BuiltRelease) -> None:
        """What comes up when one of these is booted."""
        self.known.update({one.release.root_hash: one for one in releases})

    def entry_names(self) -> list[str]:
        return sorted(path.name for path in self.entries_folder.iterdir())

    def argv(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "updater.agent.cli", "--root", str(self.root), *words)

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> Finished:
        """Run the program to its end."""
        done = process.run(self.argv(*words), timeout_s=RUN_WITHIN_S, env=env, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def ok(self, *words: str) -> str:
        """What the program prints when it ends well."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str) -> Any:
        """What the program says for programs."""
        return json.loads(self.ok(*words, "--json"))

    def start(self, *words: str) -> Running:
        """Start the program; the caller ends it."""
        with (self.root / "stderr").open("wb") as stderr:
            return process.start(self.argv(*words), stderr=stderr)

    def wants_reboot(self) -> bool:
        """Whether a reboot was requested since the last boot."""
        return (self.root / "run/twinhull/reboot").exists()

    def boot(self) -> str | None:
        """Reset: the version that comes up and books its boot, or None when the chosen one dies in the initrd."""
        self.boots += 1
        chosen = self._chosen()
        root_hash = asked_for((self.entries_folder / chosen.file_name).read_bytes())
        if chosen.tries_left is not None:
            counted = BootEntry(
                chosen.image, chosen.version, max(0, chosen.tries_left - 1), (chosen.tries_done or 0) + 1
            )
            (self.entries_folder / chosen.file_name).rename(self.entries_folder / counted.file_name)
        if not self.verified(root_hash):
            return None
        version = str(self.known[root_hash].release.version)
        self.write("usr/lib/os-release", f"IMAGE_ID={IMAGE}\nIMAGE_VERSION={version}\n")
        self.write("proc/cmdline", f"quiet roothash={root_hash}\n")
        self.write("proc/sys/kernel/random/boot_id", f"boot-{self.boots}\n")
        write_block_tree(self.root, ("vda",), self._partition_uuids())
        (self.root / "run/twinhull/reboot").unlink(missing_ok=True)
        return version

    def booked(self) -> str | None:
        """The same, and twinhull-boot.service does its work."""
        version = self.boot()
        if version is not None:
            self.ok("boot")
        return version

    def _chosen(self) -> BootEntry:
        entries = [entry for name in self.entry_names() if (entry := parse_entry(name))]
        once = self.root / f"sys/firmware/efi/efivars/LoaderEntryOneShot-{LOADER}"
        chosen = selected(entries)
        if once.exists():
            pattern = once.read_bytes()[ATTRIBUTES_BYTES:].decode("utf-16-le").rstrip("\0").lower()
            once.unlink()
            matching = (e for e in sort_entries(entries) if fnmatch.fnmatchcase(e.file_name.lower(), pattern))
            chosen = next(matching, chosen)
        assert chosen is not None, "nothing is bootable"
        return chosen

    def map(self) -> DiskMap:
        with FileBlockDevice.open(self.disk, writable=False) as device:
            return find_slots(read_table(device), TYPES)

    def _partition_uuids(self) -> list[str]:
        with FileBlockDevice.open(self.disk, writable=False) as device:
            return [str(entry.uuid) for entry in read_table(device).entries[:8]]

    def verified(self, root_hash: str) -> bool:
        """Whether an initrd finds the partitions of this root hash and every block in them is right."""
        identity, found = identity_of(root_hash), self.map()
        data = [s.data for s in (found.a, found.b) if s.data.uuid == identity.data_uuid]
        tree = [s.verity for s in (found.a, found.b) if s.verity.uuid == identity.verity_uuid]
        if len(data) != 1 or len(tree) != 1:
            return False
        with FileBlockDevice.open(self.disk, writable=False) as device:
            parts = (DeviceWindow(device, part.offset_bytes, part.size_bytes) for part in (data[0], tree[0]))
            try:
                verify(*parts, root_hash=root_hash)
            except TwinhullError:
                return False
        return True

    def what_boots(self) -> dict[str, str]:
        """The hash of every byte of the disk and of every file of the boot partition: what no attack may change."""
        files = [self.disk, *sorted((self.root / "boot").rglob("*"))]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


def large_parts() -> list[PartitionSpec]:
    """Slots for releases of up to 8 MiB."""
    return twin_parts(root_sectors=16384, verity_sectors=512)


def write_block_tree(root: Path, disks: Sequence[str], uuids: Sequence[str]) -> None:
    """The kernel's view of these disks below `root`: each has partitions with these UUIDs; the root is on the first."""
    blocks = root / "sys/class/block"
    blocks.mkdir(parents=True, exist_ok=True)
    for disk in disks:
        for number, uuid in enumerate(uuids, start=1):
            folder = root / "sys/devices" / disk / f"{disk}{number}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "partition").write_text(f"{number}\n")
            (folder / "uevent").write_text(f"DEVTYPE=partition\nPARTUUID={uuid}\n")
            (folder / "dev").write_text(f"253:{number}\n")
            _link(blocks / folder.name, folder)
        (root / "sys/devices" / disk / "dev").write_text("253:0\n")
        _link(blocks / disk, root / "sys/devices" / disk)
    verity = root / "sys/devices/virtual/block/dm-0"
    (verity / "dm").mkdir(parents=True, exist_ok=True)
    (verity / "dm/name").write_text("root\n")
    _link(blocks / "dm-0", verity)
    for number in (3, 4):
        (verity / "slaves" / f"{disks[0]}{number}").mkdir(parents=True, exist_ok=True)


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.symlink_to(target)
