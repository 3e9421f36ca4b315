"""When a host may reboot by itself: days, zones, midnight, clocks that are put forward and back, and 200 hosts."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import DocumentError
from updater.agent.reboot_settings import Reboot, RebootPolicy, RebootWindow, WindowZone
from updater.agent.window import Opening, RebootMoment, openings, place, reboot_moment, turn
from updater.week import WEEK, Day, TimeOfDay

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
HOST = "0123456789abcdef0123456789abcdef"


def at(hour: int, minute: int = 0, day: int = 10, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def window(start: str, length_h: float = 2.0, days: tuple[Day, ...] = WEEK, *, local: bool = False) -> RebootWindow:
    zone = WindowZone.LOCAL if local else WindowZone.UTC
    return RebootWindow(TimeOfDay.from_text(start), length_h * 3600.0, days, zone)


def first(*windows: RebootWindow, now: datetime, local: tzinfo = UTC) -> Opening:
    return openings(windows, now, local)[0]


def moment(
    *windows: RebootWindow, now: datetime, local: tzinfo = UTC, ready: datetime | None = None, host: str = HOST
) -> RebootMoment:
    found = reboot_moment(now, Reboot(RebootPolicy.WINDOW, windows), local=local, host_id=host, ready=ready)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        (at(12), at(23)),
        (at(22, 59), at(23)),
        (at(23), at(23)),
        (at(0, 59), at(23, day=9)),
        (at(1), at(23)),
    ],
)
def test_a_window_may_reach_over_midnight(now: datetime, opens: datetime) -> None:
    assert first(window("23:00"), now=now).opens == opens


def test_a_window_opens_on_its_days_and_belongs_to_the_day_on_which_it_opens() -> None:
    # The 14th of March 2026 is a Saturday.
    weekend = window("23:00", days=(Day.SATURDAY,))
    assert first(weekend, now=at(12)).opens == at(23, day=14)
    assert first(weekend, now=at(0, 30, day=15)).opens == at(23, day=14)
    assert first(weekend, now=at(1, 0, day=15)).opens == at(23, day=21)


def test_of_several_windows_the_next_one_counts() -> None:
    both = (window("03:00", days=(Day.SATURDAY, Day.SUNDAY)), window("22:00", 1.0, (Day.WEDNESDAY,)))
    opened = [one.opens for one in openings(both, at(12), UTC)]
    assert opened[:4] == [at(22, day=11), at(3, day=14), at(3, day=15), at(22, day=18)]


def test_local_time_is_the_hosts_own() -> None:
    assert first(window("03:00", local=True), now=at(12, month=1), local=BERLIN).opens == at(2, day=11, month=1)
    assert first(window("03:00", local=True), now=at(12, month=7), local=BERLIN).opens == at(1, day=11, month=7)
    assert first(window("03:00"), now=at(12, month=7), local=BERLIN).opens == at(3, day=11, month=7)


def test_a_day_is_that_of_the_windows_zone() -> None:
    # 00:30 on Sunday in Berlin is Saturday in UTC.
    sunday = window("00:30", days=(Day.SUNDAY,), local=True)
    assert first(sunday, now=at(12), local=BERLIN).opens == at(23, 30, day=14)


def test_a_time_that_the_clocks_leave_out_opens_as_much_later() -> None:
    # On the 29th of March 2026 Berlin goes from 02:00 to 03:00.
    opened = first(window("02:30", 1.0, local=True), now=at(0, day=29), local=BERLIN)
    assert opened.opens == at(1, 30, day=29)
    assert opened.opens.astimezone(BERLIN).hour == 3
    assert opened.closes == at(2, 30, day=29)


def test_a_time_that_the_clocks_show_twice_opens_once() -> None:
    # On the 25th of October 2026 Berlin goes from 03:00 back to 02:00.
    now = at(12, day=24, month=10)
    found = [one for one in openings((window("02:30", 0.5, local=True),), now, BERLIN) if one.day == date(2026, 10, 25)]
    assert [(one.opens, one.closes) for one in found] == [(at(0, 30, 25, 10), at(1, 0, 25, 10))]


def test_a_window_that_is_open_while_the_clocks_change_keeps_its_length() -> None:
    for day, month in ((29, 3), (25, 10)):
        now = datetime(2026, month, day, tzinfo=UTC) - timedelta(hours=2)
        opened = first(window("01:00", 4.0, local=True), now=now, local=BERLIN)
        assert opened.closes - opened.opens == timedelta(hours=4)


zones = st.sampled_from([UTC, BERLIN, LORD_HOWE, ZoneInfo("America/New_York"), timezone(timedelta(hours=-11))])
windows = st.builds(
    RebootWindow,
    start=st.builds(TimeOfDay, st.integers(0, 23), st.integers(0, 59)),
    length=st.floats(60, 86400),
    days=st.lists(st.sampled_from(WEEK), min_size=1, unique=True).map(tuple),
    zone=st.sampled_from(WindowZone),
)
moments = st.datetimes(datetime(2026, 1, 2), datetime(2027, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds


@given(now=moments, each=windows, local=zones)
def test_a_window_opens_once_on_each_of_its_days_and_for_its_length(
    now: datetime, each: RebootWindow, local: tzinfo
) -> None:
    found = openings((each,), now, local)
    assert found
    days = [one.day for one in found]
    assert len(set(days)) == len(days)
    zone = local if each.zone is WindowZone.LOCAL else UTC
    for one in found:
        assert WEEK[one.day.weekday()] in each.days
        assert one.closes - one.opens == timedelta(seconds=each.length)
        # Later by the clock only where that was put forward, which no zone does by more than an hour.
        wanted = datetime(one.day.year, one.day.month, one.day.day, each.start.hour, each.start.minute)  # noqa: DTZ001 - by the clock
        shown = one.opens.astimezone(zone).replace(tzinfo=None)
        assert timedelta(0) <= shown - wanted <= timedelta(hours=1)


@given(
    now=moments,
    several=st.lists(windows, min_size=1, max_size=4).map(tuple),
    local=zones,
    ago=st.one_of(st.none(), st.timedeltas(timedelta(0), timedelta(days=30))),
    host=st.text("0123456789abcdef", min_size=32, max_size=32),
)
def test_the_moment_is_inside_a_window_within_a_week_and_does_not_move(
    now: datetime, several: tuple[RebootWindow, ...], local: tzinfo, ago: timedelta | None, host: str
) -> None:
    ready = None if ago is None else now - ago
    found = moment(*several, now=now, local=local, ready=ready, host=host)
    assert now <= found.at <= now + timedelta(days=8, hours=1)
    assert any(one.opens <= found.at < one.closes for one in openings(several, now, local))
    # Whoever looks again on the way there finds the same moment, and at the moment that it is now.
    halfway = now + (found.at - now) / 2
    assert moment(*several, now=halfway, local=local, ready=ready, host=host).at in (found.at, halfway)
    assert moment(*several, now=found.at, local=local, ready=ready, host=host).at == found.at


def test_at_once_and_never() -> None:
    for policy, expected in ((RebootPolicy.IMMEDIATE, at(12)), (RebootPolicy.MANUAL, None)):
        found = reboot_moment(at(12), Reboot(policy), local=UTC, host_id=HOST, ready=None)
        assert (found and found.at) == expected


HOSTS = [f"{number:032x}" for number in range(200)]


def test_200_hosts_of_one_window_do_not_reboot_together() -> None:
    found = [moment(window("03:00"), now=at(12), ready=at(8), host=host).at for host in HOSTS]
    assert at(3, day=11) <= min(found)
    assert max(found) < at(5, day=11)
    assert len(set(found)) == 200
    # 200 of 6480 seconds: that three share one is rare, that four do is not seen.
    assert max(Counter(one.replace(microsecond=0) for one in found).values()) <= 3
    assert max(Counter(one.replace(second=0, microsecond=0) for one in found).values()) <= 9


def test_200_hosts_that_are_late_still_reboot_inside_and_not_together() -> None:
    ready = at(4, 30, day=11)
    found = [moment(window("03:00"), now=ready, ready=ready, host=host).at for host in HOSTS]
    assert all(ready <= one < at(5, day=11) for one in found)
    assert len(set(found)) == 200
    assert max(Counter(one.replace(second=0, microsecond=0) for one in found).values()) <= 25


def test_a_host_has_another_place_each_day_and_hosts_differ() -> None:
    days = openings((window("03:00"),), at(12), UTC)
    assert len({place(HOST, day, purpose="turn") for day in days}) == len(days)
    assert len({place(host, days[0], purpose="turn") for host in HOSTS}) == 200


def test_a_host_that_was_off_at_its_moment_reboots_when_it_is_back_in_the_window() -> None:
    opened = first(window("03:00"), now=at(12))
    own = turn(opened, HOST, at(8))
    back = own + (opened.closes - own) / 2
    assert moment(window("03:00"), now=back, ready=at(8)).at == back


def test_a_moment_of_a_clock_that_was_wrong_does_not_put_off_a_reboot() -> None:
    wrong = datetime(2031, 1, 1, tzinfo=UTC)
    assert moment(window("03:00"), now=at(12), ready=wrong) == moment(window("03:00"), now=at(12))


def test_why_not_now_is_said() -> None:
    waiting = moment(window("03:00", local=True), now=at(12), local=BERLIN)
    assert (
        waiting.why == "the window of 03:00 local time opens at 2026-03-11T02:00:00Z, and this is the host's turn in it"
    )
    opened = first(window("03:00"), now=at(12))
    inside = moment(window("03:00"), now=opened.opens)
    assert inside.why == "the window of 03:00 UTC is open, and this is the host's turn in it"
    due = moment(window("03:00"), now=turn(opened, HOST, None))
    assert due.why == "in the window that closes at 2026-03-11T05:00:00Z"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{windows: [{start: '25:00'}]}", r"windows\[0\].start"),
        ("{windows: [{days: [caturday]}]}", r"windows\[0\].days\[0\]"),
        ("{windows: [{days: []}]}", r"windows\[0\]: a window without days"),
        ("{windows: [{length: 2d}]}", r"windows\[0\].length"),
        ("{windows: [{zone: Europe/Berlin}]}", r"windows\[0\].zone"),
        ("{windows: [{start: 3}]}", r"windows\[0\].start"),
        ("{policy: window, windows: []}", "needs at least one"),
        ("{window: {start: '03:00'}}", "window: unknown key"),
    ],
)
def test_a_window_that_is_wrong_is_refused(text: str, where: str) -> None:
    with pytest.raises(DocumentError, match=where):
        strict.read_yaml(Reboot, text, source="x")
