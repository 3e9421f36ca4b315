"""A folder: its slots of 32 bytes, the entries that they make, and what is left over.

A slot that begins with 0xE5 is deleted; one that begins with 0 ends the folder.  Linux reads on behind that end, EDK2
does not.
Source: Microsoft FAT Specification (2005), sections 6 and 7.  Pure: no I/O.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from partitions.errors import FatError
from partitions.fat import names
from partitions.fat.geometry import SECTOR_BYTES, SLOT_BYTES

SLOTS_PER_SECTOR = SECTOR_BYTES // SLOT_BYTES
MOST_FOLDER_BYTES = 2 << 20
DELETED = 0xE5
END = 0

ATTRIBUTE_VOLUME = 0x08
ATTRIBUTE_FOLDER = 0x10

_SHORT_SLOT = struct.Struct("<11sBB7xH4xHI")
_ORDINAL_MASK = 0x3F
_SELF_AND_PARENT = (b".          ", b"..         ")


@dataclass(frozen=True)
class FatEntry:
    """A file or a folder in a folder: `first_slot` to `last_slot` are its slots, counted in the folder from 0.

    `name` is the long name, or the short one where there is no (whole) long name.  `first_cluster` is 0 for an empty
    file.
    """

    name: str
    short_name: bytes
    attributes: int
    first_cluster: int
    size_bytes: int
    first_slot: int
    last_slot: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return bool(self.attributes & ATTRIBUTE_FOLDER)

    @property
    def slots(self) -> range:
        """The places of its slots in the folder."""
        return range(self.first_slot, self.last_slot + 1)

    @property
    def in_one_sector(self) -> bool:
        """Whether one write of 512 bytes can change all of its slots."""
        return self.first_slot // SLOTS_PER_SECTOR == self.last_slot // SLOTS_PER_SECTOR

    def is_called(self, name: str) -> bool:
        """Whether this is its long or its short name, in any case."""
        return names.folded(name) in self.folded_names

    @cached_property
    def folded_names(self) -> frozenset[str]:
        """Its long and its short name as they are compared."""
        return frozenset({names.folded(self.name), names.folded(names.read_short(self.short_name))})


@dataclass(frozen=True)
class Folder:
    """A folder: its bytes, and where on the device each 512 bytes of them are.

    `room_to_grow`: whether another cluster can be added to it, which FAT16's root folder does not allow.
    """

    path: str
    raw: bytes
    sector_offsets: tuple[int, ...]
    room_to_grow: bool = True

    def __post_init__(self) -> None:
        if len(self.raw) != len(self.sector_offsets) * SECTOR_BYTES or len(self.raw) > MOST_FOLDER_BYTES:
            raise FatError(f"{self.path or '/'}: a folder of {len(self.raw)} bytes is not possible")

    @property
    def slot_count(self) -> int:
        """How many slots there are, free ones included."""
        return len(self.raw) // SLOT_BYTES

    def slot(self, index: int) -> bytes:
        """The 32 bytes of a slot."""
        return self.raw[index * SLOT_BYTES : (index + 1) * SLOT_BYTES]

    def offset_of(self, index: int) -> int:
        """Where a slot is on the device."""
        sector, place = divmod(index, SLOTS_PER_SECTOR)
        return self.sector_offsets[sector] + place * SLOT_BYTES

    @cached_property
    def end(self) -> int:
        """The slot that ends the folder; the number of slots when all are in use or were."""
        firsts = self.raw[::SLOT_BYTES]
        found = firsts.find(END)
        return found if found >= 0 else len(firsts)

    @cached_property
    def behind_end(self) -> tuple[int, ...]:
        """Slots behind the end that hold something: Linux sees them, EDK2 does not."""
        firsts = self.raw[::SLOT_BYTES]
        return tuple(index for index in range(self.end, len(firsts)) if firsts[index] not in (END, DELETED))

    def is_free(self, index: int) -> bool:
        """Whether nothing is in a slot."""
        return index >= self.end or self.raw[index * SLOT_BYTES] == DELETED

    @cached_property
    def entries(self) -> tuple[FatEntry, ...]:
        """The files and folders, in their order; not `.`, `..` and the name of the volume."""
        return self._parsed[0]

    @cached_property
    def orphans(self) -> tuple[int, ...]:
        """Slots of long names that belong to no entry: left behind by an interrupted change, and harmless."""
        return self._parsed[1]

    @cached_property
    def checksums(self) -> frozenset[int]:
        """The checksums that the slots of long names carry."""
        return frozenset(
            self.slot(index)[13] for index in range(self.end) if not self.is_free(index) and _is_long(self.slot(index))
        )

    @cached_property
    def doubled(self) -> tuple[str, ...]:
        """Names that more than one entry answers to, folded."""
        count = Counter(name for entry in self.entries for name in entry.folded_names)
        return tuple(sorted(name for name, times in count.items() if times > 1))

    def find(self, name: str) -> FatEntry | None:
        """The first entry of this long or short name, in any case."""
        return next((entry for entry in self.entries if entry.is_called(name)), None)

    def require(self, name: str) -> FatEntry:
        """The entry of this name.

        Raises:
            FatError: There is none, or more than one.
        """
        found = [entry for entry in self.entries if entry.is_called(name)]
        if len(found) != 1:
            raise FatError(f"{self.path or '/'}: {len(found)} entries are called {name}")
        return found[0]

    def with_sector(self, index: int, data: bytes) -> Folder:
        """The folder with other content in one of its sectors, counted from 0."""
        start = index * SECTOR_BYTES
        return replace(self, raw=self.raw[:start] + data + self.raw[start + SECTOR_BYTES :])

    @cached_property
    def _parsed(self) -> tuple[tuple[FatEntry, ...], tuple[int, ...]]:
        entries: list[FatEntry] = []
        orphans: list[int] = []
        pending: list[int] = []
        for index in range(self.end):
            slot = self.slot(index)
            if slot[0] != DELETED and _is_long(slot):
                if pending and not _goes_on(self.slot(pending[-1]), slot):
                    orphans += pending
                    pending = []
                pending.append(index)
                continue
            short = None if slot[0] == DELETED or slot[11] & ATTRIBUTE_VOLUME else slot
            if short is None or not self._is_name_of(pending, short):
                orphans += pending
                pending = []
            if short is not None and short[:11] not in _SELF_AND_PARENT:
                entries.append(self._entry(pending, index))
            pending = []
        return tuple(entries), tuple(orphans + pending)

    def _is_name_of(self, pending: Sequence[int], short: bytes) -> bool:
        """Whether the slots before a short name are its whole long name."""
        if not pending:
            return True
        first, last = self.slot(pending[0]), self.slot(pending[-1])
        return (
            bool(first[0] & names.LAST_PART)
            and first[0] & _ORDINAL_MASK == len(pending) <= names.MOST_LONG_SLOTS
            and last[0] & _ORDINAL_MASK == 1
            and last[13] == names.checksum(short[:11])
            and names.read_long(tuple(self.slot(each) for each in pending)) != ""
        )

    def _entry(self, pending: Sequence[int], index: int) -> FatEntry:
        short_name, attributes, case, high, low, size_bytes = _SHORT_SLOT.unpack(self.slot(index))
        name = (
            names.read_long(tuple(self.slot(each) for each in pending))
            if pending
            else names.read_short(short_name, case)
        )
        return FatEntry(
            name, short_name, attributes, high << 16 | low, size_bytes, pending[0] if pending else index, index
        )


def _is_long(slot: bytes) -> bool:
    return slot[11] & _ORDINAL_MASK == names.ATTRIBUTE_LONG_NAME


def _goes_on(before: bytes, slot: bytes) -> bool:
    """Whether a slot is the next part of the long name that the slot before it belongs to."""
    return not slot[0] & names.LAST_PART and slot[0] == (before[0] & _ORDINAL_MASK) - 1 and slot[13] == before[13]
