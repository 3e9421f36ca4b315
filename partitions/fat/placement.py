"""Where Linux puts the slots of a new file, and how a caller gets them into one sector.

vfat takes the first free slots in a row that are enough, without regard to sectors; behind the last slot the folder
grows by a cluster.  A caller that wants an entry which `plan_rename` can change later:

1. unmounted, reads the folder and asks `fillers` for the name (the longest that the file will have);
2. mounted, creates an empty file for each filler in order, then the file itself, then removes the fillers;
3. unmounted, reads the folder again and looks at `in_one_sector` of the entry.

An entry that straddles a sector all the same (the firmware renames by removing and creating) is put into one sector by
`change.plan_move`, which needs no filler.
Source: Linux, fs/fat/dir.c, `fat_add_entries`, and fs/fat/namei_vfat.c, `vfat_build_slots`.  Pure: no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from partitions.errors import FatError
from partitions.fat import names
from partitions.fat.directory import SLOTS_PER_SECTOR, Folder

_FILLER_SUFFIX = ".tmp"


@dataclass(frozen=True)
class FilePlacement:
    """Where the slots of a file that is created next would be: the first one's place in the folder, and how many."""

    first_slot: int
    slots: int

    @property
    def in_one_sector(self) -> bool:
        """Whether one write of 512 bytes can change all of them."""
        return self.first_slot // SLOTS_PER_SECTOR == (self.first_slot + self.slots - 1) // SLOTS_PER_SECTOR


def place_of_new(folder: Folder, name: str) -> FilePlacement:
    """Where Linux would put a new file of this name.

    Raises:
        FatError: It is not a name, or the folder is full.
    """
    names.require_name(name)
    return _first_fit(folder, _used(folder), names.slots_needed(name))


def fillers(folder: Folder, name: str) -> tuple[str, ...]:
    """Names of empty files to create, in order, so that a file of this name gets slots in one sector; often none.

    Raises:
        FatError: It is not a name, it needs more slots than a sector has, or the folder is full.
    """
    names.require_name(name)
    needed = names.slots_needed(name)
    if needed > SLOTS_PER_SECTOR:
        raise FatError(f"{name!r} needs {needed} slots, a sector has {SLOTS_PER_SECTOR}")
    used, made = _used(folder), list[str]()
    taken = {each for entry in folder.entries for each in entry.folded_names}
    while not (place := _first_fit(folder, used, needed)).in_one_sector:
        to_boundary = SLOTS_PER_SECTOR - place.first_slot % SLOTS_PER_SECTOR
        filled = _first_fit(folder, used, to_boundary)
        used += [False] * (filled.first_slot + filled.slots - len(used))
        used[filled.first_slot : filled.first_slot + filled.slots] = [True] * filled.slots
        made.append(_filler(to_boundary, taken))
        taken.add(names.folded(made[-1]))
    return tuple(made)


def _used(folder: Folder) -> list[bool]:
    # Linux does not stop at the end mark, so what is behind it counts.
    behind = frozenset(folder.behind_end)
    return [not folder.is_free(index) or index in behind for index in range(folder.slot_count)]


def _first_fit(folder: Folder, used: list[bool], count: int) -> FilePlacement:
    """The first free slots in a row; those at the very end count although they are too few, if the folder can grow."""
    start = 0
    for index, taken in enumerate(used):
        if taken:
            start = index + 1
        elif index + 1 - start == count:
            return FilePlacement(start, count)
    if not folder.room_to_grow:
        raise FatError(f"{folder.path or '/'}: no {count} free slots in a row, and this folder cannot grow")
    return FilePlacement(start, count)


def _filler(slots: int, taken: set[str]) -> str:
    """A free name that needs this many slots, and that no loader looks at."""
    for number in range(len(taken) + 1):
        name = f"FILL{number:04}.TMP"
        if slots > 1:
            name = f"filler-{number}-".ljust((slots - 2) * names.UNITS_PER_SLOT + 1, "x") + _FILLER_SUFFIX
        if names.folded(name) not in taken and names.slots_needed(name) == slots:
            return name
    raise FatError(f"there is no name for a file of {slots} slots")
