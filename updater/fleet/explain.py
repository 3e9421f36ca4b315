"""Why a host does what it does: every reason that the engine asks for, in its order, and what each says.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from updater.fleet.engine import HostDecision, decide
from updater.fleet.model import Host
from updater.fleet.rules import Obstacle, View, WaitReason, obstacles

_ORDER = tuple(reason for reason in WaitReason if reason is not WaitReason.DUE)


@dataclass(frozen=True)
class Explained:
    """What one reason says: an obstacle, or nothing against it (None); or it was not asked at all."""

    reason: WaitReason
    obstacle: Obstacle | None
    asked: bool = True


@dataclass(frozen=True)
class HostExplanation:
    """The decision, and each reason in the order in which it is asked."""

    decision: HostDecision
    reasons: tuple[Explained, ...]

    def lines(self) -> tuple[str, ...]:
        """For a person: the decision, then each reason; what decides is marked."""
        head = f"{self.decision.kind.value}: {self.decision.words}"
        return (head, *(self._line(each) for each in self.reasons))

    def _line(self, each: Explained) -> str:
        mark = ">" if each.reason is self.decision.reason else " "
        if not each.asked:
            return f"{mark} {each.reason.value:<12} not asked"
        if each.obstacle is None:
            return f"{mark} {each.reason.value:<12} nothing against it"
        until = f", until {each.obstacle.until:%Y-%m-%dT%H:%M:%SZ}" if each.obstacle.until else ""
        return f"{mark} {each.reason.value:<12} {each.obstacle.words}{until}"


def explain(host: Host | None, view: View, now: datetime) -> HostExplanation:
    """Explain what a host was told at a moment: with the values of that moment, the same as then."""
    found = dict(obstacles(host, view, now))
    # After these, nothing is left to be asked.
    last = next((reason for reason in (WaitReason.UNKNOWN, WaitReason.NOTHING) if reason in found), _ORDER[-1])
    reasons = (Explained(reason, found.get(reason), at <= _ORDER.index(last)) for at, reason in enumerate(_ORDER))
    return HostExplanation(decide(host, view, now), tuple(reasons))
