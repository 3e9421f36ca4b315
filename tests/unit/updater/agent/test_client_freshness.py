"""Signed metadata that are older than they should be, and a host's clock that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from types import SimpleNamespace

import pytest
from tuf.ngclient._internal import trusted_metadata_set

from tests.fakes.documents import some_reference
from tests.fakes.http_server import Site, serving
from tests.fakes.metadata_client import CHANNEL, client, refreshed
from tests.fakes.tuf_site import SignedSite
from updater.documents.channel import Instant
from updater.documents.release import SIGNED_AT
from updater.errors import RefusedError

NOW = datetime.now(tz=UTC).replace(microsecond=0)
ClockSays = Callable[[datetime], datetime]


@pytest.fixture
def clock_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], datetime]:
    """Sets this machine's clock, for the library too, which reads its own."""

    def set_to(when: datetime) -> datetime:
        class Stopped(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return when

        monkeypatch.setattr(trusted_metadata_set, "datetime", SimpleNamespace(datetime=Stopped, timezone=timezone))
        return when

    return set_to


def test_expired_metadata_are_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.timestamp_expires = datetime.now(tz=UTC).replace(microsecond=0) - timedelta(days=1)
    signed.write()
    with pytest.raises(RefusedError, match="expired"):
        refreshed(signed, tmp_path)


def test_an_edge_that_is_behind_is_not_newer_and_no_attack(signed: SignedSite, tmp_path: Path) -> None:
    before = dict(signed.site.files)
    moved = replace(CHANNEL, release=some_reference("1.0.2"))
    signed.put(moved.target_path, moved)
    signed.write()
    refreshed(signed, tmp_path).channel("stable")
    behind = before["/metadata/timestamp.json"]
    signed.site.files["/metadata/timestamp.json"] = behind
    repository = refreshed(signed, tmp_path)
    assert not repository.has_news
    assert "older metadata" in "; ".join(repository.remarks)
    # What this host knew still counts; nothing goes back.
    assert repository.channel("stable") == moved


def test_an_older_edge_is_passed_over_until_what_is_known_expires(
    signed: SignedSite, tmp_path: Path, clock_says: ClockSays
) -> None:
    before = signed.site.files["/metadata/timestamp.json"]
    signed.timestamp_expires = NOW + timedelta(days=7)
    signed.write()
    refreshed(signed, tmp_path)
    signed.site.files["/metadata/timestamp.json"] = before
    assert refreshed(signed, tmp_path).remarks
    late = clock_says(NOW + timedelta(days=8))
    with pytest.raises(RefusedError, match="expired"):
        client(signed, tmp_path, now=late).refresh()


def test_an_older_timestamp_that_nobody_signed_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    before = signed.site.files["/metadata/timestamp.json"]
    signed.write()
    refreshed(signed, tmp_path)
    forged = json.loads(before)
    forged["signatures"][0]["sig"] = "00" * 64
    signed.site.files["/metadata/timestamp.json"] = json.dumps(forged).encode()
    with pytest.raises(RefusedError, match="signed by 0/1 keys"):
        refreshed(signed, tmp_path)


def test_a_snapshot_that_goes_back_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.write()
    refreshed(signed, tmp_path)
    # Whoever has the key of timestamps alone names the older, honestly signed snapshot again.
    signed.write(timestamp=lambda stamp: setattr(stamp.snapshot_meta, "version", 1))
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path)


@pytest.mark.parametrize("when", [datetime(1970, 1, 1, 0, 5, tzinfo=UTC), NOW - timedelta(days=3)])
def test_a_clock_that_is_behind_does_not_end_updates_and_is_named(
    signed: SignedSite, tmp_path: Path, clock_says: ClockSays, when: datetime
) -> None:
    signed.signed_at = NOW
    signed.write()
    repository = client(signed, tmp_path, now=clock_says(when))
    repository.refresh()
    assert repository.channel("stable") == CHANNEL
    assert repository.remarks == (f"this host's clock says {Instant.of(when)}, and it is after {Instant.of(NOW)}",)


def test_a_clock_that_is_a_little_behind_is_not_worth_a_word(
    signed: SignedSite, tmp_path: Path, clock_says: ClockSays
) -> None:
    signed.signed_at = NOW
    signed.write()
    repository = client(signed, tmp_path, now=clock_says(NOW - timedelta(minutes=59)))
    repository.refresh()
    assert repository.remarks == ()


def test_a_clock_that_is_behind_makes_no_expired_timestamp_good(tmp_path: Path, clock_says: ClockSays) -> None:
    with serving(Site()) as site:
        # The image was built yesterday, and its root of trust says so; what is shown expired before.
        frozen = SignedSite(site, signed_at=NOW - timedelta(days=1))
        frozen.signed_at = NOW - timedelta(days=20)
        frozen.timestamp_expires = NOW - timedelta(days=13)
        frozen.write()
        when = clock_says(datetime(1970, 1, 1, tzinfo=UTC))
        with pytest.raises(RefusedError, match=r"timestamp\.json expired at") as caught:
            client(frozen, tmp_path, now=when).refresh()
    assert f"it is after {Instant.of(NOW - timedelta(days=1))}" in str(caught.value)
    assert "this host's clock says 1970-01-01T00:00:00Z" in str(caught.value)
    assert "set the clock" in caught.value.hints[0]


def test_a_clock_that_is_behind_is_held_against_what_was_seen_before(
    signed: SignedSite, tmp_path: Path, clock_says: ClockSays
) -> None:
    before = dict(signed.site.files)
    signed.signed_at = NOW
    signed.timestamp_expires = NOW - timedelta(days=1)
    signed.write()
    clock_says(NOW - timedelta(days=2))
    with pytest.raises(RefusedError, match="expired"):
        client(signed, tmp_path, now=NOW - timedelta(days=2)).refresh()
    assert before


def test_a_clock_that_is_years_ahead_is_named(signed: SignedSite, tmp_path: Path, clock_says: ClockSays) -> None:
    when = clock_says(NOW + timedelta(days=5 * 365))
    with pytest.raises(RefusedError, match="expired") as caught:
        client(signed, tmp_path, now=when).refresh()
    assert f"this host's clock says {Instant.of(when)}" in str(caught.value)
    assert "if the clock is right" in caught.value.hints[0]


@pytest.mark.parametrize("moment", ["", "soon", "9999-99-99T00:00:00Z", 5, None, ["2026-01-01T00:00:00Z"]])
def test_a_moment_of_signing_that_makes_no_sense_is_passed_over(
    signed: SignedSite, tmp_path: Path, moment: object
) -> None:
    signed.write(timestamp=lambda stamp: stamp.unrecognized_fields.update({SIGNED_AT: moment}))
    assert refreshed(signed, tmp_path).remarks == ()
