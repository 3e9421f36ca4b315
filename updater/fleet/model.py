"""What the engine knows of hosts, releases and rollouts.  Values only; times are UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from partitions.version import Version
from updater.fleet.policy import RolloutPolicy


class HostProgress(Enum):
    """How far a host is with the release that its rollout brings."""

    WAITING = "waiting"
    OFFERED = "offered"
    STAGED = "staged"
    REBOOTING = "rebooting"
    HEALTHY = "healthy"
    OLD_VERSION = "old-version"
    FAILED = "failed"

    @property
    def is_told(self) -> bool:
        """Whether it was told to update, whatever became of that."""
        return self is not HostProgress.WAITING

    @property
    def is_under_way(self) -> bool:
        """Whether it was told and has not said how it ended."""
        return self in (HostProgress.OFFERED, HostProgress.STAGED, HostProgress.REBOOTING)


@dataclass(frozen=True, order=True)
class Stratum:
    """Hosts that a wave takes an equal share of."""

    group: str = "default"
    zone: str = ""
    hardware: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.group, self.zone, self.hardware) if part)


@dataclass(frozen=True)
class HostHold:
    """Somebody wants a host to stay as it is; without an end, until they say otherwise."""

    by: str
    reason: str = ""
    until: datetime | None = None


@dataclass(frozen=True)
class Host:
    """What is known of a host.

    Attributes:
        id: Its identity; the same for ever.
        stratum: Where it belongs.
        version: What it runs.
        progress: How far it is with `release`.
        seen: When it last said anything.
        release: The root hash of the release that it was told of last; of another one it knows nothing yet.
        staged: The version in its other slot that is ready to boot.
        failed: Versions that failed on it.
        pin: The version it is to stay at.
        hold: Who holds it.
        retired: Whether it does not exist any more.
    """

    id: str
    stratum: Stratum
    version: Version
    progress: HostProgress
    seen: datetime
    release: str = ""
    staged: Version | None = None
    failed: frozenset[Version] = frozenset()
    pin: Version | None = None
    hold: HostHold | None = None
    retired: bool = False

    def progress_with(self, root_hash: str) -> HostProgress:
        """How far it is with a release."""
        return self.progress if self.release == root_hash else HostProgress.WAITING


@dataclass(frozen=True)
class FleetRelease:
    """A version that hosts may be brought to.

    Attributes:
        version: Its version.
        root_hash: What it is, byte by byte; a host's rank follows from it.
        floor: The version that older hosts have to go through first.
        dead_ends: Versions from which no host goes on by itself, with the reason.
        urgent: Whether windows, freezes and the order of environments do not hold it up.
    """

    version: Version
    root_hash: str
    floor: Version | None = None
    dead_ends: Mapping[Version, str] = field(default_factory=dict)
    urgent: bool = False

    def __post_init__(self) -> None:
        if self.floor is not None and self.floor >= self.version:
            raise ValueError(f"the floor {self.floor} must be below {self.version}")


@dataclass(frozen=True)
class Tally:
    """How many hosts a rollout has told, and what became of them.

    `silent` ones are not among the others.  A retired host counts as told, for its place is taken, and nothing else.
    """

    told: int = 0
    healthy: int = 0
    failed: int = 0
    silent: int = 0

    @property
    def settled(self) -> int:
        """Those whose outcome is known; silence is one."""
        return self.healthy + self.failed + self.silent

    @property
    def lost(self) -> int:
        """Those that failed or went silent."""
        return self.failed + self.silent


class RolloutState(Enum):
    """Where a rollout stands."""

    DRAFT = "draft"
    ROLLING = "rolling"
    PAUSED = "paused"
    HALTED = "halted"
    DONE = "done"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Admission:
    """Whom a wave admits of one stratum: hosts below a rank, and no more than so many in all waves until now."""

    below: float
    most: int


@dataclass(frozen=True)
class Rollout:
    """A release on its way to the hosts of a channel, or to those of one environment: each has its own rollout.

    Attributes:
        release: What it brings.
        policy: How it spreads; a policy that changes later counts for later rollouts.
        state: Where it stands.
        wave: The number of the wave that is open, from 0; -1 before the first one.
        opened: When that wave opened.
        admissions: Whom it admits, by stratum; of a stratum that is not there, nobody until the last wave.
        told_before: How many hosts were told when it opened.
        approved_until: When the approval runs out; None: it does not.
        why: Why it is paused, halted or withdrawn.
        borne: What was counted when a person let it go on after a halt; that halts it no more.
    """

    release: FleetRelease
    policy: RolloutPolicy = field(default_factory=RolloutPolicy)
    state: RolloutState = RolloutState.DRAFT
    wave: int = -1
    opened: datetime | None = None
    admissions: Mapping[Stratum, Admission] = field(default_factory=dict)
    told_before: int = 0
    approved_until: datetime | None = None
    why: str = ""
    borne: Tally = field(default_factory=Tally)
