"""Duties that are separate: the pipeline and the release manager submit, and the online keys make it visible."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile

from bedrock.progress import Silent
from keys.errors import MissingKeyError
from keys.roles import TufRole
from partitions.version import Version
from tests.fakes.builds import NOW, Publisher, snapshot_of, write_build
from tests.fakes.forgery import own_keys, strangers_key
from updater.repository.channels import ChannelChange, ChannelSet, ReleaseChoice, delete_channel, set_channel
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.releases import marked_withdrawn
from updater.repository.upkeep.garbage import collect
from updater.repository.upkeep.online import OnlineSigning, sign_online
from updater.repository.upkeep.refresh import refresh
from updater.repository.upkeep.status import lines, read_status
from updater.repository.upkeep.verify import verify
from updater.repository.upkeep.withdraw import withdraw

DAY = timedelta(days=1)
RELEASE = "releases/host/1.0.0/x86-64.json"


@pytest.fixture
def everybody(tmp_path: Path) -> Publisher:
    workshop = Publisher.make(tmp_path)
    workshop.publish("1.0.0")
    point(workshop, "1.0.0")
    return workshop


@pytest.fixture
def pipeline(everybody: Publisher) -> Publisher:
    return everybody.without_keys("root", "targets", "snapshot", "timestamp", "channels")


@pytest.fixture
def manager(everybody: Publisher) -> Publisher:
    return everybody.without_keys("root", "targets", "snapshot", "timestamp", "releases")


@pytest.fixture
def signer(everybody: Publisher) -> Publisher:
    return everybody.without_keys("root", "targets", "releases", "channels")


def point(who: Publisher, version: str, *, channel: str = "stable") -> ChannelSet:
    change = ChannelChange(release=ReleaseChoice("host", Version(version)))
    return set_channel(who.base, channel, change, access=who.access, lifetimes=Lifetimes(), now=NOW)


def made_visible(who: Publisher, *, days: int = 0) -> OnlineSigning:
    return sign_online(who.base, access=who.access, lifetimes=Lifetimes(), now=NOW + days * DAY)


def seen(who: Publisher) -> tuple[set[str], set[str]]:
    """The releases and the channels that hosts see."""
    state = load_state(Layout(who.base), None)
    return set(state.releases.signed.targets), set(state.channels.signed.targets)


def is_sound(who: Publisher) -> bool:
    return verify(who.base, now=NOW, progress=Silent()).ok


def test_a_submitted_release_waits_until_the_online_keys_sign(pipeline: Publisher, signer: Publisher) -> None:
    before = seen(pipeline)
    (done,) = pipeline.publish("1.0.1", seed=2)
    assert (done.new, done.waits) == (True, True)
    assert seen(pipeline) == before
    assert is_sound(pipeline)
    told = made_visible(signer)
    assert (told.signed, told.visible, told.left_out) == (True, {"releases": 3}, ())
    assert "releases/host/1.0.1/x86-64.json" in seen(pipeline)[0]
    assert is_sound(pipeline)
    assert not made_visible(signer).signed


def test_two_submissions_in_a_row_both_survive(pipeline: Publisher, manager: Publisher, signer: Publisher) -> None:
    pipeline.publish("1.0.1", seed=2)
    pipeline.publish("1.0.2", seed=3)
    # The release manager already sees what waits.
    assert point(manager, "1.0.2").waits
    assert point(manager, "1.0.1", channel="beta").waits
    assert made_visible(signer).visible == {"releases": 4, "channels": 4}
    releases, channels = seen(signer)
    assert len(releases) == 3
    assert channels == {"channels/stable.json", "channels/beta.json"}
    assert is_sound(signer)


def test_what_was_submitted_is_not_submitted_again(pipeline: Publisher, manager: Publisher) -> None:
    pipeline.publish("1.0.1", seed=2)
    point(manager, "1.0.1")
    before = snapshot_of(pipeline.base)
    (again,) = pipeline.publish("1.0.1", seed=2)
    # Not visible yet, so still new to whoever asks; nothing is written.
    assert (again.new, again.waits) == (True, True)
    assert not point(manager, "1.0.1").new
    assert snapshot_of(pipeline.base) == before


def test_withdrawal_and_deletion_are_submitted_too(pipeline: Publisher, manager: Publisher, signer: Publisher) -> None:
    delete_channel(manager.base, "stable", access=manager.access, lifetimes=Lifetimes(), now=NOW)
    choice = ReleaseChoice("host", Version("1.0.0"))
    done = withdraw(pipeline.base, choice, "bad", access=pipeline.access, lifetimes=Lifetimes(), now=NOW)
    assert (done.new, done.waits) == (True, True)
    made_visible(signer)
    assert seen(signer) == ({RELEASE}, set())
    assert is_sound(signer)


def test_whoever_has_all_keys_finishes_what_waits(everybody: Publisher, pipeline: Publisher) -> None:
    pipeline.publish("1.0.1", seed=2)
    assert not point(everybody, "1.0.1").waits
    assert len(seen(everybody)[0]) == 2


def test_the_online_signer_renews_when_half_of_a_life_is_over(signer: Publisher) -> None:
    assert not made_visible(signer, days=3).signed
    assert made_visible(signer, days=4).signed


def test_a_role_that_expires_soon_is_renewed_by_its_holder_alone(pipeline: Publisher, signer: Publisher) -> None:
    later = NOW + 80 * DAY
    done = refresh(pipeline.base, access=pipeline.access, lifetimes=Lifetimes(), now=later)
    assert (done.signed, done.waits) == ((TufRole.RELEASES,), True)
    assert [item.role for item in done.expiring] == [TufRole.CHANNELS]
    assert made_visible(signer, days=80).visible == {"releases": 3}
    again = refresh(pipeline.base, access=pipeline.access, lifetimes=Lifetimes(), now=later)
    assert (again.signed, again.waits) == ((), False)
    nobody = pipeline.without_keys(*(role.value for role in TufRole))
    with pytest.raises(MissingKeyError, match="snapshot"):
        refresh(nobody.base, access=nobody.access, lifetimes=Lifetimes(), now=later)


def test_status_names_what_waits_and_for_whom(pipeline: Publisher) -> None:
    pipeline.publish("1.0.1", seed=2)
    status = read_status(pipeline.base, now=NOW, within=DAY)
    assert [(each.role, each.version) for each in status.waiting] == [("releases", 3)]
    assert "releases version 3 was submitted and waits for snapshot, timestamp" in "\n".join(lines(status, NOW))


def test_collecting_garbage_leaves_what_waits(pipeline: Publisher, signer: Publisher) -> None:
    pipeline.publish("1.0.1", seed=2)
    collect(pipeline.base, older_than=timedelta(0), now=NOW + 9999 * DAY, remove=True)
    assert made_visible(signer).visible == {"releases": 3}
    assert is_sound(signer)


def submit(who: Publisher, role: TufRole, signers: tuple[Signer, ...], change: Callable[[Any], None]) -> None:
    """Write a next document of a role by hand, as somebody hostile does."""
    layout = Layout(who.base)
    document = load_state(layout, who.access.keyring).documents()[role]
    signed = document.copy()
    signed.version += 1
    file = signed.version
    change(signed)
    metadata: Metadata[Any] = Metadata(signed)
    for each in signers:
        metadata.sign(each, append=True)
    layout.role_file(role, file).write_bytes(metadata.to_bytes())


def removes(signed: Any) -> None:
    del signed.targets[RELEASE]


def changes_content(signed: Any) -> None:
    signed.targets[RELEASE] = TargetFile.from_data(RELEASE, b"other", ["sha256"])


def adds_what_is_not_there(signed: Any) -> None:
    path = RELEASE.replace("1.0.0", "9.9.9")
    signed.targets[path] = TargetFile.from_data(path, b"nowhere", ["sha256"])


def adds_what_is_too_large(signed: Any) -> None:
    path = RELEASE.replace("1.0.0", "9.9.9")
    signed.targets[path] = TargetFile(3 << 30, {"sha256": "ab" * 32}, path)


def promotes(signed: Any) -> None:
    signed.targets["channels/stable.json"] = TargetFile.from_data("channels/stable.json", b"x", ["sha256"])


def delegates(signed: Any) -> None:
    key = strangers_key().public_key
    role = DelegatedRole("more", [key.keyid], 1, terminating=False, paths=["releases/*/*/*"])
    signed.delegations = Delegations({key.keyid: key}, {"more": role})


def lies_about_its_version(signed: Any) -> None:
    signed.version += 100


def expires(signed: Any) -> None:
    signed.expires = NOW - DAY


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (removes, "removes releases/host/1.0.0"),
        (changes_content, "other content"),
        (adds_what_is_not_there, "cannot be read"),
        (adds_what_is_too_large, "at most 4194304"),
        (promotes, "not its to name"),
        (delegates, "delegates to other keys"),
        (lies_about_its_version, "says version 103"),
        (expires, "expired"),
    ],
)
def test_a_hostile_submission_is_left_out_and_blocks_nobody(
    everybody: Publisher, manager: Publisher, signer: Publisher, change: Callable[[Any], None], why: str
) -> None:
    submit(everybody, TufRole.RELEASES, own_keys(everybody, TufRole.RELEASES), change)
    before = seen(everybody)[0]
    point(manager, "1.0.0", channel="beta")
    done = made_visible(signer)
    assert done.visible == {"channels": 3}
    (left,) = done.left_out
    assert (left.role, left.version) == (TufRole.RELEASES, 3)
    assert why in str(left)
    assert seen(signer)[0] == before
    assert is_sound(signer)


def test_a_submission_below_a_hostile_one_counts(everybody: Publisher, pipeline: Publisher, signer: Publisher) -> None:
    pipeline.publish("1.0.1", seed=2)
    submit(everybody, TufRole.RELEASES, own_keys(everybody, TufRole.RELEASES), removes)
    done = made_visible(signer)
    assert (done.visible, len(done.left_out)) == ({"releases": 3}, 1)
    # And the pipeline goes on above it.
    pipeline.publish("1.0.2", seed=3)
    assert made_visible(signer).visible == {"releases": 5}
    assert is_sound(signer)


@pytest.mark.parametrize("version", [3, 9_999_999_999])
def test_a_file_that_nobody_signed_takes_no_version(
    everybody: Publisher, pipeline: Publisher, signer: Publisher, version: int
) -> None:
    layout = Layout(everybody.base)
    layout.role_file(TufRole.RELEASES, version).write_bytes(b"junk")
    (done,) = pipeline.publish("1.0.1", seed=2)
    assert done.waits
    assert made_visible(signer).visible == {"releases": 4 if version == 3 else 3}
    assert is_sound(signer)


def test_a_file_that_would_fill_the_memory_is_not_read(everybody: Publisher, signer: Publisher) -> None:
    with Layout(everybody.base).role_file(TufRole.RELEASES, 7).open("wb") as stream:
        stream.truncate(3 << 30)
    Layout(everybody.base).role_file(TufRole.CHANNELS, 7).mkdir()
    done = made_visible(signer)
    assert not done.signed
    assert "3221225472 bytes" in str(done.left_out[0])
    assert len(done.left_out) == 2


def test_a_root_beyond_a_gap_is_nobodys_root(everybody: Publisher, signer: Publisher) -> None:
    layout = Layout(everybody.base)
    layout.role_file(TufRole.ROOT, 99).write_bytes(b"junk")
    everybody.without_keys("snapshot", "timestamp").publish("1.0.1", seed=2)
    assert made_visible(signer).visible == {"releases": 3}
    assert read_status(everybody.base, now=NOW, within=DAY).left_out == ()
    assert "99.root.json cannot be reached" in str(verify(everybody.base, now=NOW, progress=Silent()).problems)


def test_the_pipelines_key_submits_no_channel(everybody: Publisher, signer: Publisher) -> None:
    submit(everybody, TufRole.CHANNELS, own_keys(everybody, TufRole.RELEASES), lambda signed: signed.targets.clear())
    done = made_visible(signer)
    assert not done.signed
    assert "channels" in str(done.left_out[0])


def test_a_channel_to_bytes_that_nobody_published_is_left_out(
    tmp_path: Path, everybody: Publisher, manager: Publisher, signer: Publisher
) -> None:
    pipeline = everybody.without_keys("snapshot", "timestamp")
    write_build(tmp_path / "late", version="2.0.0")
    pipeline.publish_folders(tmp_path / "late")
    point(manager, "2.0.0")
    Layout(everybody.base).role_file(TufRole.RELEASES, 3).unlink()
    done = made_visible(signer)
    assert "not published with these bytes" in str(done.left_out[0])
    assert not done.signed


def test_a_withdrawn_release_does_not_come_back(everybody: Publisher, signer: Publisher) -> None:
    def mark(signed: Any) -> None:
        marked_withdrawn(signed.targets[RELEASE], "bad")

    def unmark(signed: Any) -> None:
        signed.targets[RELEASE].unrecognized_fields.clear()

    keys = own_keys(everybody, TufRole.RELEASES)
    delete_channel(everybody.base, "stable", access=everybody.access, lifetimes=Lifetimes(), now=NOW)
    submit(everybody, TufRole.RELEASES, keys, mark)
    assert made_visible(signer).signed
    submit(everybody, TufRole.RELEASES, keys, unmark)
    done = made_visible(signer)
    assert "was withdrawn" in str(done.left_out[0])
    assert not done.signed


def test_a_channel_submission_that_is_newer_but_bad_does_not_undo_a_later_change(
    everybody: Publisher, manager: Publisher, signer: Publisher
) -> None:
    """A submission that is left out today must not come into force tomorrow, over what was signed after it."""

    def to_nowhere(signed: Any) -> None:
        signed.targets["channels/late.json"] = TargetFile.from_data("channels/late.json", b"later", ["sha256"])

    submit(everybody, TufRole.CHANNELS, own_keys(everybody, TufRole.CHANNELS), to_nowhere)
    point(manager, "1.0.0", channel="beta")
    layout = Layout(everybody.base)
    made_visible(signer)
    assert load_state(layout, None).channels.signed.version == 4
