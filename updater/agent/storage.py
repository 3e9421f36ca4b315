"""Checks the containers' storage after an unclean stop, and removes what the stop cut.

podman writes durably that a layer exists before the layer's files are on the disk, so a power cut can leave an image
that passes for whole.  `/usr/lib/twinhull/containers-storage` records what is known to be on the disk and asks for this
check when a boot finds something else.
What was recorded is never removed together with the containers that use it: their own files would be lost with it, and
the stop did not cut it.
Only podman is checked: docker and containerd have no such program.
Source: podman-system-check(1).  Its quick check computes the digest of every layer; the full one also compares what
layers say of folders and links with what is there, and finds differences in images that are whole.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bedrock import process
from bedrock.clock import Clock
from bedrock.errors import ProcessError
from bedrock.process import Finished
from bedrock.regular_files import read_regular
from updater.agent.state import EventKind
from updater.agent.store import HintStore
from updater.documents.channel import Instant
from updater.errors import StorageError

RECORD_FILE = "containers.synced"
MAX_RECORD_BYTES = 16 << 20
# For each of at most three runs.  Containers wait for them, and a trial's deadline must not come first.
LIMIT_S = 150.0
_UNIT_START_S = 30.0
_ID = re.compile(r"[0-9a-f]{64}")
_DAMAGED = re.compile(r"^Damaged (?P<kind>layer|image|container) (?P<id>[0-9a-f]{64}):", re.MULTILINE)
_SHORT_ID = 12
Podman = Callable[[Sequence[str], float], Finished]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Damage:
    """The ids of layers, images and containers that podman finds damaged."""

    layers: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()

    @property
    def ids(self) -> frozenset[str]:
        """All of them."""
        return self.layers | self.images | self.containers

    def __bool__(self) -> bool:
        return bool(self.ids)


@dataclass(frozen=True)
class StorageCheck:
    """What was damaged, and what of it is still there afterwards."""

    found: Damage = field(default_factory=Damage)
    left: Damage = field(default_factory=Damage)


def in_own_unit(words: Sequence[str], timeout_s: float) -> Finished:
    """Run a program with all rights, which the agent does not have, and before basic.target.

    Raises:
        ProcessError: It could not be started, or did not end in time.
    """
    unit = ("systemd-run", "--wait", "--pipe", "--collect", "--quiet", "--property=DefaultDependencies=no")
    limit = f"--property=RuntimeMaxSec={timeout_s:g}"
    return process.run((*unit, limit, "--", *words), timeout_s=timeout_s + _UNIT_START_S, check=False)


def check_and_note(state: Path, store: HintStore, clock: Clock, podman: Podman = in_own_unit) -> str:
    """Check, repair, and write what happened to the history (writes to the disk); what happened, in words.

    Raises:
        StorageError: podman could not check, or could not repair.
    """
    try:
        said = sentence(check_storage(state / RECORD_FILE, podman))
    except StorageError as error:
        _note(store, clock, f"{error}; containers start all the same, and the next boot looks again")
        raise
    if said:
        _note(store, clock, said)
    return said or "everything that was stored is whole"


def check_storage(record: Path, podman: Podman = in_own_unit, *, limit_s: float = LIMIT_S) -> StorageCheck:
    """Check everything that podman stored, and remove what is damaged from the disk.

    Args:
        record: What was known to be on the disk before.
        podman: Runs a program and returns how it ended.
        limit_s: Longest time that each of the checks may take.

    Raises:
        StorageError: podman could not check, or could not repair.
    """
    found = _look(podman, limit_s)
    if not found:
        return StorageCheck()
    words = ["podman", "system", "check", "--quick", "--repair"]
    if not found.ids & _recorded(record):
        words.append("--force")
    _run(podman, words, limit_s)
    return StorageCheck(found, _look(podman, limit_s))


def damage_in(text: str) -> Damage:
    """What podman's report names as damaged."""
    found: dict[str, set[str]] = {"layer": set(), "image": set(), "container": set()}
    for match in _DAMAGED.finditer(text):
        found[match["kind"]].add(match["id"])
    return Damage(frozenset(found["layer"]), frozenset(found["image"]), frozenset(found["container"]))


def sentence(done: StorageCheck) -> str:
    """What happened, for the history; empty when nothing was damaged."""
    if not done.found:
        return ""
    gone = Damage(*(found - left for found, left in zip(_kinds(done.found), _kinds(done.left), strict=True)))
    parts = []
    if gone:
        parts.append(f"removed {_counted(gone)}; what a unit needs is pulled again")
    if done.left:
        parts.append(f"left {_counted(done.left)}, which may be in use: see `podman system check --quick`")
    cut = f"the host stopped while containers were being stored, and {_counted(done.found)} were damaged"
    return f"{cut}: {'; '.join(parts)}"


def _note(store: HintStore, clock: Clock, text: str) -> None:
    now = Instant.of(clock.now())
    try:
        store.remember(lambda hints: hints.with_event(EventKind.STORAGE, text, now), now)
    except OSError as error:
        _log.warning("%s could not be written: %s", store.path, error)


def _kinds(damage: Damage) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    return damage.layers, damage.images, damage.containers


def _counted(damage: Damage) -> str:
    """The damage in words, with the short ids that podman shows."""
    named = zip(("layer", "image", "container"), _kinds(damage), strict=True)
    return ", ".join(
        f"{len(ids)} {name}{'s' if len(ids) > 1 else ''} ({', '.join(sorted(one[:_SHORT_ID] for one in ids))})"
        for name, ids in named
        if ids
    )


def _look(podman: Podman, limit_s: float) -> Damage:
    done = _run(podman, ["podman", "system", "check", "--quick"], limit_s, check=False)
    found = damage_in(done.stdout)
    if done.returncode != 0 and not found:
        raise StorageError(f"podman could not check its storage: {_last_line(done)}")
    return found


def _run(podman: Podman, words: Sequence[str], limit_s: float, *, check: bool = True) -> Finished:
    try:
        done = podman(words, limit_s)
    except ProcessError as error:
        raise StorageError(f"the containers' storage could not be checked: {error}") from error
    if check and done.returncode != 0:
        raise StorageError(f"podman could not repair its storage: {_last_line(done)}")
    return done


def _last_line(done: Finished) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def _recorded(record: Path) -> frozenset[str]:
    """Every id in the record; none when there is no record that can be read."""
    try:
        return frozenset(_ID.findall(read_regular(record, MAX_RECORD_BYTES).decode(errors="replace")))
    except OSError as error:
        _log.info("%s: %s", record, error.strerror)
        return frozenset()
