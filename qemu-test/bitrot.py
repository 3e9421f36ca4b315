"""`make bitrot`: single flipped bits and lost sectors all over a host's disk, each booted for real.

The disk is that of a host with two proven slots (`two_slots`), switched off.  A case flips one bit, or fills one sector
with what nobody wrote there, at a place that the case's seed chooses in one area of the disk; then the machine is
switched on and has to come up by itself, proven, on a version whose slot is whole.  A host may reboot on its way.
The areas are taken in turn, so that each has as many cases as the next.  The result is `out/bitrot.json`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from two_slots import NEWER, OLDER, SECTOR, Disk, TwoSlots, make_two_slots, told
from workbench import OUT, make_workbench

from imagebuild.errors import VmError
from partitions.blockio import DeviceWindow
from partitions.disk import read_table
from partitions.entries import ENTRIES_FOLDER
from partitions.fat.volume import FatVolume
from partitions.gpt import GptEntry
from partitions.kept_uki import read_record
from partitions.loader_conf import LOADER_CONF, REMOVABLE_LOADER

RESULT = OUT.parent / "bitrot.json"
COMES_BACK_S = 900.0
_DATA_BYTES = 200 << 20
_TREE_BYTES = 1 << 20


@dataclass(frozen=True)
class Area:
    """Where damage is done: a name, and a place in it, in bytes from the start of the disk, for a random number."""

    name: str
    place: Callable[[Disk, random.Random], int]


@dataclass(frozen=True)
class Case:
    """One damaged disk and what became of it; `version` is what came up and was proven, empty when nothing did."""

    seed: int
    area: str
    kind: str
    offset: int
    version: str = ""
    seconds: float = 0.0
    problem: str = ""


def areas() -> tuple[Area, ...]:
    """Everything that a boot depends on, the newest UKI first."""
    return (
        Area("newest UKI", lambda disk, random_: _in_file(disk, "xbootldr", f"{ENTRIES_FOLDER}/{NEWER}", random_)),
        Area("running slot", lambda disk, random_: _within(disk.map().b.data, random_, _DATA_BYTES)),
        Area("file system of the UKIs", lambda disk, random_: _structure(disk, "xbootldr", random_)),
        Area("partition table", lambda _, random_: SECTOR + random_.randrange(33 * SECTOR)),
        Area("/var", lambda disk, random_: _of_linux(disk, "var", random_)),
        Area("file system of the ESP", lambda disk, random_: _structure(disk, "esp", random_)),
        Area("first loader", lambda disk, random_: _in_file(disk, "esp", REMOVABLE_LOADER, random_)),
        Area("running tree", lambda disk, random_: _within(disk.map().b.verity, random_, _TREE_BYTES)),
        Area("state", lambda disk, random_: _of_linux(disk, "state", random_)),
        Area("second loader", lambda disk, random_: _in_file(disk, "xbootldr", REMOVABLE_LOADER, random_)),
        Area("older UKI", lambda disk, random_: _in_file(disk, "xbootldr", f"{ENTRIES_FOLDER}/{OLDER}", random_)),
        Area("other slot", lambda disk, random_: _within(disk.map().a.data, random_, _DATA_BYTES)),
        Area("loader.conf", lambda disk, random_: _in_file(disk, "esp", LOADER_CONF, random_)),
        Area("second loader.conf", lambda disk, random_: _in_file(disk, "xbootldr", LOADER_CONF, random_)),
        Area("spare UKI", lambda disk, random_: _in_file(disk, "esp", f"{ENTRIES_FOLDER}/{OLDER}", random_)),
        Area("kept UKI", _kept),
        Area("second partition table", lambda disk, random_: _size(disk) - SECTOR * (1 + random_.randrange(33))),
    )


def planned(seed: int, cases: int) -> list[tuple[int, Area, str]]:
    """The seed, area and kind of each case; the first two are the newest UKI's and the running slot's."""
    found = areas()
    kinds = ("bit", "sector")
    return [
        (seed + number, found[number % len(found)], kinds[(number + number // len(found)) % len(kinds)])
        for number in range(cases)
    ]


def run_case(two: TwoSlots, seed: int, area: Area, kind: str) -> Case:
    """Damage a copy of the disk and switch it on."""
    disk = two.copy(f"bitrot-{seed}")
    offset = area.place(disk, random.Random(seed))  # noqa: S311 - reproducible, not secret
    if kind == "bit":
        disk.flip(offset)
    else:
        disk.lose(offset // SECTOR * SECTOR)
    began = time.monotonic()
    case = Case(seed, area.name, kind, offset)
    try:
        with two.booted(disk) as host:
            status = host.wait_status(lambda status: bool(status["blessed"]), timeout_s=COMES_BACK_S)
            line = told(host).splitlines()[-1:]
            seconds = round(time.monotonic() - began, 1)
            return Case(seed, area.name, kind, offset, str(status["version"]), seconds, "; ".join(line))
    except VmError as error:
        disk.path.unlink(missing_ok=True)
        return Case(**{**asdict(case), "seconds": round(time.monotonic() - began, 1), "problem": str(error)[:500]})


def report(cases: list[Case]) -> dict[str, object]:
    """What is written to the result."""
    lost = [case for case in cases if not case.version]
    return {
        "boots": len(cases),
        "need_a_hand": len(lost),
        "seeds": [case.seed for case in cases],
        "cases": [asdict(case) for case in cases],
    }


def main() -> int:
    """Run as many cases as asked for; exit code 1: one did not come back."""
    parser = argparse.ArgumentParser(description="Damage a host's disk and see it come back.")
    parser.add_argument("--cases", type=int, default=2 * len(areas()) + 6)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    two = make_two_slots(make_workbench())
    cases: list[Case] = []
    for seed, area, kind in planned(options.seed, options.cases):
        cases.append(run_case(two, seed, area, kind))
        case = cases[-1]
        outcome = case.version or "DID NOT COME BACK"
        place = f"{case.seed:4} {case.area:24} {case.kind:6} {case.offset:12}"
        sys.stdout.write(f"{place} {outcome:8} {case.seconds:6.1f} s\n")
        sys.stdout.flush()
        RESULT.write_text(json.dumps(report(cases), indent=2) + "\n")
    return 1 if any(not case.version for case in cases) else 0


def _part(disk: Disk, name: str) -> GptEntry:
    found = disk.map()
    return found.esp if name == "esp" else found.xbootldr


def _in_file(disk: Disk, part: str, path: str, random_: random.Random) -> int:
    partition = _part(disk, part)
    with disk.fat(partition) as (volume, _):
        entry = volume.find(path)
        assert entry is not None, path
        extents = volume.extents(entry)
        extent = random_.choices(extents, [each.length for each in extents])[0]
        return partition.offset_bytes + extent.offset + random_.randrange(extent.length)


def _structure(disk: Disk, part: str, random_: random.Random) -> int:
    """A place among what a FAT file system is made of: boot sector, what says how much is free, table, folders."""
    partition = _part(disk, part)
    with disk.fat(partition) as (volume, _):
        folders = [_folder_place(volume, path) for path in ("", "EFI", ENTRIES_FOLDER)]
        table = volume.geometry.table_offset + random_.randrange(4096)
        return partition.offset_bytes + random_.choice([0, SECTOR, table, *folders]) + random_.randrange(SECTOR)


def _folder_place(volume: FatVolume, path: str) -> int:
    return volume.folder(path).offset_of(0)


def _within(part: GptEntry, random_: random.Random, limit: int) -> int:
    return part.offset_bytes + random_.randrange(min(limit, part.size_bytes))


def _of_linux(disk: Disk, label: str, random_: random.Random) -> int:
    """A place near the beginning of an ext4 file system, where what it cannot do without is."""
    with disk.opened() as device:
        part = next(entry for entry in read_table(device).entries if entry.label == label)
    return _within(part, random_, random_.choice([8192, 1 << 20, 8 << 20]))


def _kept(disk: Disk, random_: random.Random) -> int:
    part = disk.map().b.data
    with disk.opened() as device:
        kept = read_record(DeviceWindow(device, part.offset_bytes, part.size_bytes))
    return part.offset_bytes + kept.offset_bytes + random_.randrange(part.size_bytes - kept.offset_bytes)


def _size(disk: Disk) -> int:
    return Path(disk.path).stat().st_size


if __name__ == "__main__":
    sys.exit(main())
