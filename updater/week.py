"""Days of the week and times of day, as settings and policies write them, and when they come.  Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import Enum

# What began lasts a day at most, and each day comes once a week.
_DAYS_BACK = 2
_DAYS_AHEAD = 9


@dataclass(frozen=True)
class TimeOfDay:
    """Hours and minutes, written `03:00`."""

    hour: int
    minute: int

    @classmethod
    def from_text(cls, text: str) -> TimeOfDay:
        """Read `HH:MM`.

        Raises:
            ValueError: Any other form.
        """
        match = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", text)
        if match is None:
            raise ValueError(f"must be a time of day from 00:00 to 23:59, not {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"


class Day(Enum):
    """A day of the week."""

    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


WEEK = tuple(Day)
"""In the order of `datetime.date.weekday`."""


def occurrences(start: TimeOfDay, days: Collection[Day], zone: tzinfo, today: date) -> Iterator[tuple[date, datetime]]:
    """The moments (UTC) of a time of day, each with its date in the zone, from two days before a date to nine after."""
    for day in (today + timedelta(days=offset) for offset in range(-_DAYS_BACK, _DAYS_AHEAD + 1)):
        if WEEK[day.weekday()] in days:
            moment = datetime(day.year, day.month, day.day, start.hour, start.minute, tzinfo=zone)
            yield day, moment.astimezone(UTC)
