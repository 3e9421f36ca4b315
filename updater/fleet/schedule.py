"""When a group of hosts may reboot: windows in the group's time zone, and times in which nothing changes.  Pure.

A window opens at its time of day on each of its days, and is open for its length of elapsed time.  Where the clocks are
put forward over that time of day, it opens that much later on the clock; where they are put back over it, the first
time only (PEP 495, fold 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bedrock import strict
from updater.documents.channel import Instant
from updater.week import WEEK, Day, TimeOfDay, occurrences

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


@dataclass(frozen=True)
class TimeZone:
    """A time zone by its name in the database, such as `Europe/Berlin`."""

    info: ZoneInfo

    @classmethod
    def from_text(cls, text: str) -> TimeZone:
        """Look it up.

        Raises:
            ValueError: There is none of that name.
        """
        try:
            return cls(ZoneInfo(text))
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"must be a time zone such as Europe/Berlin or UTC, not {text!r}") from error

    def __str__(self) -> str:
        return self.info.key


@dataclass(frozen=True)
class FleetWindow:
    """A time in which hosts of a group may reboot.

    Attributes:
        start: When it opens, as `"03:00"`.
        length: How long it stays open; it may cross midnight.
        days: The days on which it opens; every day when left out.
    """

    start: TimeOfDay
    length: Annotated[float, strict.Duration(), strict.Range(MINUTE_S, DAY_S)] = 2 * HOUR_S
    days: tuple[Day, ...] = WEEK

    def __post_init__(self) -> None:
        if not self.days:
            raise ValueError("a window without days never opens: leave `days` out for every day")


@dataclass(frozen=True)
class Freeze:
    """A time in which no host begins an update or reboots, and why."""

    begins: Instant
    ends: Instant
    reason: str

    def __post_init__(self) -> None:
        if self.ends.when <= self.begins.when:
            raise ValueError(f"ends: must be after {self.begins}")


@dataclass(frozen=True)
class WindowOpening:
    """A window on one of its days."""

    opens: datetime
    closes: datetime


def openings(windows: Sequence[FleetWindow], zone: TimeZone, now: datetime) -> list[WindowOpening]:
    """Every opening that has not closed, up to those of the next week, earliest first."""
    today = now.astimezone(zone.info).date()
    found = [each for window in windows for each in _openings_of(window, zone, today) if each.closes > now]
    return sorted(found, key=lambda each: (each.opens, each.closes))


def opens_at(windows: Sequence[FleetWindow], zone: TimeZone, now: datetime) -> datetime:
    """When hosts may reboot: `now` if they may, and always if there are no windows."""
    return max(now, openings(windows, zone, now)[0].opens) if windows else now


def frozen_until(freezes: Sequence[Freeze], now: datetime) -> Freeze | None:
    """The freeze that holds now; of several the one that ends last."""
    holding = [each for each in freezes if each.begins.when <= now < each.ends.when]
    return max(holding, key=lambda each: each.ends.when, default=None)


@lru_cache(maxsize=4096)
def _openings_of(window: FleetWindow, zone: TimeZone, today: date) -> tuple[WindowOpening, ...]:
    """The openings around a day; the same for every host of a group."""
    length = timedelta(seconds=window.length)
    found = occurrences(window.start, window.days, zone.info, today)
    return tuple(WindowOpening(opens, opens + length) for _, opens in found)
