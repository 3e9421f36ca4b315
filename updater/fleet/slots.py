"""Who may be away: places of a group that hosts take before they reboot, and give back afterwards.  Pure.

A place is never taken away by time alone: a host that does not come back keeps it, so that a release which kills hosts
stops the fleet.  It is given back by the host (healthy, or back on the version before), or by a person (forced, or the
host is retired).  Only a host that the engine lets go on gets one.  Every grant has a number of its own that only rises
(the fence); whoever leads has an epoch, and one that led before changes nothing any more.  Asking twice is asking once.
Source: the wire contract of FleetLock, and coreos/locksmith's faults: "full" answered before ownership is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from updater.fleet.engine import Advice, HostDecision
from updater.fleet.policy import SlotPolicy


class Returned(Enum):
    """How a place comes back; `SILENT` records that the host does not answer, and gives nothing back."""

    HEALTHY = "healthy"
    OLD_VERSION = "old-version"
    SILENT = "silent"
    RETIRED = "retired"
    FORCED = "forced"


class Refusal(Enum):
    """Why a host gets no place now."""

    NOT_NOW = "not-now"
    FULL = "full"
    ZONE_FULL = "zone-full"
    SETTLING = "settling"
    STALE = "stale"


@dataclass(frozen=True)
class RebootSlot:
    """A place that is taken."""

    host: str
    zone: str
    release: str
    since: datetime
    fence: int
    silent: bool = False


@dataclass(frozen=True)
class SlotTable:
    """The places of a group: who has them, the highest fence and epoch until now, and when places came back lately."""

    slots: Mapping[str, RebootSlot] = field(default_factory=dict)
    fence: int = 0
    epoch: int = 0
    returned: tuple[datetime, ...] = ()

    def in_zone(self, zone: str) -> int:
        """How many are taken in a zone."""
        return sum(slot.zone == zone for slot in self.slots.values())


@dataclass(frozen=True)
class SlotRequest:
    """A host that asks for a place, to reboot into a release."""

    host: str
    zone: str
    release: str


@dataclass(frozen=True)
class Granted:
    """The host may reboot."""

    fence: int


@dataclass(frozen=True)
class Held:
    """It may not yet: why, who has the places, and when a place may be free again, if time alone decides that."""

    refusal: Refusal
    holders: tuple[RebootSlot, ...] = ()
    not_before: datetime | None = None


def grant(
    table: SlotTable,
    asked: SlotRequest,
    policy: SlotPolicy,
    *,
    decision: HostDecision | None,
    now: datetime,
    epoch: int,
) -> tuple[SlotTable, Granted | Held]:
    """Give a host a place, or say why not; the table afterwards.

    Args:
        table: The group's places.
        asked: Who asks.
        policy: How many there are.
        decision: What the engine says of the host now; None for a host of another system, of which it says nothing.
        now: The time.
        epoch: That of whoever grants.
    """
    if epoch < table.epoch:
        return table, Held(Refusal.STALE)
    table = replace(table, epoch=epoch)
    # Also for a host that has a place: it has not rebooted yet, or it would not ask.
    if decision is not None and decision.kind is not Advice.UPDATE:
        return table, Held(Refusal.NOT_NOW, not_before=decision.not_before)
    mine = table.slots.get(asked.host)
    if mine is not None and (mine.release, mine.zone) == (asked.release, asked.zone):
        heard = replace(table, slots={**table.slots, asked.host: replace(mine, silent=False)})
        return heard, Granted(mine.fence)
    # A place for another release is the host's place all the same, and gets another number.
    others = {host: slot for host, slot in table.slots.items() if host != asked.host}
    settling = tuple(each for each in table.returned if each <= now < each + timedelta(seconds=policy.settle))
    free = replace(table, slots=others, returned=settling)
    if (mine is None or mine.zone != asked.zone) and (refused := _refusal(free, asked, policy)) is not None:
        return table, refused
    slot = RebootSlot(asked.host, asked.zone, asked.release, mine.since if mine is not None else now, table.fence + 1)
    return replace(free, slots={**others, asked.host: slot}, fence=slot.fence), Granted(slot.fence)


def give_back(
    table: SlotTable, host: str, returned: Returned, *, now: datetime, epoch: int, fence: int | None = None
) -> SlotTable:
    """The table after a host's place came back; giving back what nobody has changes nothing.

    Args:
        table: The group's places.
        host: Whose place.
        returned: How.
        now: The time.
        epoch: That of whoever takes it; one that led before changes nothing.
        fence: That of the place, where the host knows it; another one means that it is not the one that was meant.
    """
    slot = table.slots.get(host)
    if epoch < table.epoch or slot is None or fence not in (None, slot.fence):
        return table
    if returned is Returned.SILENT:
        return replace(table, epoch=epoch, slots={**table.slots, host: replace(slot, silent=True)})
    left = {name: each for name, each in table.slots.items() if name != host}
    return replace(table, epoch=epoch, slots=left, returned=(*table.returned, now))


def _refusal(table: SlotTable, asked: SlotRequest, policy: SlotPolicy) -> Held | None:
    taken = len(table.slots)
    if taken >= policy.most:
        return Held(Refusal.FULL, _oldest_first(table))
    if policy.most_per_zone is not None and table.in_zone(asked.zone) >= policy.most_per_zone:
        here = (slot for slot in _oldest_first(table) if slot.zone == asked.zone)
        return Held(Refusal.ZONE_FULL, tuple(here))
    # As many as it takes until a place is free that settles no more.
    too_many = taken + len(table.returned) - policy.most
    if too_many >= 0:
        due = sorted(table.returned)[too_many]
        return Held(Refusal.SETTLING, not_before=due + timedelta(seconds=policy.settle))
    return None


def _oldest_first(table: SlotTable) -> tuple[RebootSlot, ...]:
    return tuple(sorted(table.slots.values(), key=lambda slot: slot.fence))
