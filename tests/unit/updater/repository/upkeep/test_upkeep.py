"""Releases listed and withdrawn, channels deleted and moved, files collected that nothing needs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bedrock.errors import DocumentError
from bedrock.progress import Silent
from keys.errors import MissingKeyError
from keys.roles import TufRole
from partitions.version import Version
from tests.fakes.builds import NOW, Publisher, snapshot_of, write_build
from tests.fakes.clock import FakeClock
from tests.fakes.forgery import own_keys, resign
from updater.documents.channel import Channel
from updater.errors import BusyError, ConflictError, PolicyError, RepositoryError
from updater.repository.channels import ChannelChange, ReleaseChoice, delete_channel, list_channels, set_channel
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.lock import storing, writing
from updater.repository.metadata import load_state
from updater.repository.targets import write_target
from updater.repository.upkeep.garbage import Garbage, collect
from updater.repository.upkeep.listing import list_releases
from updater.repository.upkeep.verify import verify
from updater.repository.upkeep.withdraw import withdraw

REASON = "loses the network after a day"
LATER = NOW + timedelta(days=30)


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    made = Publisher.make(tmp_path)
    made.publish("1.0.0")
    made.publish("1.0.1", seed=2)
    point(made, "1.0.0")
    return made


def choice(version: str, image: str = "host") -> ReleaseChoice:
    return ReleaseChoice(image, Version(version))


def point(workshop: Publisher, version: str, name: str = "stable", **change: Any) -> Channel:
    wanted = ChannelChange(release=choice(version, change.pop("image", "host")), **change)
    done = set_channel(workshop.base, name, wanted, access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    return done.channel


def withdrawn(workshop: Publisher, version: str, reason: str = REASON) -> bool:
    access = workshop.access
    return withdraw(workshop.base, choice(version), reason, access=access, lifetimes=Lifetimes(), now=NOW).new


def is_sound(workshop: Publisher) -> bool:
    return verify(workshop.base, now=NOW, progress=Silent()).ok


def test_releases_are_listed_with_their_channels_oldest_first(workshop: Publisher) -> None:
    point(workshop, "1.0.1", "beta", floor=Version("1.0.0"))
    old, new = list_releases(workshop.base)
    assert (old.version, old.channels) == (Version("1.0.0"), ("beta", "stable"))
    assert (new.version, new.channels) == (Version("1.0.1"), ("beta",))
    assert old.withdrawn is None
    assert old.wire_bytes > 0


def test_a_withdrawn_release_stays_explained_and_is_never_used_again(workshop: Publisher, tmp_path: Path) -> None:
    objects = snapshot_of(workshop.base / "objects")
    assert withdrawn(workshop, "1.0.1")
    assert not withdrawn(workshop, "1.0.1")
    assert [each.withdrawn for each in list_releases(workshop.base)] == [None, REASON]
    assert is_sound(workshop)
    assert snapshot_of(workshop.base / "objects") == objects
    with pytest.raises(PolicyError, match=REASON):
        point(workshop, "1.0.1")
    with pytest.raises(PolicyError, match=REASON):
        point(workshop, "1.0.1", "beta")
    other = write_build(tmp_path / "other", version="1.0.1", seed=9)
    with pytest.raises(ConflictError):
        workshop.publish_folders(other)


def test_a_release_that_a_channel_names_is_not_withdrawn(workshop: Publisher) -> None:
    before = snapshot_of(workshop.base / "metadata")
    with pytest.raises(PolicyError, match="stable"):
        withdrawn(workshop, "1.0.0")
    assert snapshot_of(workshop.base / "metadata") == before
    point(workshop, "1.0.1", floor=Version("1.0.0"))
    with pytest.raises(PolicyError, match="stable"):
        withdrawn(workshop, "1.0.0")


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 501])
def test_a_reason_is_one_line(workshop: Publisher, reason: str) -> None:
    with pytest.raises(PolicyError, match="reason"):
        withdrawn(workshop, "1.0.1", reason)


def test_withdrawing_needs_the_key_of_releases(workshop: Publisher) -> None:
    manager = workshop.without_keys("releases")
    with pytest.raises(MissingKeyError):
        withdrawn(manager, "1.0.1")
    with pytest.raises(RepositoryError, match="not published"):
        withdrawn(workshop, "3.0")


def test_a_deleted_channel_is_gone_and_its_release_stays(workshop: Publisher) -> None:
    delete_channel(workshop.base, "stable", access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    assert list_channels(workshop.base) == ()
    assert len(list_releases(workshop.base)) == 2
    assert is_sound(workshop)
    with pytest.raises(RepositoryError, match="stable"):
        delete_channel(workshop.base, "stable", access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    assert point(workshop, "1.0.1").version == Version("1.0.1")


def test_a_channel_moves_to_another_image_only_when_that_is_meant(workshop: Publisher, tmp_path: Path) -> None:
    build = write_build(tmp_path / "other", version="0.1", seed=5)
    document = json.loads((build / "release.json").read_text())
    (build / "release.json").write_text(json.dumps(document | {"image": "other"}))
    workshop.publish_folders(build)
    point(workshop, "1.0.1", floor=Version("1.0.0"), over_s=60.0)
    with pytest.raises(PolicyError, match="cannot move"):
        point(workshop, "0.1", image="other")
    moved = point(workshop, "0.1", image="other", other_image=True)
    assert (moved.image, moved.version, moved.floor, moved.pace.over_s) == ("other", Version("0.1"), None, 60.0)
    assert is_sound(workshop)


def age(base: Path, days: float) -> None:
    """Let every file be that old."""
    for path in base.rglob("*"):
        os.utime(path, (NOW.timestamp(), (NOW - timedelta(days=days)).timestamp()))


def garbage(workshop: Publisher, *, remove: bool = True, older_than: timedelta = timedelta(days=7)) -> Garbage:
    return collect(workshop.base, older_than=older_than, now=NOW, remove=remove)


def test_what_an_interrupted_publish_left_is_collected_and_nothing_that_is_named(workshop: Publisher) -> None:
    withdrawn(workshop, "1.0.1")
    orphan = workshop.base / "objects/ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left over")
    half = workshop.base / "objects/.incoming-1"
    half.write_bytes(b"half")
    age(workshop.base, 8)
    seen = garbage(workshop, remove=False)
    assert orphan.exists()
    assert {f"objects/ab/{'ab' * 32}", "objects/.incoming-1"} <= set(seen.files)
    # The first channels, releases and snapshots, and the channel's documents that were replaced.
    assert "metadata/1.snapshot.json" in seen.files
    assert "metadata/1.root.json" not in seen.files
    assert garbage(workshop) == seen
    assert not orphan.exists()
    assert is_sound(workshop)
    assert garbage(workshop).files == ()
    workshop.publish("1.0.2", seed=3)
    assert is_sound(workshop)


def test_young_files_are_left_alone(workshop: Publisher) -> None:
    age(workshop.base, 6)
    assert garbage(workshop).files == ()


def test_what_an_unfinished_command_wrote_is_kept_for_the_next_to_complete(workshop: Publisher) -> None:
    old = Layout(workshop.base).timestamp_file.read_bytes()
    workshop.publish("1.0.2", seed=3)
    Layout(workshop.base).timestamp_file.write_bytes(old)
    age(workshop.base, 8)
    garbage(workshop)
    (done,) = workshop.publish("1.0.2", seed=3)
    assert done.new
    assert is_sound(workshop)


def test_a_release_of_a_newer_program_ends_the_collection(workshop: Publisher) -> None:
    layout = Layout(workshop.base)
    path = "releases/host/1.0.0/x86-64.json"
    target = load_state(layout, None).releases.signed.targets[path]
    document = json.loads(layout.target_file(path, target.hashes["sha256"]).read_bytes()) | {"patches": []}
    new = write_target(layout, path, json.dumps(document).encode())
    resign(workshop, TufRole.RELEASES, own_keys(workshop, TufRole.RELEASES), change=replaced(path, new))
    age(workshop.base, 8)
    before = snapshot_of(workshop.base)
    with pytest.raises(DocumentError, match="patches"):
        garbage(workshop)
    assert snapshot_of(workshop.base) == before


def replaced(path: str, target: Any) -> Callable[[Any], None]:
    def change(signed: Any) -> None:
        signed.targets[path] = target

    return change


def test_a_halt_goes_through_while_somebody_compresses(workshop: Publisher) -> None:
    layout = Layout(workshop.base)
    with storing(layout):
        assert point(workshop, "1.0.0", halted=True).halted
        with pytest.raises(BusyError, match="publishing"):
            workshop.publish("1.0.2", seed=3)
        with pytest.raises(BusyError):
            garbage(workshop)
    with writing(layout), pytest.raises(BusyError, match="changing"):
        point(workshop, "1.0.1")


def test_whoever_waits_gets_the_lock_when_it_is_free_and_not_before_the_time_is_over(workshop: Publisher) -> None:
    layout, clock = Layout(workshop.base), FakeClock()
    entered, go = threading.Event(), threading.Event()

    def hold() -> None:
        with writing(layout):
            entered.set()
            go.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(30)
    with pytest.raises(BusyError), writing(layout, wait_s=5, clock=clock):
        pass
    assert sum(clock.slept) >= 5

    def end() -> None:
        go.set()
        holder.join(30)

    clock.meanwhile = end
    with writing(layout, wait_s=5, clock=clock):
        assert not holder.is_alive()
