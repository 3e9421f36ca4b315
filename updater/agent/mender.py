"""Puts the boot partitions of a host right: carries out what `mending` decides, and keeps UKIs and loaders whole.

Every repair is durable before the next, and none touches what is the only thing to boot: a file is taken away only when
another entry boots, or when it cannot boot itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bedrock.errors import TwinhullError
from partitions import kept_uki, verity
from partitions.blockio import BlockDevice, DeviceWindow
from partitions.disk import SlotPartitions
from partitions.entries import BootEntry
from partitions.errors import BlockIOError, UkiError, VerityError
from partitions.kept_uki import KeptUki
from partitions.layout import Slot, identity_of
from updater.agent.copying import copy_uki
from updater.agent.machine import Machine, disk_map
from updater.agent.mending import Adopt, Discard, Mend, Report, Restore
from updater.agent.spare import has_spare, keep_spare

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mender:
    """Repairs the boot partition of a machine; whoever uses it holds the lock of those who change entries."""

    machine: Machine

    def carry_out(self, mends: Iterable[Mend]) -> tuple[str, ...]:
        """Do all that can be done on the disk; returns a line for each thing that was done, or could not be."""
        return tuple(self._carried_out(mend) for mend in mends)

    def repair_uki(self, entry: BootEntry, slot: Slot) -> tuple[bool | None, str]:
        """Compare an entry with the copy that its slot keeps, and write it to the disk again when it differs.

        Returns:
            Whether it is whole now, None when there was nothing to compare it with or no way to do it, and what was
            done, for a person; empty when nothing was.
        """
        damaged = False
        try:
            with self._kept(slot) as (partition, kept):
                if self._is_same(entry, kept):
                    return True, ""
                damaged = True
                kept_uki.check(partition, kept)
                self._write(entry, partition, kept)
        except (TwinhullError, OSError) as error:
            line = f"{entry.file_name} cannot be made whole from what slot {slot.value} keeps: {error}"
            return False if damaged else None, line
        return True, f"{entry.file_name} was damaged and is restored from slot {slot.value}"

    def flaw_of(self, slot: Slot) -> str:
        """What is wrong with the root file system of a slot, every block of it; empty when it is whole."""
        try:
            with self.machine.disk(writable=False) as disk:
                where = self._partitions(disk, slot)
                data, tree = (
                    DeviceWindow(disk, part.offset_bytes, part.size_bytes) for part in (where.data, where.verity)
                )
                # The identity of a slot is its whole root hash.
                root_hash = where.data.uuid.hex + where.verity.uuid.hex
                verity.verify(data, tree, root_hash=root_hash)
        except (VerityError, OSError) as error:
            return str(error)
        except TwinhullError as error:
            return f"slot {slot.value} cannot be read: {error}"
        return ""

    def keep_spare(self, entry: BootEntry, slot: Slot) -> str:
        """Keep the ESP's spare (writes to the disk); returns what was done or could not be, empty when it was there."""
        try:
            with self._kept(slot) as (partition, kept):
                if has_spare(self.machine.esp, entry, kept):
                    return ""
                kept_uki.check(partition, kept)
                keep_spare(self.machine.esp, entry, partition, kept)
        except (TwinhullError, OSError) as error:
            return f"the ESP has no spare of {entry.version}: {error}"
        return f"the ESP has a spare of {entry.version} again"

    def _carried_out(self, mend: Mend) -> str:
        try:
            match mend:
                case Adopt(name, entry):
                    self.machine.boot.rename(name, entry.file_name)
                    return f"{name} on the boot partition is called {entry.file_name} again, which is what it boots"
                case Discard(name, why):
                    self.machine.boot.remove(name)
                    return f"{name} on the boot partition was removed: {why}"
                case Restore(slot, entry, why):
                    with self._kept(slot) as (partition, kept):
                        kept_uki.check(partition, kept)
                        self._write(entry, partition, kept)
                    return f"{entry.file_name} was restored from slot {slot.value}: {why}"
                case Report(text):
                    return text
        except (TwinhullError, OSError) as error:
            return f"the boot partition was not put right ({mend}): {error}"

    @contextmanager
    def _kept(self, slot: Slot) -> Iterator[tuple[BlockDevice, KeptUki]]:
        """The data partition of a slot and the copy of its UKI, which is its own.

        Raises:
            UkiError: It keeps none, or that of another slot.
        """
        with self.machine.disk(writable=False) as disk:
            where = self._partitions(disk, slot)
            partition = DeviceWindow(disk, where.data.offset_bytes, where.data.size_bytes, name=f"slot {slot.value}")
            kept = kept_uki.read_record(partition)
            if where.identity != identity_of(kept.root_hash):
                raise UkiError(f"slot {slot.value} keeps a UKI of another root hash: {kept.root_hash}")
            yield partition, kept

    def _is_same(self, entry: BootEntry, kept: KeptUki) -> bool:
        """Whether an entry is what the slot keeps; what the disk does not give back is not."""
        with self.machine.boot.mounted(writable=False) as folder:
            try:
                return folder.sha256_uncached(entry.file_name) == kept.sha256
            except (BlockIOError, OSError):
                return False

    def _partitions(self, disk: BlockDevice, slot: Slot) -> SlotPartitions:
        return disk_map(disk, self.machine.running().architecture).slot(slot)

    def _write(self, entry: BootEntry, partition: BlockDevice, kept: KeptUki) -> None:
        """Replace an entry on the disk: there is room for one UKI of each slot, so the old file goes first."""
        with self.machine.boot.mounted(writable=False) as folder:
            old = tuple(name for name in folder.names() if name in (entry.file_name, entry.temporary_name))
        if old:
            self.machine.boot.remove(*old)
        with self.machine.boot.mounted(writable=True) as folder:
            copy_uki(partition, kept, folder, entry.temporary_name)
        self.machine.boot.rename(entry.temporary_name, entry.file_name)
