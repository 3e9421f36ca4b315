from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bedrock.progress import Silent
from keys.errors import MissingKeyError
from keys.roles import TufRole
from tests.fakes.builds import NOW, Publisher
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.refresh import refresh
from updater.repository.verify import verify

ONLINE = (TufRole.SNAPSHOT, TufRole.TIMESTAMP)
DAY = timedelta(days=1)


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    return Publisher.make(tmp_path)


def test_expired_timestamp_is_renewed(workshop: Publisher) -> None:
    later = NOW + 10 * DAY
    assert not verify(workshop.base, now=later, progress=Silent()).ok
    done = refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=later)
    assert done.signed == ONLINE
    assert done.expires["timestamp"] == later + 7 * DAY
    assert verify(workshop.base, now=later, progress=Silent()).ok


def test_only_online_keys_are_needed(workshop: Publisher) -> None:
    host = workshop.without_keys("root", "targets", "releases", "channels")
    assert refresh(host.base, access=host.access, lifetimes=Lifetimes(), now=NOW).signed == ONLINE


def test_without_the_timestamp_key_nothing_is_written(workshop: Publisher) -> None:
    before = load_state(Layout(workshop.base), None).timestamp.raw
    with pytest.raises(MissingKeyError):
        refresh(workshop.base, access=workshop.without_keys("timestamp").access, lifetimes=Lifetimes(), now=NOW)
    assert load_state(Layout(workshop.base), None).timestamp.raw == before


def test_role_that_expires_soon_is_signed_when_its_key_is_here(workshop: Publisher) -> None:
    later = NOW + 80 * DAY
    done = refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=later)
    assert done.signed == (TufRole.RELEASES, TufRole.CHANNELS, *ONLINE)
    assert done.expiring == ()
    assert verify(workshop.base, now=later, progress=Silent()).ok


def test_role_that_expires_soon_is_reported_when_its_key_is_elsewhere(workshop: Publisher) -> None:
    pipeline = workshop.without_keys("channels")
    later = NOW + 80 * DAY
    done = refresh(pipeline.base, access=pipeline.access, lifetimes=Lifetimes(), now=later)
    assert done.signed == (TufRole.RELEASES, *ONLINE)
    assert [(item.role, item.expires) for item in done.expiring] == [(TufRole.CHANNELS, NOW + 90 * DAY)]


def test_root_is_signed_into_the_next_version_that_old_hosts_accept(workshop: Publisher) -> None:
    first = (workshop.base / "metadata" / "1.root.json").read_bytes()
    later = NOW + 350 * DAY
    done = refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=later)
    assert done.signed[:2] == (TufRole.ROOT, TufRole.TARGETS)
    assert (workshop.base / "metadata" / "2.root.json").exists()
    assert verify(workshop.base, now=later, progress=Silent(), trusted_root=first).ok
