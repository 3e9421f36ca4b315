"""What operators decide beforehand: waves, halts, slots, windows, the order of environments.  Values only.

A policy file is YAML, read strictly: every error is reported with its path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from bedrock import strict
from updater.documents.release import Name
from updater.fleet.halt import HaltPolicy
from updater.fleet.schedule import DAY_S, HOUR_S, MINUTE_S, FleetWindow, Freeze, TimeZone

_UTC = TimeZone.from_text("UTC")


@dataclass(frozen=True)
class Wave:
    """How many hosts a release has reached when the wave is full: a share of all of them, or a number.

    Attributes:
        share: Of all hosts, rounded up, over the strata by their sizes.
        hosts: A number of hosts, over the strata by their sizes.
        soak: How long the wave is open at least before the next one opens.
    """

    share: Annotated[float, strict.Range(0.000_001, 1)] | None = None
    hosts: Annotated[int, strict.Range(1, 10_000_000)] | None = None
    soak: Annotated[float, strict.Duration(), strict.Range(0, 30 * DAY_S)] = HOUR_S

    def __post_init__(self) -> None:
        if (self.share is None) == (self.hosts is None):
            raise ValueError("a wave has either `share` or `hosts`")


USUAL_WAVES = (Wave(0.001), Wave(0.01), Wave(0.1), Wave(0.5), Wave(1.0, soak=0.0))


@dataclass(frozen=True)
class RolloutPolicy:
    """How releases spread.

    Attributes:
        waves: One after the other; the last one is for every host.
        settled: The share of a wave's hosts that must have been told, and the share of these whose outcome must be
            known, before the next wave opens.
        silent_after: How long a host that was told may say nothing; then it counts as failed, until it speaks.
        halt: When a rollout stops by itself.
        poll: How often hosts ask while there is nothing to do.
    """

    waves: tuple[Wave, ...] = USUAL_WAVES
    settled: Annotated[float, strict.Range(0, 1)] = 0.9
    silent_after: Annotated[float, strict.Duration(), strict.Range(MINUTE_S, 30 * DAY_S)] = 6 * HOUR_S
    halt: HaltPolicy = field(default_factory=HaltPolicy)
    poll: Annotated[float, strict.Duration(), strict.Range(10, DAY_S)] = 5 * MINUTE_S

    def __post_init__(self) -> None:
        if not self.waves or self.waves[-1].share != 1.0:
            raise ValueError("waves: the last one must have `share: 1`, or some hosts would never be reached")
        if any(later < earlier for earlier, later in zip(self._shares, self._shares[1:], strict=False)):
            raise ValueError("waves: none may be smaller than the one before it")
        if any(later < earlier for earlier, later in zip(self._counts, self._counts[1:], strict=False)):
            raise ValueError("waves: none may be smaller than the one before it")

    @property
    def _shares(self) -> list[float]:
        return [wave.share for wave in self.waves if wave.share is not None]

    @property
    def _counts(self) -> list[int]:
        return [wave.hosts for wave in self.waves if wave.hosts is not None]


@dataclass(frozen=True)
class SlotPolicy:
    """How many hosts of a group may be away at once.

    Attributes:
        most: In the whole group.
        most_per_zone: In one zone of it; no limit of its own when left out.
        settle: How long the place of a host that came back stays taken.
    """

    most: Annotated[int, strict.Range(0, 1_000_000)] = 1
    most_per_zone: Annotated[int, strict.Range(0, 1_000_000)] | None = None
    settle: Annotated[float, strict.Duration(), strict.Range(0, DAY_S)] = 0.0


@dataclass(frozen=True)
class GroupPolicy:
    """Hosts that are treated alike.

    Attributes:
        slots: How many may be away at once.
        windows: When they may reboot; at any time when left out.
        time_zone: Whose days and times `windows` are.
    """

    slots: SlotPolicy = field(default_factory=SlotPolicy)
    windows: tuple[FleetWindow, ...] = ()
    time_zone: TimeZone = _UTC


@dataclass(frozen=True)
class Environment:
    """A set of groups that gets a release only after another one.

    Attributes:
        name: What it is called.
        groups: Its groups.
        after: The environment that is done with the release before; none for the first one.
        delay: How long after that.
    """

    name: Name
    groups: tuple[Name, ...]
    after: Name | None = None
    delay: Annotated[float, strict.Duration(), strict.Range(0, 90 * DAY_S)] = 0.0


@dataclass(frozen=True)
class FleetPolicy:
    """Everything that is decided for a fleet.

    A group that is not named has the settings of `GroupPolicy`'s defaults, and is in no environment.
    """

    rollouts: RolloutPolicy = field(default_factory=RolloutPolicy)
    groups: dict[Name, GroupPolicy] = field(default_factory=dict)
    environments: tuple[Environment, ...] = ()
    freezes: tuple[Freeze, ...] = ()

    def __post_init__(self) -> None:
        names = [each.name for each in self.environments]
        for each in self.environments:
            if names.count(each.name) > 1:
                raise ValueError(f"environments: {each.name} is named twice")
            if each.after is not None and each.after not in names[: names.index(each.name)]:
                raise ValueError(f"environments: {each.name} comes after {each.after}, which must stand before it")
        of_groups = [group for each in self.environments for group in each.groups]
        if twice := sorted({group for group in of_groups if of_groups.count(group) > 1}):
            raise ValueError(f"environments: {', '.join(twice)} cannot be in two")

    def group(self, name: str) -> GroupPolicy:
        """The settings of a group."""
        return self.groups.get(name, _USUAL_GROUP)

    def environment_of(self, group: str) -> Environment | None:
        """The environment that a group is in."""
        return next((each for each in self.environments if group in each.groups), None)


_USUAL_GROUP = GroupPolicy()


def parse_policy(data: bytes, *, source: str) -> FleetPolicy:
    """Read a policy file.

    Raises:
        DocumentError: Not YAML, unknown keys, wrong types, or values out of range.
    """
    return strict.read_yaml(FleetPolicy, data, source=source)
