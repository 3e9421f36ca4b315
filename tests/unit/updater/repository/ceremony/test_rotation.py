"""Every key can be exchanged, twice, and every command goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import updater.repository.commit as writer
from bedrock.persist import write_atomic
from bedrock.progress import Silent
from keys.changes import add, revoke, set_threshold
from keys.passphrase import NoPassphrase
from keys.roles import TufRole
from partitions.version import Version
from tests.fakes.builds import NOW, Publisher, snapshot_of
from tests.fakes.key_holders import reloaded, with_rotated
from updater.errors import RefusedError
from updater.repository.channels import (
    ChannelChange,
    ReleaseChoice,
    delete_channel,
    list_channels,
    set_channel,
)
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.upkeep.garbage import collect
from updater.repository.upkeep.listing import list_releases
from updater.repository.upkeep.online import sign_online
from updater.repository.upkeep.refresh import Refreshed, refresh
from updater.repository.upkeep.status import Validity, read_status
from updater.repository.upkeep.verify import Verification, verify
from updater.repository.upkeep.withdraw import withdraw

DAY = timedelta(days=1)
ROLES = tuple(TufRole)
OFFLINE = ("root", "targets", "releases", "channels")


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    made = Publisher.make(tmp_path)
    made.publish("1.0.0")
    point(made, "1.0.0")
    return made


def point(who: Publisher, version: str, channel: str = "stable") -> None:
    change = ChannelChange(release=ReleaseChoice("host", Version(version)))
    set_channel(who.base, channel, change, access=who.access, lifetimes=Lifetimes(), now=NOW)


def refreshed(who: Publisher) -> Refreshed:
    return refresh(who.base, access=who.access, lifetimes=Lifetimes(), now=NOW)


def checked(who: Publisher) -> Verification:
    first = (who.base / "metadata" / "1.root.json").read_bytes()
    return verify(who.base, now=NOW, progress=Silent(), trusted_root=first)


def every_command_works(who: Publisher, number: int) -> None:
    """What is done with a repository, by whoever has all keys."""
    access, lifetimes = who.access, Lifetimes()
    for version in (f"1.{number}.0", f"1.{number}.1"):
        assert who.publish(version, seed=number)[0].new
    point(who, f"1.{number}.0")
    point(who, f"1.{number}.0", "beta")
    delete_channel(who.base, "beta", access=access, lifetimes=lifetimes, now=NOW)
    choice = ReleaseChoice("host", Version(f"1.{number}.1"))
    assert withdraw(who.base, choice, "no", access=access, lifetimes=lifetimes, now=NOW).new
    assert len(list_releases(who.base)) == 1 + 2 * number
    assert [str(channel.version) for channel in list_channels(who.base)] == [f"1.{number}.0"]
    collect(who.base, older_than=timedelta(0), now=NOW + 9999 * DAY, remove=True)
    assert refreshed(who).needed == ()
    assert not sign_online(who.base, access=access, lifetimes=lifetimes, now=NOW).signed
    status = read_status(who.base, now=NOW, within=DAY)
    assert (status.validity, status.waiting, status.left_out) == (Validity.FINE, (), ())
    assert checked(who).problems == ()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_rotated_twice_and_every_command_works(workshop: Publisher, role: TufRole) -> None:
    for number in (1, 2):
        before = {key.keyid for key in workshop.access.keyring.role(role).keys}
        workshop = with_rotated(workshop, role)
        told = refreshed(workshop)
        assert any(line.startswith(f"{role.value}: the key") for line in told.changes)
        assert told.needed == ()
        assert checked(workshop).problems == ()
        every_command_works(workshop, number)
        for keyid in before:
            revoke(workshop.access.keyring.folder, keyid)
        workshop = reloaded(workshop)
        assert refreshed(workshop).changes == ()
    assert checked(workshop).problems == ()


def test_all_roles_are_rotated_at_once_and_old_copies_of_the_keys_follow(workshop: Publisher) -> None:
    pipeline = workshop.without_keys("root", "targets", "channels", "snapshot", "timestamp")
    everybody = workshop
    for _ in range(3):
        for role in ROLES:
            everybody = with_rotated(everybody, role)
        assert len(refreshed(everybody).changes) == 2 * len(ROLES)
    assert load_state(Layout(everybody.base), None).root.signed.version == 4
    assert checked(everybody).problems == ()
    # Somebody with the keys folder of before finds the root, and cannot sign any more.
    with pytest.raises(RefusedError, match="releases"):
        pipeline.publish("3.0.0", seed=9)
    every_command_works(everybody, 1)


@pytest.mark.parametrize("role", [TufRole.TIMESTAMP, TufRole.SNAPSHOT])
def test_the_online_signer_cannot_exchange_its_keys_alone(workshop: Publisher, role: TufRole) -> None:
    """Its new key signs along; the root that names it needs the root's keys."""
    host = workshop.without_keys(*OFFLINE)
    host = with_rotated(host, role)
    told = refreshed(host)
    assert told.changes == ()
    assert any("2.root.json: 1 of root-1.pem" in line for line in told.needed)
    assert checked(host).problems == ()
    signed_by = load_state(Layout(host.base), None).documents()[role].metadata.signatures
    assert len(signed_by) == 2


def test_a_new_key_alone_is_an_error_before_anything_is_written(workshop: Publisher) -> None:
    host = workshop.without_keys(*OFFLINE)
    (old,) = (key.keyid for key in host.access.keyring.role(TufRole.TIMESTAMP).keys)
    host = with_rotated(host, TufRole.TIMESTAMP)
    revoke(host.access.keyring.folder, old)
    host = reloaded(host)
    before = snapshot_of(host.base)
    with pytest.raises(RefusedError, match="timestamp") as caught:
        refreshed(host)
    assert any("twinhull root sign-request" in hint for hint in caught.value.hints)
    assert snapshot_of(host.base) == before


def test_a_key_that_was_lost_is_replaced_without_it(workshop: Publisher) -> None:
    (old,) = workshop.access.keyring.role(TufRole.TIMESTAMP).keys
    Path(old.uri.removeprefix("file:")).unlink()
    workshop = with_rotated(workshop, TufRole.TIMESTAMP)
    revoke(workshop.access.keyring.folder, old.keyid)
    workshop = reloaded(workshop)
    assert refreshed(workshop).changes
    every_command_works(workshop, 1)


def test_an_older_keys_folder_takes_nothing_back(workshop: Publisher) -> None:
    old = workshop.without_keys("nothing")
    workshop = with_rotated(workshop, TufRole.RELEASES)
    refreshed(workshop)
    keys = load_state(Layout(workshop.base), None).targets.signed.get_delegated_role("releases").keyids
    told = refreshed(old)
    assert (told.changes, told.needed) == ((), ())
    assert "take keyring.yaml from whoever changed it last" in told.ignored[0]
    assert load_state(Layout(workshop.base), None).targets.signed.get_delegated_role("releases").keyids == keys
    assert checked(workshop).problems == ()


def test_older_online_keys_sign_nothing(workshop: Publisher) -> None:
    old = workshop.without_keys("nothing")
    workshop = with_rotated(workshop, TufRole.TIMESTAMP)
    refreshed(workshop)
    before = snapshot_of(workshop.base)
    with pytest.raises(RefusedError, match="timestamp"):
        refreshed(old)
    assert snapshot_of(workshop.base) == before


def test_keys_are_added_and_thresholds_raised_and_lowered_only_by_a_ceremony(workshop: Publisher) -> None:
    folder = workshop.access.keyring.folder
    add(folder, TufRole.RELEASES, NoPassphrase())
    set_threshold(folder, TufRole.RELEASES, 2)
    workshop = reloaded(workshop)
    assert "releases: 2 must sign instead of 1" in refreshed(workshop).changes
    every_command_works(workshop, 1)
    set_threshold(folder, TufRole.RELEASES, 1)
    workshop = reloaded(workshop)
    told = refreshed(workshop)
    assert told.changes == ()
    assert told.needed == ("releases: 1 must sign instead of 2", "a threshold becomes lower only by a ceremony")
    assert load_state(Layout(workshop.base), None).targets.signed.get_delegated_role("releases").threshold == 2


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_rotation_cut_short_leaves_a_repository_that_verifies_and_goes_on(
    workshop: Publisher, role: TufRole, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = with_rotated(workshop, role)
    with monkeypatch.context() as patched:
        patched.setattr(writer, "write_atomic", cut_at(number))
        try:
            refreshed(workshop)
        except KeyboardInterrupt:
            cut = True
        else:
            cut = False
    assert cut is (number <= written_by(role))
    assert checked(workshop).problems == ()
    refreshed(workshop)
    assert checked(workshop).problems == ()
    every_command_works(workshop, 1)


def written_by(role: TufRole) -> int:
    """How many documents a rotation writes."""
    documents = {TufRole.ROOT: 1, TufRole.TARGETS: 2, TufRole.RELEASES: 2, TufRole.CHANNELS: 2}
    return documents.get(role, 1) + 2


def cut_at(number: int) -> Callable[[Path, bytes], None]:
    """Dies instead of the write with this number."""
    left = [number]

    def write(path: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        write_atomic(path, data)

    return write
