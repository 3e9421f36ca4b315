from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from tuf.api.metadata import Metadata, Snapshot

from bedrock.progress import Silent
from keys.errors import MissingKeyError
from keys.generate import init
from keys.keyring import KEYRING_FILE, Keyring
from keys.passphrase import NoPassphrase
from keys.roles import Profile, TufRole
from tests.fakes.builds import NOW, Publisher, snapshot_of
from tests.fakes.forgery import strangers_key
from updater.errors import RefusedError
from updater.repository.access import KeyAccess
from updater.repository.commit import commit
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.upkeep.refresh import refresh
from updater.repository.upkeep.verify import verify

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


def test_a_daily_refresh_with_a_long_span_makes_no_root_a_day(workshop: Publisher) -> None:
    for day in range(1, 4):
        now = NOW + day * DAY
        done = refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=now, within=400 * DAY)
        assert done.signed == ONLINE
    done = refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=NOW + 183 * DAY, within=400 * DAY)
    assert TufRole.ROOT in done.signed


@pytest.mark.parametrize("role", [TufRole.TIMESTAMP, TufRole.SNAPSHOT])
def test_a_key_that_the_repository_does_not_trust_is_found_before_anything_is_written(
    workshop: Publisher, tmp_path: Path, role: TufRole
) -> None:
    mixed = with_new_key(workshop, tmp_path / "mixed", role)
    before = snapshot_of(workshop.base / "metadata")
    with pytest.raises(RefusedError, match=role.value) as caught:
        refresh(mixed.base, access=mixed.access, lifetimes=Lifetimes(), now=NOW + 360 * DAY)
    assert any(role.value in hint for hint in caught.value.hints)
    assert snapshot_of(workshop.base / "metadata") == before


def with_new_key(workshop: Publisher, folder: Path, role: TufRole) -> Publisher:
    """The same workshop with a keys folder whose key of one role was made anew."""
    shutil.copytree(workshop.access.keyring.folder, folder)
    other = init(folder.with_name("other"), Profile.DEV, NoPassphrase())
    mine, theirs = (yaml.safe_load((place / KEYRING_FILE).read_text()) for place in (folder, other.folder))
    mine["tuf"][role.value] = theirs["tuf"][role.value]
    (folder / KEYRING_FILE).write_text(yaml.safe_dump(mine))
    shutil.copy(other.folder / f"{role.value}-1.pem", folder / f"{role.value}-1.pem")
    return Publisher(workshop.folder, KeyAccess(Keyring.load(folder), NoPassphrase()))


def test_a_keys_folder_older_than_the_root_still_works(workshop: Publisher) -> None:
    """The root's keys were exchanged by somebody else; the chain from the old ones leads there."""
    layout = Layout(workshop.base)
    state = load_state(layout, workshop.access.keyring)
    stranger = strangers_key()
    root = state.root.copy()
    (old,) = root.roles["root"].keyids
    root.add_key(stranger.public_key, "root")
    root.revoke_key(old, "root")
    signers = {
        **workshop.access.open(*ONLINE),
        TufRole.ROOT: (*workshop.access.open(TufRole.ROOT)[TufRole.ROOT], stranger),
    }
    commit(layout, state, changed={TufRole.ROOT: root}, signers=signers, lifetimes=Lifetimes(), now=NOW)
    assert refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=NOW).signed == ONLINE
    workshop.publish("1.0.0")
    assert verify(workshop.base, now=NOW, progress=Silent()).ok


def test_a_timestamp_that_was_put_back_is_gone_on_from_without_going_back(workshop: Publisher) -> None:
    layout = Layout(workshop.base)
    workshop.publish("1.0.0")
    old = layout.timestamp_file.read_bytes()
    workshop.publish("1.0.1", seed=2)
    layout.timestamp_file.write_bytes(old)
    host = workshop.without_keys("root", "targets", "releases", "channels")
    refresh(host.base, access=host.access, lifetimes=Lifetimes(), now=NOW)
    report = verify(workshop.base, now=NOW, progress=Silent())
    assert report.problems == ()
    assert report.releases == 2


def test_a_snapshot_that_nobody_signed_is_not_gone_on_from(workshop: Publisher) -> None:
    layout = Layout(workshop.base)
    state = load_state(layout, None)
    forged = state.snapshot.copy()
    forged.version += 1
    metadata: Metadata[Snapshot] = Metadata(forged)
    metadata.sign(strangers_key())
    layout.role_file(TufRole.SNAPSHOT, forged.version).write_bytes(metadata.to_bytes())
    assert not load_state(layout, workshop.access.keyring).unfinished
    refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    assert load_state(layout, None).snapshot.signed.version == forged.version + 1
