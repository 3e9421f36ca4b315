from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock.errors import DocumentError
from tests.unit.updater.fleet.fleets import NOW
from updater.documents.channel import Instant
from updater.fleet.policy import FleetPolicy, parse_policy
from updater.fleet.schedule import FleetWindow, Freeze, TimeZone, frozen_until, openings, opens_at
from updater.week import WEEK, Day, TimeOfDay

WHOLE = b"""
rollouts:
  waves:
    - {hosts: 1, soak: 30m}
    - {share: 0.1}
    - {share: 1, soak: 0s}
  settled: 0.95
  silent_after: 2h
  halt: {most_share: 0.05, doubt: 0.01, most_hosts: 20}
groups:
  web:
    slots: {most: 3, most_per_zone: 1, settle: 5m}
    windows:
      - {start: "02:00", length: 3h, days: [mon, tue]}
    time_zone: Europe/Berlin
environments:
  - {name: test, groups: [lab]}
  - {name: prod, groups: [web], after: test, delay: 2d}
freezes:
  - {begins: 2026-12-20T00:00:00Z, ends: 2027-01-04T00:00:00Z, reason: the year's end}
"""
BERLIN = TimeZone.from_text("Europe/Berlin")


def test_a_policy_is_read_as_it_is_written() -> None:
    found = parse_policy(WHOLE, source="fleet.yaml")
    assert [(wave.hosts, wave.share, wave.soak) for wave in found.rollouts.waves] == [
        (1, None, 1800.0),
        (None, 0.1, 3600.0),
        (None, 1.0, 0.0),
    ]
    assert found.group("web").slots.settle == 300
    assert str(found.group("web").time_zone) == "Europe/Berlin"
    environment = found.environment_of("web")
    assert environment is not None
    assert (environment.after, environment.delay) == ("test", 172800.0)
    assert found.environment_of("nowhere") is None
    assert found.group("nowhere").slots.most == 1


def test_an_empty_policy_has_usual_settings() -> None:
    assert parse_policy(b"{}", source="fleet.yaml") == FleetPolicy()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"wave: 1", "wave"),
        (b"rollouts: {waves: []}", "share: 1"),
        (b"rollouts: {waves: [{share: 0.5}]}", "share: 1"),
        (b"rollouts: {waves: [{share: 0.5}, {share: 0.1}, {share: 1}]}", "smaller"),
        (b"rollouts: {waves: [{hosts: 5}, {hosts: 1}, {share: 1}]}", "smaller"),
        (b"rollouts: {waves: [{share: 1, hosts: 1}]}", "either"),
        (b"rollouts: {waves: [{soak: 1h}]}", "either"),
        (b"rollouts: {halt: {most_share: 0.9}}", "most_share"),
        (b"groups: {web: {windows: [{start: '25:00'}]}}", "time of day"),
        (b"groups: {web: {windows: [{start: '02:00', days: []}]}}", "days"),
        (b"groups: {web: {time_zone: Mars/Base}}", "Mars/Base"),
        (b"groups: {web: {time_zone: ../../etc/passwd}}", "time zone"),
        (b"environments: [{name: prod, groups: [a], after: test}]", "must stand before"),
        (b"environments: [{name: prod, groups: [a], after: prod}]", "must stand before"),
        (b"environments: [{name: a, groups: [x]}, {name: a, groups: [y]}]", "named twice"),
        (b"environments: [{name: a, groups: [x]}, {name: b, groups: [x]}]", "cannot be in two"),
        (b"freezes: [{begins: 2027-01-01T00:00:00Z, ends: 2026-01-01T00:00:00Z, reason: x}]", "ends"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_with_its_place(text: bytes, told: str) -> None:
    with pytest.raises(DocumentError, match=told):
        parse_policy(text, source="fleet.yaml")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        # 02:30 does not exist on this day in Berlin: it opens an hour later on the clock.
        ("2026-03-29T00:00", "2026-03-29T01:30"),
        # 02:30 is there twice on this one: the first time.
        ("2026-10-25T00:00", "2026-10-25T00:30"),
        ("2026-07-01T00:00", "2026-07-01T00:30"),
        ("2026-07-01T02:29", "2026-07-01T02:29"),
        ("2026-07-01T02:30", "2026-07-02T00:30"),
    ],
)
def test_a_window_opens_by_the_clocks_of_its_zone(now: str, opens: str) -> None:
    assert opens_at((FleetWindow(TimeOfDay(2, 30)),), BERLIN, at(now)) == at(opens)


def test_without_windows_it_is_always_open() -> None:
    assert opens_at((), BERLIN, NOW) == NOW


windows = st.lists(
    st.builds(
        FleetWindow,
        st.builds(TimeOfDay, st.integers(0, 23), st.integers(0, 59)),
        st.floats(60, 86400),
        st.lists(st.sampled_from(WEEK), min_size=1, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(lambda each: each.replace(tzinfo=UTC))  # noqa: DTZ001
zones = st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "America/Sao_Paulo"]).map(TimeZone.from_text)


@given(windows, zones, moments)
def test_a_window_opens_within_a_week_and_an_hour(many: tuple[FleetWindow, ...], zone: TimeZone, now: datetime) -> None:
    opens = opens_at(many, zone, now)
    assert now <= opens <= now + timedelta(days=7, hours=1)
    assert opens_at(many, zone, opens) == opens
    assert all(each.closes > now for each in openings(many, zone, now))


def test_of_several_freezes_the_one_that_ends_last_counts() -> None:
    short = Freeze(Instant(NOW), Instant(NOW + timedelta(hours=1)), "short")
    long = Freeze(Instant(NOW), Instant(NOW + timedelta(hours=2)), "long")
    assert frozen_until((long, short), NOW) == long
    assert frozen_until((long, short), NOW - timedelta(seconds=1)) is None
    assert frozen_until((long, short), NOW + timedelta(hours=2)) is None


def test_days_are_those_of_the_zone() -> None:
    monday = FleetWindow(TimeOfDay(0, 0), 3600.0, (Day.MONDAY,))
    assert opens_at((monday,), BERLIN, at("2026-07-05T00:00")) == at("2026-07-05T22:00")


def test_the_example_is_a_policy() -> None:
    path = Path(__file__).parents[4] / "examples/fleet/fleet.yaml"
    found = parse_policy(path.read_bytes(), source=str(path))
    assert sorted(found.groups) == ["batch", "web"]
