"""Changes of a folder or a small file as values: which 512 bytes become which.

A sector is what a disk writes whole or not at all, so a change of one sector is one step: a power cut leaves the old
state or the new one.  Every planned change is read again as a folder before it is handed out; the other entries are
the same, and the new name leads to the same content.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import chain

from partitions.errors import FatError
from partitions.fat import names
from partitions.fat.directory import DELETED, END, SLOTS_PER_SECTOR, FatEntry, Folder
from partitions.fat.geometry import SECTOR_BYTES, SLOT_BYTES

_CASE_BYTE = 12


@dataclass(frozen=True)
class SectorWrite:
    """One write of 512 bytes: at `offset` the device has `before` and shall have `data`."""

    offset: int
    before: bytes
    data: bytes


@dataclass(frozen=True)
class StraddlesSector:
    """Why a rename is not one write: the slots of the old name, or those that the new one needs, are in two sectors.

    `plan_move` renames such an entry, or it is laid out anew with `placement`.
    """

    folder: str
    name: str
    needed: int

    def __str__(self) -> str:
        return f"{self.folder or '/'}/{self.name}: no {self.needed} slots for its new name in the sector it is in"


def plan_rename(folder: Folder, old: str, new: str) -> SectorWrite | StraddlesSector:
    """The one write that gives an entry another long name, or why it takes more than one.

    The content stays; the short name is a fresh one.  Slots that are no longer needed are marked as deleted, more of
    them are taken from free ones of the same sector.

    Raises:
        FatError: There is no such entry, or something else is called `new`, or `new` is not a name.
    """
    entry = folder.require(old)
    slots = _renamed_slots(folder, entry, new)
    sector = entry.last_slot // SLOTS_PER_SECTOR
    start = _room_in(folder, sector, len(slots), own=entry.slots, wanted=entry.last_slot + 1 - len(slots))
    if not entry.in_one_sector or start is None:
        return StraddlesSector(folder.path, entry.name, len(slots))
    write, after = _written(folder, sector, remove=entry.slots, start=start, slots=slots)
    _require_renamed(folder, after, entry, new)
    return write


def plan_move(folder: Folder, old: str, new: str) -> tuple[SectorWrite, ...]:
    """The writes that give an entry another long name and put it into one sector; each is durable before the next.

    After the first one that changes what readers see, the new name is there, whole.  When its sector is not the one
    that the old entry ends in, both names lead to the same content until the write after it: a file with two names
    must never be removed by a file system's driver, which would free what the other name needs.  `plan_forget` removes
    one of them.  The writes after that mark slots as deleted that readers ignore already.

    Raises:
        FatError: As `plan_rename`, or no sector of the folder has room.
    """
    entry = folder.require(old)
    slots = _renamed_slots(folder, entry, new)
    home = entry.last_slot // SLOTS_PER_SECTOR
    own = [index for index in entry.slots if index // SLOTS_PER_SECTOR == home]
    writes: list[SectorWrite] = []
    start = _room_in(folder, home, len(slots), own=own, wanted=entry.last_slot + 1 - len(slots))
    if start is not None:
        write, after = _written(folder, home, remove=own, start=start, slots=slots)
        writes.append(write)
    else:
        sector, start = _room_elsewhere(folder, len(slots))
        after = folder
        if folder.end < start:
            # Readers stop at the end of the folder, so the slots from there to the new sector become deleted ones.
            write, after = _written(folder, sector - 1, remove=range(folder.end, start), start=start, slots=())
            writes.append(write)
        write, after = _written(after, sector, remove=(), start=start, slots=slots)
        writes.append(write)
    steps = _forgotten(after, [index for index in entry.slots if start is None or index not in _span(start, slots)])
    writes += (write for write, _ in steps)
    _require_renamed(folder, steps[-1][1] if steps else after, entry, new)
    return tuple(writes)


def plan_forget(folder: Folder, entry: FatEntry) -> tuple[SectorWrite, ...]:
    """The writes that remove a name and leave its content alone, for a file that has another name.

    The first one makes it disappear; each is durable before the next.

    Raises:
        FatError: The entry is not one of the folder, or its content has no other name there.
    """
    if entry not in folder.entries:
        raise FatError(f"{folder.path or '/'}: {entry.name} is not an entry of this folder")
    if not any(each != entry and each.first_cluster == entry.first_cluster for each in folder.entries):
        raise FatError(f"{folder.path or '/'}: {entry.name} is the only name of its content")
    return tuple(write for write, _ in _forgotten(folder, list(entry.slots)))


def plan_replace(entry: FatEntry, data_offset: int, before: bytes, data: bytes) -> SectorWrite:
    """The one write that gives a file of exactly 512 bytes other content of the same length.

    `data_offset` is where its content is on the device, `before` what it holds.

    Raises:
        FatError: The file or the content is not 512 bytes long.
    """
    if entry.is_folder or not entry.size_bytes == len(before) == len(data) == SECTOR_BYTES:
        raise FatError(
            f"{entry.name} has {entry.size_bytes} bytes and shall have {len(data)}: only a file of {SECTOR_BYTES} bytes"
            " is replaced by one write"
        )
    return SectorWrite(data_offset, before, data)


def _renamed_slots(folder: Folder, entry: FatEntry, new: str) -> tuple[bytes, ...]:
    """The slots of an entry under another name."""
    names.require_name(new)
    others = frozenset(name for each in folder.entries if each != entry for name in each.folded_names)
    if names.folded(new) in others:
        raise FatError(f"{folder.path or '/'}: there is something called {new} already")
    short = names.make_short(new, others | {names.folded(new)}, folder.checksums)
    last = bytearray(folder.slot(entry.last_slot))
    last[: names.SHORT_NAME_BYTES] = short
    last[_CASE_BYTE] = 0
    return (*(() if names.is_short(new) else names.long_slots(new, short)), bytes(last))


def _room_in(folder: Folder, sector: int, count: int, *, own: Collection[int], wanted: int) -> int | None:
    """Where `count` slots begin that are free in a sector or `own`; `wanted`, if they are free there."""
    first = sector * SLOTS_PER_SECTOR
    places = range(first, first + SLOTS_PER_SECTOR - count + 1)
    for start in chain((wanted,), places):
        span = range(start, start + count)
        if start in places and all(index in own or folder.is_free(index) for index in span) and _ends(folder, span):
            return start
    return None


def _ends(folder: Folder, span: range) -> bool:
    """Whether readers get as far as these slots, and do not get farther than before behind them."""
    if span.start > folder.end:
        return False
    # What follows in the same sector is cleared with it; the next sector must end the folder by itself.
    return (
        span.stop <= folder.end
        or span.stop % SLOTS_PER_SECTOR != 0
        or span.stop == folder.slot_count
        or folder.slot(span.stop)[0] == END
    )


def _room_elsewhere(folder: Folder, count: int) -> tuple[int, int]:
    """A sector and the slot in it where `count` free slots begin; the slots before it may have to be marked first."""
    for sector in range(folder.slot_count // SLOTS_PER_SECTOR):
        start = _room_in(folder, sector, count, own=(), wanted=-1)
        if start is not None:
            return sector, start
    sector = folder.end // SLOTS_PER_SECTOR + 1
    start = sector * SLOTS_PER_SECTOR
    if folder.end % SLOTS_PER_SECTOR and start < folder.slot_count and folder.slot(start)[0] == END:
        return sector, start
    raise FatError(f"{folder.path or '/'}: no sector of the folder has {count} free slots")


def _written(
    folder: Folder, sector: int, *, remove: Collection[int], start: int, slots: tuple[bytes, ...]
) -> tuple[SectorWrite, Folder]:
    """A write of one sector and the folder after it: some slots are marked as deleted, others written."""
    first = sector * SLOTS_PER_SECTOR
    before = folder.raw[first * SLOT_BYTES : first * SLOT_BYTES + SECTOR_BYTES]
    data = bytearray(before)
    for index in remove:
        data[(index - first) * SLOT_BYTES] = DELETED
    for index, slot in enumerate(slots, start=start - first):
        data[index * SLOT_BYTES : (index + 1) * SLOT_BYTES] = slot
    stop = max([start + len(slots) if slots else 0, *(index + 1 for index in remove)])
    if stop > folder.end:
        data[(stop - first) * SLOT_BYTES :] = bytes(SECTOR_BYTES - (stop - first) * SLOT_BYTES)
    after = folder.with_sector(sector, bytes(data))
    return SectorWrite(folder.sector_offsets[sector], before, bytes(data)), after


def _forgotten(folder: Folder, slots: list[int]) -> list[tuple[SectorWrite, Folder]]:
    """Writes that mark slots as deleted, and the folder after each; the sector of the last slot, the name's, first."""
    steps: list[tuple[SectorWrite, Folder]] = []
    after = folder
    for sector in sorted({index // SLOTS_PER_SECTOR for index in slots}, reverse=True):
        mine = [index for index in slots if index // SLOTS_PER_SECTOR == sector and not after.is_free(index)]
        if mine:
            write, after = _written(after, sector, remove=mine, start=0, slots=())
            steps.append((write, after))
    return steps


def _span(start: int, slots: tuple[bytes, ...]) -> range:
    return range(start, start + len(slots))


def _require_renamed(before: Folder, after: Folder, entry: FatEntry, new: str) -> None:
    """Refuse a plan that does not do what it is for: a guard against errors in this module and odd folders."""
    kept = [_content(each) for each in before.entries if each != entry]
    found = [each for each in after.entries if each.name == new]
    rest = [_content(each) for each in after.entries if each.name != new]
    wanted = replace(entry, name=new)
    if len(found) != 1 or sorted(rest) != sorted(kept) or _content(found[0])[1:] != _content(wanted)[1:]:
        raise FatError(f"{before.path or '/'}: {entry.name} cannot become {new} without harm to other entries")
    if not found[0].in_one_sector or set(after.doubled) - set(before.doubled):
        raise FatError(f"{before.path or '/'}: the slots of {new} would not be in one sector, or its name not unique")


def _content(entry: FatEntry) -> tuple[str, int, int, int]:
    return entry.name, entry.attributes, entry.first_cluster, entry.size_bytes
