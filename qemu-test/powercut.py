"""`make powercut`: what a power cut at any write of an update leaves, judged at every write and booted in samples.

A host is recorded over a good update to its blessing and over a bad one to its fallback (`powercut_recording`).  The
recording is walked write by write, with other orders of the writes between two flushes and with torn ones
(`powercut_walk`); every state is judged without booting it (`powercut_judge`), the host's own file systems are checked
in a sample (`powercut_var`), and a sample of states is booted for real (`powercut_boots`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from disks import map_of
from powercut_boots import Booted, boot
from powercut_disk import ReplayedDisk
from powercut_judge import LOADER, Judge, Problem
from powercut_log import PowercutError, RequestKind, WriteLog
from powercut_recording import VERSIONS, Recording, record
from powercut_slots import Reference, whole_by_hashing
from powercut_var import FileSystems, FileSystemState
from powercut_walk import Findings, State, WalkOptions, walk
from workbench import FIRST, Workbench, make_workbench

from partitions.blockio import DeviceWindow, FileBlockDevice
from partitions.disk import read_table
from partitions.errors import VerityError
from partitions.fat.volume import FatVolume

OUT = Path("out/powercut.json")
BOOTS = 30
CUTS = 64
_FILE_SYSTEM_CHECKS = 40
_HASH_CHECKS = 12
_OWN_LABELS = ("state", "var")


@dataclass(frozen=True)
class PowercutOptions:
    """How much is done: states booted, file systems checked, slots hashed, and how much is walked."""

    walk: WalkOptions
    boots: int = BOOTS
    file_system_checks: int = _FILE_SYSTEM_CHECKS
    hash_checks: int = _HASH_CHECKS


@dataclass(frozen=True)
class PowercutResult:
    """What came of it."""

    findings: Findings
    file_systems: FileSystems
    hashed: int
    booted: tuple[Booted, ...]
    seed: int
    walk_s: float

    @property
    def held(self) -> bool:
        """Whether every state comes up by itself, and the judge was right about those that were booted."""
        lost = self.file_systems.found[FileSystemState.LOST]
        return not self.findings.problems and not lost and all(each.as_judged for each in self.booted)

    def values(self) -> dict[str, Any]:
        """The result as a JSON document."""
        found = self.findings
        return {
            "writes": found.writes,
            "flushes": found.flushes,
            "states_checked": found.states,
            "prefixes": found.prefixes,
            **{kind.value: number for kind, number in sorted(found.cuts.items(), key=lambda each: each[0].value)},
            "booted": len(self.booted),
            "as_judged": sum(each.as_judged for each in self.booted),
            "unbootable": found.problems[Problem.UNBOOTABLE],
            "problems": {problem.name.lower(): found.problems[problem] for problem in Problem},
            "fell_back": found.fell_back,
            "second_way": found.second_way,
            "backup_table": found.backup_table,
            "slots_hashed": self.hashed,
            "file_systems": {state.name.lower(): self.file_systems.found[state] for state in FileSystemState},
            "fat": {name.lower(): number for name, number in sorted(found.flaws.items())},
            "seeds": [self.seed],
            "walk_s": round(self.walk_s, 1),
        }


def make_judge(bench: Workbench, recording: Recording) -> Judge:
    """A judge of the disk as it was before the recording."""
    references = tuple(_reference(bench.build(version)) for version in VERSIONS)
    where = map_of(recording.before)
    return Judge(ReplayedDisk(recording.before), where, references, frozenset({_loader_of(bench)}))


@cache
def _reference(build: Path) -> Reference:
    return Reference.of(build)


def run(bench: Workbench, recording: Recording, options: PowercutOptions) -> PowercutResult:
    """Walk a recording and boot a sample of it."""
    began = time.monotonic()
    log = WriteLog(recording.log)
    judge = make_judge(bench, recording)
    disk = judge.disk
    table = read_table(disk)
    own = tuple(entry for entry in table.entries if entry.label in _OWN_LABELS)
    file_systems = FileSystems(disk, own, bench.tools, recording.before.parent)
    random = Random(f"{options.walk.seed} looks")  # noqa: S311 - choices, not secrets
    total = sum(request.kind is not RequestKind.FLUSH for request in log.requests())
    numbers = itertools.count()
    fsck = set(random.sample(range(total), min(total, options.file_system_checks)))
    hashed = set(random.sample(range(total), min(total, options.hash_checks)))

    def look(state: State) -> None:
        if state.kind is None:
            number = next(numbers)
            if number in fsck:
                file_systems.check()
            if number in hashed:
                _compare_with_hashing(judge)

    findings = walk(disk, judge, log, options.walk, look=look)
    walked = time.monotonic() - began
    _say(f"{findings.states} states of {findings.writes} writes judged in {walked:.0f} s: {dict(findings.problems)}")
    booted = []
    for done in boot(bench, recording, findings.sample(options.boots, options.walk.seed)):
        booted.append(done)
        _say(
            f"boot {len(booted)}: {done.version} by {done.entry}, {'as judged' if done.as_judged else 'NOT AS JUDGED'}"
        )
    return PowercutResult(findings, file_systems, len(hashed), tuple(booted), options.walk.seed, walked)


def _compare_with_hashing(judge: Judge) -> None:
    """Check what is known of the slots' blocks by the hashes of the whole slots."""
    for slot in (judge.where.a, judge.where.b):
        for reference in judge.references:
            try:
                whole_by_hashing(judge.disk, slot, reference)
                whole = True
            except VerityError:
                whole = False
            if whole is not judge.content(slot.slot).holds(reference):
                raise PowercutError(f"slot {slot.slot.value} and {reference.version}: by its hashes it is {whole}")


def _loader_of(bench: Workbench) -> bytes:
    """The signed loader, as it is on the disk of the first build."""
    disk = bench.disk(FIRST)
    where = map_of(disk).esp
    with FileBlockDevice.open(disk, writable=False) as device:
        volume = FatVolume.open(DeviceWindow(device, where.offset_bytes, where.size_bytes))
        entry = volume.find(LOADER)
        if entry is None:
            raise PowercutError(f"{disk}: the ESP has no {LOADER}")
        return volume.read(entry)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(words: Sequence[str]) -> int:
    """Record, walk, boot; 1 when a state does not come up by itself, or not as judged."""
    parser = argparse.ArgumentParser(prog="make powercut", description="A power cut at every write of an update.")
    parser.add_argument("--seed", type=int, default=1, help="other numbers try other orders (%(default)s)")
    parser.add_argument("--boots", type=int, default=BOOTS, help="states booted for real (%(default)s)")
    parser.add_argument("--cuts", type=int, default=CUTS, help="other orders, and torn ones, per flush (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="the result (%(default)s)")
    arguments = parser.parse_args(words)
    bench = make_workbench()
    options = PowercutOptions(WalkOptions(arguments.seed, arguments.cuts), arguments.boots)
    result = run(bench, record(bench), options)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(f"{json.dumps(result.values(), indent=2)}\n")
    for problem, state in result.findings.first_bad.items():
        _say(f"{problem.value}: first after request {state.requests}, {state.kind}: {state.verdict}")
    for each in result.booted:
        if not each.as_judged:
            _say(f"not as judged: {each.state.verdict} came up as {each.version} by {each.entry} {each.trouble}")
    sys.stdout.write(arguments.out.read_text())
    return 0 if result.held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
