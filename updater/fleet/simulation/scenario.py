"""What happens to a played fleet: how many hosts there are, and how often something goes wrong.  Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from updater.fleet.engine import HostDecision, decide
from updater.fleet.model import Host, Rollout, RolloutState, Tally
from updater.fleet.policy import FleetPolicy
from updater.fleet.rollouts import advance, open_wave
from updater.fleet.rules import View
from updater.fleet.slots import Granted, Held, SlotTable, give_back, grant

GrantCall = Callable[..., tuple[SlotTable, Granted | Held]]


@dataclass(frozen=True)
class PlayedEngine:
    """The functions that decide; a test plays broken ones."""

    decide: Callable[[Host | None, View, datetime], HostDecision] = decide
    advance: Callable[..., tuple[Rollout, tuple[object, ...]]] = advance
    open_wave: Callable[..., Rollout] = open_wave
    grant: GrantCall = grant
    give_back: Callable[..., SlotTable] = give_back


@dataclass(frozen=True)
class Scenario:
    """A fleet and its luck.

    Attributes:
        policy: What was decided for it; without groups, all hosts are in `default`.
        hosts: How many hosts there are.
        hours: How long it is played.
        begins: When.
        zones: How many zones each group has.
        failing: The share of hosts on which the release fails: they come back with the version before.
        silent: The share of hosts that never come back.
        joining: The share of hosts that are not there at the beginning, and come at any time.
        stage_s: How long a host takes to download and write a release, on average.
        away_s: How long a reboot takes until the host is healthy, on average.
        restarts: How often the server is started anew; what it had in memory is gone then.
        seed: Where the chances come from.
    """

    policy: FleetPolicy = field(default_factory=FleetPolicy)
    hosts: int = 10_000
    hours: float = 72.0
    begins: datetime = datetime(2026, 7, 1, 8, tzinfo=UTC)
    zones: int = 3
    failing: float = 0.001
    silent: float = 0.0005
    joining: float = 0.05
    stage_s: float = 600.0
    away_s: float = 240.0
    restarts: int = 3
    seed: int = 1


@dataclass(frozen=True)
class HourSample:
    """How far the fleet was at a moment."""

    at: datetime
    wave: int
    state: RolloutState
    tally: Tally
    away: int


@dataclass(frozen=True)
class Played:
    """What became of it.

    Attributes:
        scenario: What was played.
        hosts: How many hosts there were in the end.
        rollout: How the rollout ended.
        tally: What became of the hosts.
        samples: One for each hour.
        most_away: The most hosts that were away at once.
        decisions: How often the engine was asked about a host.
        grants: How often a host was allowed to reboot.
        violations: What must never happen and did, with how often.
    """

    scenario: Scenario
    hosts: int
    rollout: Rollout
    tally: Tally
    samples: tuple[HourSample, ...]
    most_away: int
    decisions: int
    grants: int
    violations: dict[str, int]
