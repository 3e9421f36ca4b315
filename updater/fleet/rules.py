"""What can keep a host from going on with an update, one rule for each reason.  Pure.

A rule sees the host, what is known of its rollout, and the time; nothing else.  They are asked in the order of
`WaitReason`: what concerns the host alone, what concerns the release, then what only has to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from partitions.version import Version
from updater.fleet.model import Host, HostProgress, Rollout, RolloutState
from updater.fleet.policy import Environment, GroupPolicy
from updater.fleet.rank import rank
from updater.fleet.schedule import Freeze, frozen_until, opens_at


class WaitReason(Enum):
    """Why a host does not go on, in the order in which it is asked; or `DUE`."""

    UNKNOWN = "unknown"
    RETIRED = "retired"
    HELD = "held"
    NOTHING = "nothing"
    CURRENT = "current"
    PINNED = "pinned"
    DEAD_END = "dead-end"
    DRAFT = "draft"
    PAUSED = "paused"
    HALTED = "halted"
    WITHDRAWN = "withdrawn"
    FAILED_HERE = "failed-here"
    WAVE = "wave"
    ENVIRONMENT = "environment"
    FREEZE = "freeze"
    WINDOW = "window"
    DUE = "due"


@dataclass(frozen=True)
class View:
    """What a host is judged by besides itself.

    Attributes:
        rollout: What its channel brings; None when nothing.
        group: The settings of its group.
        told: How many hosts of its stratum the rollout has told, this one included if it is among them.
        environment: The environment of its group, if it is in one.
        done: When each environment was done with the release.
        freezes: Times in which nothing changes.
        poll_s: How often a host asks while there is nothing to do.
    """

    rollout: Rollout | None
    group: GroupPolicy
    told: int = 0
    environment: Environment | None = None
    done: Mapping[str, datetime] = field(default_factory=dict)
    freezes: Sequence[Freeze] = ()
    poll_s: float = 300.0


@dataclass(frozen=True)
class Obstacle:
    """What a rule has against it: in words, and when that ends by itself, if it is known."""

    words: str
    until: datetime | None = None


@dataclass(frozen=True)
class Case:
    """A host whose channel brings a release, and what it is judged by."""

    host: Host
    view: View
    rollout: Rollout
    now: datetime

    @property
    def target(self) -> Version:
        """The version that the host is brought to: the floor of the release, when it is below it."""
        floor = self.rollout.release.floor
        return floor if floor is not None and self.host.version < floor else self.rollout.release.version

    @property
    def progress(self) -> HostProgress:
        """How far the host is with this release."""
        return self.host.progress_with(self.rollout.release.root_hash)


Rule = Callable[[Case], Obstacle | None]


def obstacles(host: Host | None, view: View, now: datetime) -> Iterator[tuple[WaitReason, Obstacle]]:
    """Everything that keeps a host from going on, in the order of `WaitReason`; None is a host that nobody knows."""
    if host is None:
        yield WaitReason.UNKNOWN, Obstacle("the host is not enrolled")
        return
    if host.retired:
        yield WaitReason.RETIRED, Obstacle("the host was retired")
    if (held := _held(host, now)) is not None:
        yield WaitReason.HELD, held
    if view.rollout is None:
        yield WaitReason.NOTHING, Obstacle("its channel brings no release")
        return
    case = Case(host, view, view.rollout, now)
    for reason, rule in RULES:
        if (found := rule(case)) is not None:
            yield reason, found


def _held(host: Host, now: datetime) -> Obstacle | None:
    hold = host.hold
    if hold is None or (hold.until is not None and now >= hold.until):
        return None
    return Obstacle(f"{hold.by} holds it{f': {hold.reason}' if hold.reason else ''}", hold.until)


def _current(case: Case) -> Obstacle | None:
    version = case.rollout.release.version
    return Obstacle(f"it runs {case.host.version}") if case.host.version >= version else None


def _pinned(case: Case) -> Obstacle | None:
    return Obstacle(f"it is pinned to {case.host.pin}") if case.host.pin is not None else None


def _dead_end(case: Case) -> Obstacle | None:
    why = case.rollout.release.dead_ends.get(case.host.version)
    return Obstacle(f"{case.host.version} is a dead end: {why}") if why is not None else None


def _in_state(state: RolloutState, words: str) -> Rule:
    def rule(case: Case) -> Obstacle | None:
        if case.rollout.state is not state:
            return None
        return Obstacle(f"{case.rollout.release.version} {words}{f': {case.rollout.why}' if case.rollout.why else ''}")

    return rule


def _paused(case: Case) -> Obstacle | None:
    until = case.rollout.approved_until
    if case.rollout.state is RolloutState.ROLLING and until is not None and case.now >= until:
        return Obstacle(f"the approval of {case.rollout.release.version} has ended")
    return _in_state(RolloutState.PAUSED, "is paused")(case)


def _failed_here(case: Case) -> Obstacle | None:
    target = case.target
    return Obstacle(f"{target} failed on it") if target in case.host.failed else None


def _wave(case: Case) -> Obstacle | None:
    # Who was told goes on with it: its place is taken.
    if case.progress.is_told:
        return None
    number = f"wave {case.rollout.wave + 1} of {len(case.rollout.policy.waves)}"
    if case.rollout.wave < 0:
        return Obstacle("no wave is open yet")
    if case.rollout.wave + 1 == len(case.rollout.policy.waves):
        return None
    admission = case.rollout.admissions.get(case.host.stratum)
    if admission is None or rank(case.host.id, case.rollout.release.root_hash) >= admission.below:
        return Obstacle(f"its turn comes after {number}")
    if case.view.told >= admission.most:
        return Obstacle(f"{number} is full")
    return None


def _environment(case: Case) -> Obstacle | None:
    environment = case.view.environment
    if environment is None or environment.after is None or case.rollout.release.urgent:
        return None
    done = case.view.done.get(environment.after)
    if done is None:
        return Obstacle(f"{environment.name} comes after {environment.after}, which is not done")
    opens = done + timedelta(seconds=environment.delay)
    return Obstacle(f"{environment.name} follows {environment.after} later", opens) if case.now < opens else None


def _freeze(case: Case) -> Obstacle | None:
    freeze = None if case.rollout.release.urgent else frozen_until(case.view.freezes, case.now)
    return Obstacle(f"nothing changes now: {freeze.reason}", freeze.ends.when) if freeze is not None else None


def _window(case: Case) -> Obstacle | None:
    # Staging may happen at any time; who was away and is on the old version again needs a window like anybody.
    if case.progress not in (HostProgress.STAGED, HostProgress.REBOOTING) or case.rollout.release.urgent:
        return None
    opens = opens_at(case.view.group.windows, case.view.group.time_zone, case.now)
    return Obstacle("its window is not open", opens) if opens > case.now else None


RULES: tuple[tuple[WaitReason, Rule], ...] = (
    (WaitReason.CURRENT, _current),
    (WaitReason.PINNED, _pinned),
    (WaitReason.DEAD_END, _dead_end),
    (WaitReason.DRAFT, _in_state(RolloutState.DRAFT, "is not approved")),
    (WaitReason.PAUSED, _paused),
    (WaitReason.HALTED, _in_state(RolloutState.HALTED, "is halted")),
    (WaitReason.WITHDRAWN, _in_state(RolloutState.WITHDRAWN, "is withdrawn")),
    (WaitReason.FAILED_HERE, _failed_here),
    (WaitReason.WAVE, _wave),
    (WaitReason.ENVIRONMENT, _environment),
    (WaitReason.FREEZE, _freeze),
    (WaitReason.WINDOW, _window),
)
