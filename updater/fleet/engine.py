"""Decides what a host does now: the first rule that has something against its update is the answer.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from partitions.version import Version
from updater.fleet.model import Host, HostProgress
from updater.fleet.rules import Case, View, WaitReason, obstacles

SOONEST_POLL_S = 30.0


class Advice(Enum):
    """What a host is to do.

    `UPDATE`: go on, which is to stage the release, or to ask for a slot and reboot once it is staged.  `WAIT`: the same
    later, without anybody's doing.  `STAY`: nothing, until something changes.  `REFUSED`: it is none of the fleet's.
    """

    UPDATE = "update"
    WAIT = "wait"
    STAY = "stay"
    REFUSED = "refused"


_KINDS = {
    WaitReason.UNKNOWN: Advice.REFUSED,
    WaitReason.RETIRED: Advice.REFUSED,
    WaitReason.WAVE: Advice.WAIT,
    WaitReason.ENVIRONMENT: Advice.WAIT,
    WaitReason.FREEZE: Advice.WAIT,
    WaitReason.WINDOW: Advice.WAIT,
    WaitReason.DUE: Advice.UPDATE,
}


@dataclass(frozen=True)
class HostDecision:
    """What a host is told.

    Attributes:
        kind: What it is to do.
        reason: Why not more.
        words: The same for a person.
        release: The version that it is brought to; the floor, when that comes first.
        not_before: When asking again may have another answer, if that is known.
        poll_after_s: When it is to ask again.
    """

    kind: Advice
    reason: WaitReason
    words: str
    release: Version | None
    not_before: datetime | None
    poll_after_s: float


def decide(host: Host | None, view: View, now: datetime) -> HostDecision:
    """What a host is to do now; None is a host that nobody knows."""
    reason, obstacle = next(obstacles(host, view, now), (WaitReason.DUE, None))
    target = None if host is None or view.rollout is None else Case(host, view, view.rollout, now).target
    kind, poll = _KINDS.get(reason, Advice.STAY), view.poll_s
    if obstacle is None:
        return HostDecision(kind, reason, _what_is_due(host, view), target, None, poll)
    if obstacle.until is not None:
        poll = min(poll, max(SOONEST_POLL_S, (obstacle.until - now).total_seconds()))
    return HostDecision(kind, reason, obstacle.words, target, obstacle.until, poll)


def _what_is_due(host: Host | None, view: View) -> str:
    progress = host.progress_with(view.rollout.release.root_hash) if host is not None and view.rollout else None
    staged = progress in (HostProgress.STAGED, HostProgress.REBOOTING)
    return "it may reboot once it has a slot" if staged else "it may update"
