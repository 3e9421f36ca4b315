r"""Judges a disk as a power cut left it, without booting it: what would the firmware, the loader and the initrd do?

The firmware starts `\EFI\BOOT\BOOTX64.EFI` of the ESP; when that, or what it starts, is refused, it starts the one on
XBOOTLDR.  A loader knows the entries of its own partition and of XBOOTLDR, and starts that of `powercut_loader.pick`.
A UKI that is not byte for byte one of the signed releases' is refused by Secure Boot.  A UKI whose slot is not whole
comes back to the firmware by its watchdog, with one try less if it is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from powercut_disk import ReplayedDisk
from powercut_loader import LoaderEntry, default_of, make_entry, os_release_of, pick
from powercut_slots import Reference, SlotContent

from partitions.blockio import DeviceWindow
from partitions.disk import DiskMap, find_slots, read_table
from partitions.entries import ENTRIES_FOLDER, SUFFIX
from partitions.errors import FatError, GptError
from partitions.fat.check import FatFlaw, judge
from partitions.fat.directory import FatEntry
from partitions.fat.volume import FatVolume
from partitions.gpt import Copy, GptEntry
from partitions.layout import ROOT_TYPES, Slot

LOADER = "EFI/BOOT/BOOTX64.EFI"
LOADER_CONF = "loader/loader.conf"
# More starts than the counters of all entries allow.
_MOST_STARTS = 24
_MOST_CONF_BYTES = 4096
_MOST_KEPT = 256


class Problem(Enum):
    """What no power cut may leave."""

    UNBOOTABLE = "nothing boots by itself"
    BROKEN_FIRST = "what the loader starts first is damaged, or its slot is not whole"
    MISNAMED_SLOT = "a slot has the identity of a release that it does not hold whole"
    EMPTY_ENTRY = "an entry has a name and no content: half of a rename"
    TABLE_LOST = "neither copy of the partition table is readable"


@dataclass(frozen=True)
class Start:
    """A UKI that a loader starts: the loader's partition, the entry, the release in it if signed, and its partition."""

    loader: str
    entry: str
    version: str | None
    partition: str = "xbootldr"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a disk.

    Attributes:
        problems: What may not be.
        first: What the first loader starts; None when it finds nothing.
        second: What the second loader would start; None when there is none, or it finds nothing.
        boots: The version that comes up in the end, and its slot.
        starts: How often the machine has to start until it does.
        backup_table: Whether only the backup partition table is readable.
        flaws: What is wrong with the boot partitions' file systems.
    """

    problems: frozenset[Problem]
    first: Start | None = None
    second: Start | None = None
    boots: tuple[str, Slot] | None = None
    starts: int = 0
    backup_table: bool = False
    flaws: frozenset[FatFlaw] = frozenset()

    @property
    def fell_back(self) -> bool:
        """Whether something else comes up than what the first loader starts first."""
        return self.boots is not None and (self.first is None or self.boots[0] != self.first.version or self.starts > 1)


@dataclass(frozen=True)
class _File:
    """A file of the entries' folder as the loader sees it."""

    entry: LoaderEntry
    reference: Reference | None


@dataclass(frozen=True)
class _BootPartition:
    """What a FAT partition has for the firmware and the loader."""

    name: str
    loader: bool = False
    default: str | None = None
    files: tuple[_File, ...] = ()
    empty: bool = False
    flaws: frozenset[FatFlaw] = frozenset()

    def bumped(self, name: str) -> _BootPartition:
        """The partition after its loader counted a start of an entry."""
        files = (
            _File(file.entry.bumped(), file.reference) if file.entry.file_name == name else file for file in self.files
        )
        return replace(self, files=tuple(files))


@dataclass
class Judge:
    """Judges the states of one disk; a judgement is kept until something changes that it rests on.

    Args:
        disk: The disk; it gets the regions `table`, `esp` and `xbootldr`.
        where: Its partitions.
        references: The releases that are signed.
        loaders: The programs that are signed loaders.
    """

    disk: ReplayedDisk
    where: DiskMap
    references: tuple[Reference, ...]
    loaders: frozenset[bytes]
    _slots: dict[Slot, SlotContent] = field(default_factory=dict)
    _partitions: dict[str, tuple[tuple[int, ...], _BootPartition]] = field(default_factory=dict)
    _table: tuple[tuple[int, ...], tuple[DiskMap | None, bool]] | None = None
    _verdicts: dict[object, Verdict] = field(default_factory=dict)
    judged: int = 0

    def __post_init__(self) -> None:
        for slot in (self.where.a, self.where.b):
            self._slots[slot.slot] = SlotContent(self.disk, slot, self.references)
        first = self.where.esp.offset_bytes
        self.disk.watch("table", range(first), range(self.disk.size_bytes - (1 << 20), self.disk.size_bytes))
        for name, partition in (("esp", self.where.esp), ("xbootldr", self.where.xbootldr)):
            self.disk.watch(name, _range_of(partition))

    def touches(self, offset: int, length: int) -> bool:
        """Whether a write can change the judgement."""
        parts = [*self._slot_ranges(), *(_range_of(each) for each in (self.where.esp, self.where.xbootldr))]
        inside = any(part.start < offset + length and offset < part.stop for part in parts)
        return inside or self.disk.touches("table", offset, length)

    def content(self, slot: Slot) -> SlotContent:
        """What is in a slot."""
        return self._slots[slot]

    def verdict(self) -> Verdict:
        """Judge the disk as it is now."""
        key = (self.disk.generation("table", "esp", "xbootldr"), self._whole())
        if key not in self._verdicts:
            self.judged += 1
            if len(self._verdicts) == _MOST_KEPT:
                self._verdicts.clear()
            self._verdicts[key] = self._judge()
        return self._verdicts[key]

    def _slot_ranges(self) -> Iterator[range]:
        for slot in (self.where.a, self.where.b):
            yield _range_of(slot.data)
            yield _range_of(slot.verity)

    def _whole(self) -> tuple[bool, ...]:
        return tuple(content.holds(each) for content in self._slots.values() for each in self.references)

    def _judge(self) -> Verdict:
        table, backup = self._read_table()
        if table is None:
            return Verdict(frozenset({Problem.TABLE_LOST, Problem.UNBOOTABLE}))
        parts = [self._partition("esp", table.esp), self._partition("xbootldr", table.xbootldr)]
        problems = set(self._misnamed(table))
        flaws = frozenset(flaw for part in parts for flaw in part.flaws)
        first, second = (_start(part, parts) for part in parts)
        if first is None or self._slot_of(table, first.version) is None:
            problems.add(Problem.BROKEN_FIRST)
        if any(part.empty for part in parts):
            problems.add(Problem.EMPTY_ENTRY)
        boots, starts = self._come_up(table, parts)
        if boots is None:
            problems.add(Problem.UNBOOTABLE)
        return Verdict(frozenset(problems), first, second, boots, starts, backup, flaws)

    def _come_up(self, table: DiskMap, parts: Sequence[_BootPartition]) -> tuple[tuple[str, Slot] | None, int]:
        """What comes up in the end, and after how many starts."""
        for starts in range(1, _MOST_STARTS + 1):
            started = False
            for part in parts:
                start = _start(part, parts)
                if start is None:
                    continue
                parts = [each.bumped(start.entry) if each.name == start.partition else each for each in parts]
                if start.version is None:
                    continue
                slot = self._slot_of(table, start.version)
                if slot is not None:
                    return (start.version, slot), starts
                started = True
                break
            if not started:
                break
        return None, starts

    def _slot_of(self, table: DiskMap, version: str | None) -> Slot | None:
        """The slot that the UKI of a version finds, if it is whole."""
        for reference in self.references:
            if reference.version == version:
                for slot in (table.a, table.b):
                    if slot.holds(reference.root_hash):
                        return slot.slot if self._slots[slot.slot].holds(reference) else None
        return None

    def _misnamed(self, table: DiskMap) -> Iterator[Problem]:
        for slot in (table.a, table.b):
            for reference in self.references:
                if slot.holds(reference.root_hash) and not self._slots[slot.slot].holds(reference):
                    yield Problem.MISNAMED_SLOT

    def _read_table(self) -> tuple[DiskMap | None, bool]:
        """Where the partitions are, and whether only the backup table says so."""
        generation = self.disk.generation("table")
        if self._table is None or self._table[0] != generation:
            try:
                table = read_table(self.disk)
                result: tuple[DiskMap | None, bool] = (
                    find_slots(table, ROOT_TYPES["x86-64"]),
                    table.damaged is Copy.PRIMARY,
                )
            except GptError:
                result = (None, False)
            self._table = (generation, result)
        return self._table[1]

    def _partition(self, name: str, partition: GptEntry) -> _BootPartition:
        generation = self.disk.generation(name)
        kept = self._partitions.get(name)
        if kept is None or kept[0] != generation:
            window = DeviceWindow(self.disk, partition.offset_bytes, partition.size_bytes, name=name)
            kept = self._partitions[name] = (generation, self._read_partition(name, window))
        return kept[1]

    def _read_partition(self, name: str, window: DeviceWindow) -> _BootPartition:
        try:
            volume = FatVolume.open(window)
            flaws = frozenset(finding.flaw for finding in judge(window))
            if not volume.geometry.firmware_readable:
                return _BootPartition(name, flaws=flaws)
        except FatError:
            return _BootPartition(name)
        conf, entries = _content(volume, LOADER_CONF), _entries(volume)
        return _BootPartition(
            name,
            _content(volume, LOADER) in self.loaders,
            None if conf is None else default_of(conf[:_MOST_CONF_BYTES]),
            tuple(self._files(volume, entries)),
            empty=any(not entry.size_bytes for entry in entries),
            flaws=flaws,
        )

    def _files(self, volume: FatVolume, entries: list[FatEntry]) -> Iterator[_File]:
        for entry in entries:
            try:
                content = volume.read(entry)
            except FatError:
                # What is left of the chain is not looked at: it is not a signed program in any case.
                content = b""
            made = make_entry(entry.name, os_release_of(content))
            if made is not None:
                yield _File(made, next((each for each in self.references if each.uki == content), None))


def _start(part: _BootPartition, parts: Sequence[_BootPartition]) -> Start | None:
    """What the loader of a partition starts: of its own partition's entries, then of XBOOTLDR's."""
    if not part.loader:
        return None
    seen = [(each.name, file) for each in parts if each in (part, parts[-1]) for file in each.files]
    entry = pick((file.entry for _, file in seen), default=part.default)
    if entry is None:
        return None
    # Of two entries that are alike, the first one is taken.
    partition, found = next((name, file) for name, file in seen if file.entry == entry)
    version = None if found.reference is None else found.reference.version
    return Start(part.name, entry.file_name, version, partition)


def _entries(volume: FatVolume) -> list[FatEntry]:
    """The files that a loader looks at."""
    try:
        entries = volume.folder(ENTRIES_FOLDER).entries
    except FatError:
        return []
    return [entry for entry in entries if not entry.is_folder and entry.name.lower().endswith(SUFFIX)]


def _content(volume: FatVolume, path: str) -> bytes | None:
    try:
        entry: FatEntry | None = volume.find(path)
        return None if entry is None or entry.is_folder else volume.read(entry)
    except FatError:
        return None


def _range_of(partition: GptEntry) -> range:
    return range(partition.offset_bytes, partition.offset_bytes + partition.size_bytes)
