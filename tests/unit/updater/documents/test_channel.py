from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import DocumentError
from partitions.version import Version
from tests.fakes.documents import channel_at, some_reference
from updater.documents.channel import Channel, DeadEnd, Instant, Pace, parse_channel, place_of

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def channel(*, over_s: float = 0.0, version: str = "1.0.1", name: str = "stable") -> Channel:
    return channel_at(some_reference(version), Pace(Instant(START), over_s), name=name)


def document(**changes: Any) -> dict[str, Any]:
    base = {
        "format": 1,
        "name": "stable",
        "image": "host",
        "architecture": "x86-64",
        "release": {"version": "1.0.1", "sha256": "ab" * 32},
        "pace": {"start": "2026-03-01T12:00:00Z", "over_s": 3600},
    }
    return {**base, **changes}


def parse(value: object) -> Channel:
    return parse_channel(strict.dump_json(value), source="stable.json")


def test_channel_is_read_with_its_defaults() -> None:
    read = parse(document())
    assert read.pace == Pace(Instant(START), 3600.0)
    assert (read.floor, read.dead_ends, read.halted) == (None, (), False)
    assert read.target_path == "channels/stable.json"


def test_what_is_written_reads_back_the_same() -> None:
    full = parse(
        document(
            floor={"version": "1.0.0", "sha256": "cd" * 32},
            halted=True,
            dead_ends=[{"version": "0.9", "reason": "old disk"}],
        )
    )
    assert parse_channel(strict.dump_json(full), source="again") == full
    assert full.dead_end(Version("0.9")) == DeadEnd(Version("0.9"), "old disk")
    assert full.dead_end(Version("1.0.0")) is None


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda value: value.update(name="Stable"), "name"),
        (lambda value: value.update(name="a/b"), "name"),
        (lambda value: value.update(halted="yes"), "halted"),
        (lambda value: value.update(floor={"version": "1_0", "sha256": "cd" * 32}), "floor.version"),
        (lambda value: value.update(critical=["more"], more=1), "critical"),
        (lambda value: value["pace"].update(start="9999-12-31T23:59:59Z"), "pace"),
        (lambda value: value["pace"].update(start="1969-12-31T23:59:59Z"), "pace"),
        (lambda value: value["pace"].update(over_s=1e10), "pace.over_s"),
        (lambda value: value["release"].update(sha256="x"), "release.sha256"),
        (lambda value: value["pace"].update(start="2026-03-01 12:00:00"), "pace.start"),
        (lambda value: value["pace"].update(start="2026-03-01T12:00:00+01:00"), "pace.start"),
        (lambda value: value["pace"].update(over_s=-1), "pace.over_s"),
        (lambda value: value["pace"].update(over_s=float("inf")), "pace.over_s"),
        (lambda value: value["pace"].update(over_s=float("nan")), "pace.over_s"),
        (lambda value: value.update(dead_ends=[{"version": "1"}]), "dead_ends[0].reason"),
    ],
)
def test_error_is_refused_and_located(change: Callable[[dict[str, Any]], None], path: str) -> None:
    value = document()
    change(value)
    with pytest.raises(DocumentError) as caught:
        parse(value)
    assert f"stable.json: {path}: " in str(caught.value)


def test_without_a_duration_every_host_is_due_at_the_start() -> None:
    assert channel().turn_of("a") == channel().turn_of("b") == START


@given(st.text(max_size=50), st.floats(min_value=0, max_value=1e7))
def test_every_turn_lies_within_the_wave(host: str, over_s: float) -> None:
    turn = channel(over_s=over_s).turn_of(host)
    assert START <= turn <= START + timedelta(seconds=over_s)


@given(st.text(max_size=50))
def test_place_is_fixed_and_below_one(host: str) -> None:
    place = place_of(host, "stable", Version("1.0.1"))
    assert 0 <= place < 1
    assert place == place_of(host, "stable", Version("1.0.1"))


def test_places_are_spread_evenly() -> None:
    places = [place_of(f"host-{number}", "stable", Version("1.0.1")) for number in range(1000)]
    for tenth in range(10):
        assert 60 < sum(tenth / 10 <= place < (tenth + 1) / 10 for place in places) < 140


def test_another_version_or_channel_shuffles_the_hosts() -> None:
    hosts = [f"host-{number}" for number in range(20)]
    orders = {
        tuple(sorted(hosts, key=lambda host: place_of(host, name, Version(version))))
        for name, version in (("stable", "1"), ("stable", "2"), ("beta", "1"))
    }
    assert len(orders) == 3


def test_instant_has_one_form() -> None:
    assert str(Instant.from_text("2026-03-01T12:00:00Z")) == "2026-03-01T12:00:00Z"
    for text in ("", "now", "2026-03-01", "2026-02-30T12:00:00Z", "2026-03-01T12:00:00"):
        with pytest.raises(ValueError, match="must be a moment"):
            Instant.from_text(text)
