from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from bedrock.progress import Silent
from keys.errors import MissingKeyError
from partitions.version import Version
from tests.fakes.builds import NOW, Publisher, snapshot_of, write_build
from updater.documents.channel import DeadEnd, Instant
from updater.documents.release import Architecture
from updater.errors import PolicyError, RepositoryError
from updater.repository.channels import (
    ChannelChange,
    ChannelSet,
    ReleaseChoice,
    list_channels,
    set_channel,
    show_channel,
)
from updater.repository.lifetime import Lifetimes
from updater.repository.upkeep.verify import verify


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    made = Publisher.make(tmp_path)
    made.publish("1.0.0", seed=1)
    made.publish("1.0.1", seed=2)
    return made


def release(version: str, *, image: str = "host") -> ReleaseChoice:
    return ReleaseChoice(image, Version(version))


def change(workshop: Publisher, wanted: ChannelChange, *, name: str = "stable", hours: int = 0) -> ChannelSet:
    now = NOW + timedelta(hours=hours)
    return set_channel(workshop.base, name, wanted, access=workshop.access, lifetimes=Lifetimes(), now=now)


def test_new_channel_points_to_its_release_at_once(workshop: Publisher) -> None:
    done = change(workshop, ChannelChange(release=release("1.0.0")))
    assert done.new
    shown = show_channel(workshop.base, "stable")
    assert shown == done.channel
    assert (shown.version, shown.architecture, shown.halted) == (Version("1.0.0"), Architecture.X86_64, False)
    assert shown.pace.start == Instant(NOW)
    assert shown.pace.over_s == 0
    assert verify(workshop.base, now=NOW, progress=Silent()).ok


def test_unpublished_release_is_refused_and_the_published_ones_are_named(workshop: Publisher) -> None:
    with pytest.raises(RepositoryError, match=r"host/9\.9 is not published") as caught:
        change(workshop, ChannelChange(release=release("9.9")))
    assert caught.value.hints == ("published versions of host: 1.0.0, 1.0.1",)


def test_older_release_needs_to_be_allowed(workshop: Publisher) -> None:
    change(workshop, ChannelChange(release=release("1.0.1")))
    with pytest.raises(PolicyError, match="is older"):
        change(workshop, ChannelChange(release=release("1.0.0")))
    done = change(workshop, ChannelChange(release=release("1.0.0"), allow_downgrade=True))
    assert done.channel.version == Version("1.0.0")


def test_new_release_starts_a_new_wave_at_the_old_pace(workshop: Publisher) -> None:
    change(workshop, ChannelChange(release=release("1.0.0"), over_s=7200))
    done = change(workshop, ChannelChange(release=release("1.0.1")), hours=5)
    assert done.channel.pace.start == Instant(NOW + timedelta(hours=5))
    assert done.channel.pace.over_s == 7200


def test_changing_conditions_keeps_the_wave(workshop: Publisher) -> None:
    change(workshop, ChannelChange(release=release("1.0.0"), over_s=7200))
    done = change(workshop, ChannelChange(halted=True), hours=5)
    assert done.channel.halted
    assert done.channel.pace.start == Instant(NOW)


def test_halted_channel_stays_halted_until_it_is_resumed(workshop: Publisher) -> None:
    change(workshop, ChannelChange(release=release("1.0.0"), halted=True))
    assert change(workshop, ChannelChange(release=release("1.0.1"))).channel.halted
    assert not change(workshop, ChannelChange(halted=False)).channel.halted


def test_same_again_changes_nothing(workshop: Publisher) -> None:
    wanted = ChannelChange(release=release("1.0.0"), floor=Version("1.0.0"))
    change(workshop, wanted)
    before = snapshot_of(workshop.base)
    assert not change(workshop, wanted, hours=3).new
    assert snapshot_of(workshop.base) == before


def test_a_release_is_tried_once_more_until_the_channel_moves_on(workshop: Publisher) -> None:
    change(workshop, ChannelChange(release=release("1.0.0")))
    again = change(workshop, ChannelChange(retry="the registry was away")).channel
    assert again.retry is not None
    assert again.retry.reason == "the registry was away"
    assert change(workshop, ChannelChange(halted=True)).channel.retry == again.retry
    assert change(workshop, ChannelChange(release=release("1.0.1"))).channel.retry is None


def test_dead_ends_are_added_replaced_and_removed(workshop: Publisher) -> None:
    ends = (DeadEnd(Version("0.9"), "old disk"), DeadEnd(Version("0.8"), "older"))
    change(workshop, ChannelChange(release=release("1.0.0"), dead_ends=ends))
    again = change(workshop, ChannelChange(dead_ends=(DeadEnd(Version("0.9"), "new reason"),)))
    assert [str(end.version) for end in again.channel.dead_ends] == ["0.8", "0.9"]
    assert again.channel.dead_ends[1].reason == "new reason"
    assert change(workshop, ChannelChange(reopened=(Version("0.8"), Version("0.9")))).channel.dead_ends == ()


def test_floor_above_the_release_is_refused(workshop: Publisher) -> None:
    with pytest.raises(PolicyError, match="floor"):
        change(workshop, ChannelChange(release=release("1.0.0"), floor=Version("1.0.1")))


def test_floor_that_is_not_published_is_refused_and_nothing_changes(workshop: Publisher) -> None:
    change(workshop, ChannelChange(release=release("1.0.1")))
    before = snapshot_of(workshop.base)
    with pytest.raises(RepositoryError, match=r"host/1\.0\.0-1/x86-64 is not published") as caught:
        change(workshop, ChannelChange(floor=Version("1.0.0-1")))
    assert any("go to first" in hint for hint in caught.value.hints)
    assert snapshot_of(workshop.base) == before


def test_floor_published_for_another_architecture_only_is_refused(workshop: Publisher) -> None:
    workshop.publish("0.9.0", seed=3, architecture="arm64")
    with pytest.raises(RepositoryError, match="not published"):
        change(workshop, ChannelChange(release=release("1.0.1"), floor=Version("0.9.0")))


def test_floor_stays_a_stepping_stone_when_the_channel_moves_on(workshop: Publisher) -> None:
    made = change(workshop, ChannelChange(release=release("1.0.0"), floor=Version("1.0.0"))).channel
    assert made.floor == made.release
    assert change(workshop, ChannelChange(release=release("1.0.1"))).channel.floor == made.floor
    workshop.publish("0.5.0", seed=4)
    with pytest.raises(PolicyError, match="floor"):
        change(workshop, ChannelChange(release=release("0.5.0"), allow_downgrade=True))


def test_floor_can_be_forgotten(workshop: Publisher) -> None:
    change(workshop, ChannelChange(release=release("1.0.0"), floor=Version("1.0.0")))
    assert change(workshop, ChannelChange(no_floor=True)).channel.floor is None


def test_channel_keeps_its_image(workshop: Publisher, tmp_path: Path) -> None:
    workshop.publish_folders(write_build(tmp_path / "other", image="other", version="2.0", seed=9))
    change(workshop, ChannelChange(release=release("1.0.0")))
    with pytest.raises(PolicyError, match="carries host"):
        change(workshop, ChannelChange(release=release("2.0", image="other")))


def test_architecture_must_be_named_when_there_are_several(workshop: Publisher) -> None:
    workshop.publish("1.0.0", seed=5, architecture="arm64")
    with pytest.raises(RepositoryError, match="several architectures"):
        change(workshop, ChannelChange(release=release("1.0.0")))
    done = change(workshop, ChannelChange(release=ReleaseChoice.from_text("host/1.0.0/arm64")), name="arm")
    assert done.channel.architecture is Architecture.ARM64


def test_channel_without_a_release_cannot_be_made(workshop: Publisher) -> None:
    with pytest.raises(RepositoryError, match="no channel stable yet"):
        change(workshop, ChannelChange(halted=True))


@pytest.mark.parametrize("name", ["../up", "UPPER", "", "a/b", "x" * 64])
def test_name_that_is_none_is_refused(workshop: Publisher, name: str) -> None:
    before = snapshot_of(workshop.base)
    with pytest.raises(DocumentError, match="name"):
        change(workshop, ChannelChange(release=release("1.0.0")), name=name)
    assert snapshot_of(workshop.base) == before


def test_release_manager_needs_no_release_key(workshop: Publisher) -> None:
    manager = workshop.without_keys("root", "targets", "releases")
    assert change(manager, ChannelChange(release=release("1.0.0"))).new


def test_build_pipeline_cannot_promote(workshop: Publisher) -> None:
    pipeline = workshop.without_keys("channels")
    before = snapshot_of(workshop.base)
    with pytest.raises(MissingKeyError, match="channels"):
        change(pipeline, ChannelChange(release=release("1.0.0")))
    assert snapshot_of(workshop.base) == before


def test_channels_are_listed_by_name(workshop: Publisher) -> None:
    assert list_channels(workshop.base) == ()
    change(workshop, ChannelChange(release=release("1.0.1")), name="stable")
    change(workshop, ChannelChange(release=release("1.0.1")), name="beta")
    assert [channel.name for channel in list_channels(workshop.base)] == ["beta", "stable"]


def test_unknown_channel_names_the_known_ones(workshop: Publisher) -> None:
    change(workshop, ChannelChange(release=release("1.0.1")))
    with pytest.raises(RepositoryError, match="there are: stable"):
        show_channel(workshop.base, "stabel")


@pytest.mark.parametrize("text", ["host", "host/", "/1.0", "host/1_0", "host/1.0/vax", ""])
def test_release_choice_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"IMAGE|version|Architecture"):
        ReleaseChoice.from_text(text)
