"""Which disk is this host's, and which others look like it.

The running root's device says what it is made of, so no search by identities decides, and no copy can be taken for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from partitions.blockio import FileBlockDevice
from partitions.disk import read_table
from partitions.errors import PartitionsError
from partitions.gpt import GptTable
from partitions.layout import TYPE_XBOOTLDR, identity_of
from updater.errors import SlotError

# What the initrd calls the running root (systemd-veritysetup attach).
ROOT_NAME = "root"
# Kinds of devices that are no disks by themselves.
_NO_DISKS = ("dm-", "fd", "loop", "md", "ram", "sr", "zram")
# Partitions whose identity belongs to one disk; those of a slot are named by its content.
_IDENTIFYING = frozenset({"esp", "xbootldr", "state", "var"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OtherDisk:
    """Another disk that carries what only this host's should; `same` says what."""

    name: str
    same: tuple[str, ...]

    def __str__(self) -> str:
        return f"the disk {self.name} has this host's {', '.join(self.same)}; it is not used"


def own_disk(root: Path) -> str:
    """The kernel's name of the disk under the running root; `root` is `/` or a folder with its files.

    Raises:
        SlotError: The running root is no verity device, or its parts are not partitions of one disk.
    """
    blocks = root / "sys/class/block"
    for device in sorted(blocks.glob("dm-*")):
        if _text(device / "dm/name") == ROOT_NAME:
            parts = sorted(path.name for path in (device / "slaves").iterdir())
            disks = {(blocks / part).resolve().parent.name for part in parts if (blocks / part / "partition").exists()}
            if len(disks) != 1:
                raise SlotError(f"the running root is on {', '.join(parts) or 'nothing'}, not on partitions of a disk")
            return disks.pop()
    raise SlotError("this machine does not run from a Twinhull slot: no device is called root")


def boot_partition(root: Path) -> Path:
    """The device of this host's XBOOTLDR.

    Raises:
        SlotError: There is none, or the kernel does not know it.
        PartitionsError: The table cannot be read.
    """
    own = own_disk(root)
    numbers = [n for n, e in enumerate(_table_of(root, own).entries, start=1) if e.type_uuid == TYPE_XBOOTLDR]
    for path in sorted((root / "sys/class/block").iterdir()):
        number = _text(path / "partition")
        if number and [int(number)] == numbers and path.resolve().parent.name == own:
            return root / "dev" / path.name
    raise SlotError(f"the disk {own} has no boot partition that the kernel knows")


def other_disks(root: Path, root_hash: str) -> tuple[OtherDisk, ...]:
    """Disks that carry the running release or identities of this host's disk: clones, and disks of other hosts.

    Raises:
        SlotError: This host's own disk is not known.
        PartitionsError: Its table cannot be read.
    """
    own = own_disk(root)
    table = _table_of(root, own)
    found = []
    for name in _disks(root):
        if name == own:
            continue
        try:
            same = _in_common(table, _table_of(root, name), root_hash)
        except (PartitionsError, OSError) as error:
            # Empty drives and foreign tables are nothing remarkable.
            _log.debug("%s: %s", name, error)
            continue
        if same:
            found.append(OtherDisk(name, same))
    return tuple(found)


def _in_common(own: GptTable, other: GptTable, root_hash: str) -> tuple[str, ...]:
    """What of our disk another one has as well."""
    theirs = {entry.uuid for entry in other.entries if entry.used}
    same = ["release"] if identity_of(root_hash).data_uuid in theirs else []
    same += ["disk identity"] if own.disk_uuid == other.disk_uuid else []
    return (*same, *(e.label for e in own.entries if e.used and e.label in _IDENTIFYING and e.uuid in theirs))


def _disks(root: Path) -> Iterator[str]:
    for path in sorted((root / "sys/class/block").iterdir()):
        if not (path / "partition").exists() and not path.name.startswith(_NO_DISKS):
            yield path.name


def _table_of(root: Path, name: str) -> GptTable:
    with FileBlockDevice.open(root / "dev" / name, writable=False) as device:
        return read_table(device)


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
