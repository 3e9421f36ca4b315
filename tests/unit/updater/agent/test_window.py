"""When a host may reboot by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.agent.config import Reboot, RebootPolicy, RebootWindow, TimeOfDay
from updater.agent.window import reboot_at


def at(hour: int, minute: int = 0, day: int = 10) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


NIGHT = Reboot(RebootPolicy.WINDOW, RebootWindow(TimeOfDay(23, 0), 2 * 3600.0))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (at(12), at(23)),
        (at(22, 59), at(23)),
        (at(23), at(23)),
        (at(0, 59), at(0, 59)),
        (at(1), at(23)),
    ],
)
def test_a_window_may_reach_over_midnight(now: datetime, expected: datetime) -> None:
    assert reboot_at(now, NIGHT) == expected


def test_at_once_and_never() -> None:
    assert reboot_at(at(12), Reboot(RebootPolicy.IMMEDIATE)) == at(12)
    assert reboot_at(at(12), Reboot(RebootPolicy.MANUAL)) is None


@given(
    now=st.datetimes(datetime(2026, 1, 2), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    length=st.floats(60, 86400),
)
def test_the_moment_is_in_the_window_and_within_a_day(now: datetime, hour: int, minute: int, length: float) -> None:
    moment = reboot_at(now, Reboot(RebootPolicy.WINDOW, RebootWindow(TimeOfDay(hour, minute), length)))
    assert moment is not None
    assert now <= moment <= now + timedelta(days=1)
    opened = moment.replace(hour=hour, minute=minute, second=0, microsecond=0)
    since = min(moment - start for start in (opened, opened - timedelta(days=1)) if start <= moment)
    assert since < timedelta(seconds=length)
