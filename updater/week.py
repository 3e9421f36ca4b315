"""Days of the week and times of day, as settings and policies write them.  Values only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


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
