"""What happens at once: an update and other commands, a held lock, a full disk, room that is not there."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.story import RELEASES, Story, v
from tests.fakes.twin_host import MemorySource
from updater.agent.agent import PATIENCE_S
from updater.agent.plan import Update, Why
from updater.agent.state import Hints
from updater.agent.store import HintStore
from updater.documents.channel import Instant
from updater.errors import (
    BusyError,
    FetchError,
    NoSpaceError,
)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that holds this lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_blessing_waits_for_the_lock_within_bounds(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    with locked(story.agent.lock_path), pytest.raises(BusyError):
        story.healthy()
    assert sum(story.machine.clock.slept) == pytest.approx(PATIENCE_S)
    holder = locked(story.agent.lock_path)
    holder.__enter__()
    story.machine.clock.meanwhile = lambda: holder.__exit__(None, None, None)
    story.healthy()
    assert story.agent.facts().blessed


def test_a_trial_past_its_deadline_is_left_even_if_somebody_holds_the_lock(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    with locked(story.agent.lock_path):
        with pytest.raises(BusyError):
            story.agent.unhealthy("podman", force=False)
        assert story.agent.unhealthy("podman", force=True).reboot
    assert story.machine.reboots == [True]


class FullStore(HintStore):
    """Hints on a `/var` that takes nothing more."""

    def change(self, decide: Callable[[Hints], Hints], now: Instant) -> Hints:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_var_keeps_no_trial_from_ending(story: Story) -> None:
    story.update()
    story.agent = replace(story.agent, store=FullStore(story.agent.store.path))
    assert story.start() == "1.0.1"
    assert story.agent.unhealthy("disk full", force=False).reboot
    story.healthy()
    assert story.agent.facts().blessed
    with pytest.raises(OSError, match="No space"):
        story.agent.hold("an operator's wish is kept or refused")


def test_a_wish_made_while_blessing_is_not_lost(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    story.machine.host.folder.meanwhile = lambda: story.agent.hold("audit")
    story.healthy()
    assert story.agent.hints().hold is not None


def test_a_held_host_stays(story: Story) -> None:
    story.agent.hold("audit")
    assert story.why() is Why.HELD
    story.agent.release_hold()
    assert isinstance(story.update().plan, Update)


def test_the_second_update_at_once_is_told_that_it_is_busy(story: Story) -> None:
    with locked(story.agent.lock_path.with_name("update.lock")):
        with pytest.raises(BusyError) as caught:
            story.update()
        assert caught.value.exit_code == 1
        assert "wait for it" in caught.value.hints[0]
    assert not story.server.asked
    assert isinstance(story.update().plan, Update)


def test_an_update_waits_for_who_changes_boot_entries_within_bounds(story: Story) -> None:
    story.machine.host.disk.journal.clear()
    with locked(story.agent.lock_path), pytest.raises(BusyError):
        story.update()
    assert sum(story.machine.clock.slept) == pytest.approx(PATIENCE_S)
    assert not story.machine.host.disk.journal


def downloading(story: Story, meanwhile: Callable[[], object], version: str = "1.0.1") -> MemorySource:
    """What the next update downloads, and what happens while it does."""
    story.server.transfer = MemorySource(RELEASES[version], meanwhile=meanwhile)
    return story.server.transfer


def test_other_commands_answer_while_an_update_is_downloaded(story: Story) -> None:
    story.update_to("1.0.1")
    story.server.point_to("1.0.2")
    done: list[str] = []

    def all_of_them() -> None:
        waited = len(story.machine.clock.slept)
        story.agent.facts()
        story.agent.pin(v("1.0.2"))
        story.agent.hold("look")
        story.agent.release_hold()
        story.agent.book_boot()
        story.agent.bless()
        story.agent.unhealthy("web", force=False)
        story.agent.wait(seconds=1.0)
        with pytest.raises(BusyError):
            story.update()
        done.append(str(story.agent.rollback()))
        assert len(story.machine.clock.slept) == waited

    downloading(story, all_of_them, "1.0.2")
    # The rollback counts, and what was downloaded is not installed over it.
    assert story.why() is Why.GOING_BACK
    assert done == ["1.0.0"]
    assert story.start() == "1.0.0"


@pytest.mark.parametrize("sort", ["hold", "pin", "disk"])
def test_what_changed_while_an_update_was_downloaded_counts(story: Story, sort: str) -> None:
    story.update_to("1.0.1")
    story.server.point_to("1.0.2")
    folder = story.machine.host.folder
    changes: dict[str, Callable[[], object]] = {
        "hold": lambda: story.agent.hold("audit"),
        "pin": lambda: story.agent.pin(v("1.0.0")),
        "disk": lambda: folder.rename("host_1.0.1+3-6.efi", "host_1.0.1+2-1.efi"),
    }
    source = downloading(story, changes[sort], "1.0.2")
    story.machine.host.disk.journal.clear()
    folder.journal.clear()
    assert story.why() is {"hold": Why.HELD, "pin": Why.CHANGED, "disk": Why.UNBLESSED}[sort]
    assert source.prepared == 1
    assert source.transferred_bytes == 0
    assert not story.machine.host.disk.journal


def test_what_was_kept_is_removed_once_it_is_installed_and_not_before(story: Story) -> None:
    source = downloading(story, lambda: None)
    source.break_at = {RELEASES["1.0.1"].release.artifacts.verity.sha256: 5000}
    with pytest.raises(FetchError):
        story.update()
    assert source.cleared == 0
    source.break_at = {}
    story.update()
    assert source.cleared == 1


@pytest.mark.parametrize("which", ["uki", "root", "verity"])
def test_a_server_without_the_first_bytes_of_any_object_costs_nothing_of_the_other_slot(
    story: Story, which: str
) -> None:
    story.update_to("1.0.1")
    story.server.point_to("1.0.2")
    missing = getattr(RELEASES["1.0.2"].release.artifacts, which).sha256
    story.server.transfer = MemorySource(RELEASES["1.0.2"], break_at={missing: 0})
    host = story.machine.host
    host.disk.journal.clear()
    host.folder.journal.clear()
    for _ in range(3):
        with pytest.raises(FetchError):
            story.update()
    assert not host.disk.journal
    assert not host.folder.journal
    assert story.agent.rollback() == v("1.0.0")


def test_a_release_without_room_for_it_is_not_downloaded(story: Story) -> None:
    source = downloading(story, lambda: None)
    story.machine.host.folder.room = 1 << 20
    with pytest.raises(NoSpaceError, match="boot partition"):
        story.update()
    assert source.prepared == 0


def test_the_boot_entries_can_be_read_while_a_slot_is_written(story: Story) -> None:
    story.update()
    # Once to remove what was there, once to write what comes; never for as long as the slot itself takes.
    assert story.machine.boot.writable_mounts == 2


def test_looking_mounts_nothing_writable(story: Story) -> None:
    story.agent.facts()
    story.agent.book_boot()
    assert not story.machine.boot.writable_mounts
