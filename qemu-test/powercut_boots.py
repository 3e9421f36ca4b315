"""Boots states of the disk for real and compares what comes up with what the judge says.

The states are made one after the other on one disk; each is booted on an overlay, with the firmware variables of the
host before the recording.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hosts import BOOT_TIMEOUT_S, Host, host_config, machine_folder, updater_credential
from powercut_disk import Piece
from powercut_log import RequestKind, WriteLog
from powercut_recording import Recording, copy_disk
from powercut_walk import State
from workbench import Workbench

from imagebuild.errors import VmError
from imagebuild.vm.machine import VirtualMachine

_SELECTED = "/sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
# Slow machines under software emulation start several times before they are where they stay.
_START_TIMEOUT_S = BOOT_TIMEOUT_S
# Nobody answers there; the agent's daemon is disabled anyway.
_NOWHERE = "http://10.0.2.2:9/"


@dataclass(frozen=True)
class Booted:
    """What a state became on a real machine: the version and the entry that the loader started, or why none."""

    state: State
    version: str | None
    entry: str | None
    trouble: str = ""

    @property
    def as_judged(self) -> bool:
        """Whether the judge was right: the same version, by the entry that it named if it was the first start."""
        verdict = self.state.verdict
        if verdict.boots is None or self.version is None:
            return verdict.boots is None and self.version is None
        if verdict.first is not None and not verdict.fell_back:
            # The loader names the entry as it was before its counter was changed, in lower case, or without counter.
            named = (self.entry or "").lower()
            started = verdict.first.entry.lower()
            if named not in (started, _without_counter(started)):
                return False
        return self.version == verdict.boots[0]


def boot(bench: Workbench, recording: Recording, states: Sequence[State]) -> Iterator[Booted]:
    """Boot each state, in the order of the recording."""
    folder = machine_folder("powercut-boots")
    disk = copy_disk(recording.before, folder / "disk.raw", bench.tools)
    log = WriteLog(recording.log)
    requests, done = log.requests(), 0
    for number, state in enumerate(states):
        for request in islice(requests, state.requests - done):
            if request.kind is not RequestKind.FLUSH:
                _write(disk, [Piece(request.offset, log.data(request))])
        done = state.requests
        with _cut(disk, state.cut):
            yield _boot(bench, disk, recording, folder / str(number), state)
        shutil.rmtree(folder / str(number))


def _boot(bench: Workbench, disk: Path, recording: Recording, folder: Path, state: State) -> Booted:
    folder.mkdir()
    shutil.copyfile(recording.nvram, folder / "nvram.fd")
    config = host_config(bench, disk, updater_credential(_NOWHERE, enabled=False))
    machine = VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder)
    # A host that goes back to the firmware is one that helps itself.
    machine.panics_are_fatal = False
    try:
        with machine:
            machine.shell.wait_ready(timeout_s=_START_TIMEOUT_S * max(state.verdict.starts, 1))
            host = Host(machine)
            version = host.text(". /etc/os-release && echo $IMAGE_VERSION")
            entry = host.text(f"cat {_SELECTED} | tail -c +5 | tr -d '\\0'")
            return Booted(state, version, entry)
    except VmError as error:
        return Booted(state, None, None, str(error))


@contextmanager
def _cut(disk: Path, pieces: Sequence[Piece]) -> Iterator[None]:
    """Write the pieces of a cut for as long as the block runs (writes to the disk)."""
    before = []
    with disk.open("rb") as stream:
        for piece in pieces:
            stream.seek(piece.offset)
            before.append(Piece(piece.offset, stream.read(len(piece.data))))
    _write(disk, pieces)
    try:
        yield
    finally:
        # All were read before any was written, so each range gets what it had.
        _write(disk, before)


def _write(disk: Path, pieces: Sequence[Piece]) -> None:
    with disk.open("r+b") as stream:
        for piece in pieces:
            stream.seek(piece.offset)
            stream.write(piece.data)


def _without_counter(name: str) -> str:
    base, plus, _ = name.rpartition("+")
    return f"{base}.efi" if plus else name
