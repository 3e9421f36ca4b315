"""Looks on from outside: counts what a fleet must never see, by arithmetic of its own.

Nothing here calls the engine, or an error in it would go unseen: limits come from the policy as it is
written, times of day from the zone's own clock, and what halts a rollout from the cap in hosts.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from enum import Enum
from fractions import Fraction

from updater.fleet.model import Stratum
from updater.fleet.policy import FleetPolicy, GroupPolicy
from updater.fleet.schedule import FleetWindow
from updater.week import WEEK, TimeOfDay

_DAY_MINUTES = 24 * 60
_MANY = 30
_CLEAR = 5


class Violation(Enum):
    """What must never happen."""

    WAVE = "more hosts were told than the wave admits"
    HALT = "a host was told or rebooted after the failures that halt the rollout"
    FREEZE = "a host was told or rebooted in a freeze"
    WINDOW = "a host rebooted outside its group's windows"
    GROUP = "more hosts of a group were away than it allows"
    ZONE = "more hosts of a zone were away than it allows"
    FENCE = "a number of a grant was given before"
    TWICE = "a host was told twice"
    EARLY = "a wave opened before the one before it had shown anything"


class ViolationWatch:
    """What was seen until now."""

    def __init__(self, policy: FleetPolicy) -> None:
        self._policy = policy
        self.found: Counter[Violation] = Counter()
        self.most_away = 0
        self._admitted: dict[Stratum, int] = {}
        self._admitted_in_all = 0
        self._is_last = False
        self._told: Counter[Stratum] = Counter()
        self._hosts: set[str] = set()
        self._away: dict[str, Counter[str]] = {}
        self._fences: dict[str, int] = {}
        self._lost = self._settled = self._told_before = 0
        self._away_now = 0

    def wave_opened(self, number: int, sizes: dict[Stratum, int]) -> None:
        """A wave opens over so many hosts."""
        told, share = self._told.total(), self._policy.rollouts.settled
        reached = told >= share * self._admitted_in_all and self._settled >= share * told
        self._count(Violation.EARLY, number > 0 and self._admitted_in_all > self._told_before and not reached)
        wave, total = self._policy.rollouts.waves[number], sum(sizes.values())
        # The next whole number, of the share as it is written.
        exact = Fraction(str(wave.share)) * total if wave.share is not None else Fraction(min(total, wave.hosts or 0))
        self._admitted_in_all = -(-exact.numerator // exact.denominator)
        # No stratum gets more than its own share and a part of a host.
        self._admitted = {each: min(size, int(exact * size / max(1, total)) + 1) for each, size in sizes.items()}
        self._told_before = told
        self._is_last = number + 1 == len(self._policy.rollouts.waves)

    def told(self, host: str, stratum: Stratum, now: datetime) -> None:
        """A host is told to update."""
        self._told[stratum] += 1
        self._count(Violation.TWICE, host in self._hosts)
        self._hosts.add(host)
        too_many = self._told[stratum] > self._admitted.get(stratum, 0) or self._told.total() > self._admitted_in_all
        self._count(Violation.WAVE, not self._is_last and too_many)
        self._look_at_the_time(now)

    def granted(self, group: str, zone: str, fence: int, now: datetime) -> None:
        """A host may reboot."""
        settings = self._policy.group(group)
        away = self._away.setdefault(group, Counter())
        away[zone] += 1
        self._away_now += 1
        self.most_away = max(self.most_away, self._away_now)
        self._count(Violation.GROUP, away.total() > settings.slots.most)
        most = settings.slots.most_per_zone
        self._count(Violation.ZONE, most is not None and away[zone] > most)
        self._count(Violation.FENCE, fence <= self._fences.get(group, 0))
        self._fences[group] = fence
        self._count(Violation.WINDOW, not _is_in_a_window(settings, now))
        self._look_at_the_time(now)

    def came_back(self, group: str, zone: str) -> None:
        """A host has rebooted, into whichever version."""
        self._settled += 1
        self._away[group][zone] -= 1
        self._away_now -= 1

    def lost(self, *, silent: bool) -> None:
        """A host failed (and came back), or went silent."""
        self._lost += 1
        self._settled += silent

    def _look_at_the_time(self, now: datetime) -> None:
        halt = self._policy.rollouts.halt
        capped = halt.most_hosts is not None and self._lost >= halt.most_hosts
        # Five times as many as are borne, and not a few: no doubt that anybody may set makes that good.
        clear = self._lost >= _MANY and self._lost > _CLEAR * halt.most_share * self._settled
        self._count(Violation.HALT, capped or clear)
        frozen = any(each.begins.when <= now < each.ends.when for each in self._policy.freezes)
        self._count(Violation.FREEZE, frozen)

    def _count(self, what: Violation, happened: object) -> None:
        if happened:
            self.found[what] += 1


def _is_in_a_window(group: GroupPolicy, now: datetime) -> bool:
    """By the clock on the wall: a window that opened today or yesterday still is open."""
    return not group.windows or any(_is_open(window, group, now) for window in group.windows)


def _is_open(window: FleetWindow, group: GroupPolicy, now: datetime) -> bool:
    wall, before = (each.astimezone(group.time_zone.info) for each in (now, now - timedelta(days=1)))
    if wall.utcoffset() != before.utcoffset():
        return _was_opened(window, group, now)
    minute, start = wall.hour * 60 + wall.minute + (wall.second + wall.microsecond / 1e6) / 60, _minute(window.start)
    length = window.length / 60
    today = WEEK[wall.weekday()] in window.days and start <= minute < start + length
    yesterday = WEEK[before.weekday()] in window.days and minute + _DAY_MINUTES < start + length
    return today or yesterday


def _was_opened(window: FleetWindow, group: GroupPolicy, now: datetime) -> bool:
    """The same on a day on which the clocks are changed: back from minute to minute to where it opened."""
    for ago in range(int(window.length // 60) + 1):
        wall = (now - timedelta(minutes=ago)).astimezone(group.time_zone.info)
        since = ago * 60 + wall.second + wall.microsecond / 1e6
        opened = wall.hour * 60 + wall.minute == _minute(window.start)
        if opened and WEEK[wall.weekday()] in window.days and since < window.length:
            return True
    return False


def _minute(time: TimeOfDay) -> int:
    return time.hour * 60 + time.minute
