"""Whole stories of a host: update, bless, fall back, go back, pin, hold; through the real loader's rules."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bedrock.errors import TwinhullError
from bedrock.progress import Silent
from keys.secureboot.siglist import BootVariable, hash_list
from partitions.version import Version
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, document_sha256, reference_to
from tests.fakes.machine import FakeMachine, FakeServer
from tests.fakes.memory_disk import PowerCut
from tests.fakes.twin_host import MemorySource, TwinHost, built
from updater.agent import trial
from updater.agent.agent import PATIENCE_S, Agent, UpdateOutcome
from updater.agent.config import Config
from updater.agent.plan import Nothing, Update, UpdateOptions, Why
from updater.agent.state import EventKind, Hints, Pin, PollResult, SlotState
from updater.agent.store import HintStore
from updater.agent.trial import MOST_POSTPONED, NOT_TAKEN
from updater.documents.channel import Instant
from updater.documents.release import Artifact
from updater.errors import (
    BusyError,
    FetchError,
    NetworkSideError,
    NoSpaceError,
    PolicyError,
    RefusedError,
    SlotError,
    UpdaterError,
)

RELEASES = {text: built(text) for text in ("1.0.0", "1.0.1", "1.0.2")}


def v(text: str) -> Version:
    return Version.from_text(text)


@dataclass
class Story:
    machine: FakeMachine
    server: FakeServer
    agent: Agent

    def update(self, **options: Any) -> UpdateOutcome:
        return self.agent.update(UpdateOptions(**options), Silent())

    def why(self, **options: bool) -> Why:
        plan = self.update(**options).plan
        assert isinstance(plan, Nothing), plan
        return plan.why

    def start(self) -> str:
        """Boot and let twinhull-boot.service do its work."""
        version = self.machine.power_cycle()
        if version is None:
            return "dead"
        self.agent.book_boot()
        return str(version)

    def healthy(self) -> None:
        self.agent.bless()

    def update_to(self, version: str) -> None:
        self.server.point_to(version)
        assert isinstance(self.update().plan, Update)
        assert self.start() == version
        self.healthy()


@pytest.fixture
def story(tmp_path: Path) -> Story:
    host = TwinHost(RELEASES["1.0.0"])
    for one in RELEASES.values():
        host.know(one)
    machine = FakeMachine(host)
    channel = channel_at(reference_to(RELEASES["1.0.1"].release), Instant(START))
    server = FakeServer(channel, dict(RELEASES))
    config = Config(url="http://server", channel="stable")
    agent = Agent(machine, config, HintStore(tmp_path / "lib" / "state.json"), tmp_path / "run" / "lock", server)
    return Story(machine, server, agent)


def test_two_updates_go_from_a_to_b_and_back_to_a(story: Story) -> None:
    assert story.agent.facts().slot.value == "a"
    story.update_to("1.0.1")
    assert story.agent.facts().slot.value == "b"
    assert story.machine.entry_names() == ("host_1.0.0.efi", "host_1.0.1+3-6.efi")
    story.update_to("1.0.2")
    assert story.agent.facts().slot.value == "a"
    assert story.machine.entry_names() == ("host_1.0.1.efi", "host_1.0.2+3-6.efi")
    assert story.agent.hints().newest_blessed == v("1.0.2")


def test_attachments_are_left_where_they_are(story: Story) -> None:
    plain = RELEASES["1.0.1"]
    # No object carries it: an agent that needed it could not update.
    nowhere = {"sbom": Artifact("00" * 32, 1 << 40), "poem": Artifact("11" * 32, 1)}
    story.server.releases["1.0.1"] = replace(plain, release=replace(plain.release, attachments=nowhere))
    story.update_to("1.0.1")


def test_an_unhealthy_version_falls_back_by_itself_and_is_not_tried_again(story: Story) -> None:
    story.update_to("1.0.1")
    story.server.point_to("1.0.2")
    story.update()
    for _ in range(3):
        assert story.start() == "1.0.2"
        assert story.agent.unhealthy("unit web.service: it is failed", force=False).reboot
    assert story.start() == "1.0.1"
    bad = story.agent.hints().bad_version(v("1.0.2"))
    assert bad is not None
    assert bad.reason == "unit web.service: it is failed"
    asked = list(story.server.asked)
    assert story.why() is Why.KNOWN_BAD
    assert "1.0.2" not in story.server.asked[len(asked) :]
    assert isinstance(story.update(retry=True).plan, Update)
    assert story.start() == "1.0.2"


def test_a_version_that_dies_without_a_trace_gets_its_tries_once_more_and_is_bad_then(story: Story) -> None:
    story.update()
    story.machine.host.dying.add("1.0.1")
    rounds = [story.start() for _ in range(4)], [story.start() for _ in range(4)]
    assert rounds == (["dead", "dead", "dead", "1.0.0"],) * 2
    bad = story.agent.hints().bad_version(v("1.0.1"))
    assert bad is not None
    assert bad.reason == trial.NOT_REACHED
    assert story.machine.entry_names() == ("host_1.0.0.efi", "host_1.0.1+0-6.efi")
    assert story.why() is Why.KNOWN_BAD


def test_a_slot_that_was_damaged_after_it_was_written_is_written_again_and_its_version_not_bad(story: Story) -> None:
    story.update()
    where = story.machine.host.map().b.data
    story.machine.host.disk.corrupt(where.offset_bytes + 77)
    assert [story.start() for _ in range(4)] == ["dead", "dead", "dead", "1.0.0"]
    assert story.agent.hints().bad == ()
    assert story.agent.facts().inactive_state is SlotState.UNFINISHED
    assert isinstance(story.update().plan, Update)
    assert story.start() == "1.0.1"


def test_nothing_is_updated_while_the_running_slot_is_unblessed(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    story.server.point_to("1.0.2")
    story.machine.host.disk.journal.clear()
    assert story.why(by_hand=True, retry=True, allow_downgrade=True) is Why.UNBLESSED
    assert not story.machine.host.disk.journal


def lose_state(story: Story) -> None:
    """Remove the state file and its second copy."""
    for path in (story.agent.store.path, story.agent.store.second):
        path.unlink(missing_ok=True)


def test_state_lost_during_a_trial_changes_nothing_that_matters(story: Story) -> None:
    story.update_to("1.0.1")
    story.server.point_to("1.0.2")
    story.update()
    for _ in range(2):
        for _ in range(3):
            assert story.start() == "1.0.2"
            lose_state(story)
        assert story.start() == "1.0.1"
    assert story.why() is Why.KNOWN_BAD
    story.server.point_to("1.0.0")
    assert story.why() is Why.OLDER


def test_an_unreadable_state_file_is_set_aside(story: Story) -> None:
    story.update_to("1.0.1")
    story.agent.store.path.write_bytes(b"\0" * 100)
    assert story.why() is Why.UP_TO_DATE
    assert story.agent.store.path.with_name("state.json.broken").exists()
    story.agent.hold("look")
    kinds = [event.kind for event in story.agent.hints().history]
    assert kinds == [EventKind.REBUILT, EventKind.HELD]


@pytest.mark.parametrize("counter_in_id", [False, True])
def test_a_downgrade_needs_to_be_asked_for_and_boots_once_before_it_is_proven(
    story: Story, *, counter_in_id: bool
) -> None:
    story.machine.host.counter_in_id = counter_in_id
    story.update_to("1.0.1")
    story.server.point_to("1.0.0")
    assert story.why() is Why.OLDER
    assert isinstance(story.update(allow_downgrade=True).plan, Update)
    assert story.start() == "1.0.0"
    story.healthy()
    assert story.machine.entry_names() == ("host_1.0.0.efi", "host_1.0.1+0-0.efi")
    assert story.start() == "1.0.0"


def test_an_unhealthy_downgrade_returns_to_the_newer_version(story: Story) -> None:
    story.update_to("1.0.1")
    story.agent.pin(v("1.0.0"))
    story.update()
    assert story.start() == "1.0.0"
    assert story.agent.unhealthy("podman", force=False).reboot
    assert story.start() == "1.0.1"
    assert story.why() is Why.KNOWN_BAD


def test_a_staged_downgrade_is_chosen_again_at_reboot(story: Story) -> None:
    story.update_to("1.0.1")
    story.agent.pin(v("1.0.0"))
    story.update()
    story.machine.one_shot = None
    story.agent.reboot()
    assert story.start() == "1.0.0"


def test_a_rollback_goes_to_the_other_slot_and_stays_there(story: Story) -> None:
    story.update_to("1.0.1")
    assert story.agent.rollback() == v("1.0.0")
    assert story.why() is Why.GOING_BACK
    assert story.start() == "1.0.0"
    assert story.why() is Why.GOING_BACK
    story.healthy()
    assert story.start() == "1.0.0"
    assert story.why() is Why.KNOWN_BAD
    story.server.point_to("1.0.2")
    assert isinstance(story.update().plan, Update)


def test_a_rollback_that_is_not_healthy_returns(story: Story) -> None:
    story.update_to("1.0.1")
    story.agent.rollback()
    assert story.start() == "1.0.0"
    assert story.agent.unhealthy("podman", force=False).reboot
    assert story.start() == "1.0.1"
    assert story.agent.hints().wish is None
    assert story.why() is Why.UP_TO_DATE


def test_a_rollback_of_a_trial_gives_it_up_at_once(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    assert story.agent.rollback() == v("1.0.0")
    assert story.start() == "1.0.0"
    assert story.why() is Why.KNOWN_BAD


def test_a_rollback_with_nothing_to_go_back_to_is_refused(story: Story) -> None:
    with pytest.raises(PolicyError, match="slot b is empty; there is nothing to go back to") as caught:
        story.agent.rollback()
    assert "updater pin" in caught.value.hints[0]


def test_a_rollback_to_a_staged_or_a_failed_version_is_refused_and_changes_nothing(story: Story) -> None:
    story.update()
    with pytest.raises(PolicyError, match="slot b is staged"):
        story.agent.rollback()
    assert story.start() == "1.0.1"
    story.agent.rollback()
    assert story.start() == "1.0.0"
    with pytest.raises(PolicyError, match="slot b is bad"):
        story.agent.rollback()
    assert story.machine.one_shot is None
    assert story.agent.hints().wish is None


def test_a_rollback_the_firmware_does_not_take_leaves_no_wish_behind(
    story: Story,
) -> None:
    story.update_to("1.0.1")
    story.machine.one_shot_error = SlotError("the firmware does not take it")
    with pytest.raises(SlotError):
        story.agent.rollback()
    story.server.point_to("1.0.2")
    assert isinstance(story.update().plan, Update)


def test_a_staged_version_the_loader_never_starts_ends_as_bad(story: Story) -> None:
    story.update_to("1.0.1")
    story.agent.pin(v("1.0.0"))
    story.update()
    for _ in range(3):
        assert story.why() is Why.STAGED
        story.agent.reboot()
        story.machine.one_shot = None
        assert story.start() == "1.0.1"
    assert story.why() is Why.KNOWN_BAD
    bad = story.agent.hints().bad_version(v("1.0.0"))
    assert bad is not None
    assert bad.reason == NOT_TAKEN


def test_an_update_from_an_unblessed_slot_is_refused_before_the_server_is_asked(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    story.server.asked.clear()
    assert story.why() is Why.UNBLESSED
    assert not story.server.asked


def test_a_release_of_another_image_is_refused_before_anything_is_written(story: Story) -> None:
    one = RELEASES["1.0.1"]
    story.server.releases["1.0.1"] = replace(one, release=replace(one.release, image="other"))
    story.server.point_to("1.0.1")
    story.machine.host.disk.journal.clear()
    with pytest.raises(PolicyError, match="image other"):
        story.update()
    assert not story.machine.host.disk.journal


def test_a_release_that_was_changed_after_it_was_promoted_is_refused_before_anything_is_written(story: Story) -> None:
    one = RELEASES["1.0.1"]
    story.server.releases["1.0.1"] = replace(one, release=replace(one.release, root_hash="cd" * 32))
    story.machine.host.disk.journal.clear()
    with pytest.raises(RefusedError, match="chosen"):
        story.update()
    assert not story.machine.host.disk.journal
    kinds = [event.kind for event in story.agent.hints().history]
    assert kinds[-2:] == [EventKind.FAILED, EventKind.POLL_REFUSED]


def test_a_pin_keeps_to_the_bytes_it_was_first_seen_with(story: Story) -> None:
    pinned = RELEASES["1.0.2"]
    story.agent.pin(v("1.0.2"))
    assert story.agent.hints().pin == Pin(v("1.0.2"), None)
    assert isinstance(story.update().plan, Update)
    assert story.agent.hints().pin == Pin(v("1.0.2"), document_sha256(pinned.release))
    # It fails here; when it is tried again by hand, its name stands for something else.
    story.server.releases["1.0.2"] = replace(pinned, release=replace(pinned.release, root_hash="cd" * 32))
    for _ in range(3):
        assert story.start() == "1.0.2"
        story.agent.unhealthy("sick", force=False)
    assert story.start() == "1.0.0"
    with pytest.raises(RefusedError, match="chosen"):
        story.update(retry=True)


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


def polls(story: Story) -> list[tuple[str, str]]:
    return [(e.kind.value, e.text) for e in story.agent.hints().history if e.kind.value.startswith("poll")]


def test_a_poll_is_remembered_and_told_when_its_result_changes(story: Story) -> None:
    story.server.point_to("1.0.0")
    assert story.why() is Why.UP_TO_DATE
    assert polls(story) == []
    story.server.error = RefusedError("timestamp.json expired at 2026-01-01T00:00:00Z")
    began = story.machine.clock.now()
    for _ in range(3):
        with pytest.raises(RefusedError):
            story.update()
        story.machine.clock.sleep(1800.0)
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.since) == (PollResult.REFUSED, Instant.of(began))
    assert "refused since 2026-03-01T12:00:00Z: timestamp.json expired" in str(poll)
    story.server.error = FetchError("http://server: nobody answers")
    with pytest.raises(FetchError):
        story.agent.check(UpdateOptions())
    story.server.error = None
    assert story.why() is Why.UP_TO_DATE
    assert polls(story) == [
        ("poll-refused", "timestamp.json expired at 2026-01-01T00:00:00Z"),
        ("poll-failed", "http://server: nobody answers"),
        ("poll-recovered", "the update server answers"),
    ]


def test_what_a_person_should_know_of_a_good_poll_is_told_once(story: Story) -> None:
    story.server.point_to("1.0.0")
    story.server.remarks = ("the server shows older metadata",)
    for _ in range(3):
        story.why()
    assert polls(story) == [("poll-remark", "the server shows older metadata")]


def test_another_place_of_the_repository_is_asked_when_the_first_does_not_answer_or_is_refused(story: Story) -> None:
    for error in (FetchError("away"), RefusedError("expired")):
        story.server.turn, story.server.error = 0, error
        story.server.errors_of_others = (FetchError("away, too"), None)
        assert isinstance(story.agent.check(UpdateOptions()), Update)
        assert story.server.turn == 2


def test_a_place_that_shows_nothing_new_does_not_keep_news_from_a_host(story: Story) -> None:
    story.server.errors_of_others = (FetchError("away"), None, None)
    story.server.stale = frozenset({0})
    assert isinstance(story.agent.check(UpdateOptions()), Update)
    assert story.server.turn == 2


def test_where_nothing_is_new_the_first_place_that_answers_will_do(story: Story) -> None:
    story.server.errors_of_others = (None, FetchError("away"))
    story.server.stale = frozenset({0, 1})
    assert isinstance(story.agent.check(UpdateOptions()), Update)
    assert (story.server.turn, story.server.asked) == (0, ["refresh"] * 4)


def test_a_single_place_is_asked_once(story: Story) -> None:
    story.server.stale = frozenset({0})
    assert isinstance(story.agent.check(UpdateOptions()), Update)
    assert story.server.asked == ["refresh"]


def test_when_no_place_answers_the_first_ones_error_is_told(story: Story) -> None:
    story.server.error = RefusedError("expired")
    story.server.errors_of_others = (FetchError("away"),)
    with pytest.raises(RefusedError, match="expired"):
        story.update()
    assert story.server.closed == 1


DOCUMENTS = ("channel", "release", "boot_trust")


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("error", [FetchError("404"), RefusedError("garbage")])
def test_a_place_that_garbles_a_document_does_not_keep_it_from_a_host(
    story: Story, document: str, error: TwinhullError
) -> None:
    story.server.errors_of_others = (None,)
    story.server.garbled = {(0, document): error}
    assert isinstance(story.update().plan, Update)
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.reason) == (PollResult.OK, "")
    assert story.server.closed == 2


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_that_no_place_has_is_the_result_of_the_poll(story: Story, document: str) -> None:
    story.server.errors_of_others = (None, FetchError("away"))
    story.server.garbled = {(0, document): RefusedError("garbage"), (1, document): FetchError("404")}
    with suppress(RefusedError):
        assert isinstance(story.update().plan, Update)
        # What the firmware may start stops no update.
        assert document == "boot_trust"
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.reason) == (PollResult.REFUSED, "garbage")
    assert polls(story) == [("poll-refused", "garbage")]
    assert len(story.server.asked) <= 2 * story.server.places + 2


def test_a_document_that_a_failing_network_side_does_not_bring_is_a_poll_that_failed(story: Story) -> None:
    story.server.garbled = {(0, "channel"): NetworkSideError("no socket")}
    with pytest.raises(NetworkSideError):
        story.update()
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.reason) == (PollResult.FAILED, "no socket")


def test_what_goes_wrong_on_the_host_itself_does_not_make_a_poll_bad(story: Story) -> None:
    one = RELEASES["1.0.1"]
    story.server.transfer = MemorySource(one, break_at={one.release.artifacts.root.sha256: 0})
    with pytest.raises(FetchError):
        story.update()
    poll = story.agent.hints().poll
    assert poll is not None
    assert poll.result is PollResult.OK


def test_a_trial_that_cannot_be_judged_is_left_and_installed_again_a_bounded_number_of_times(story: Story) -> None:
    for _ in range(MOST_POSTPONED - 1):
        assert isinstance(story.update().plan, Update)
        assert story.start() == "1.0.1"
        assert story.agent.postpone("the server does not answer").reboot
        assert story.start() == "1.0.0"
        assert story.agent.hints().bad == ()
    assert isinstance(story.update().plan, Update)
    assert story.start() == "1.0.1"
    assert story.agent.postpone("the server does not answer").reboot
    assert story.start() == "1.0.0"
    assert story.why() is Why.KNOWN_BAD
    bad = story.agent.hints().bad_version(v("1.0.1"))
    assert bad is not None
    assert f"could not be judged in {MOST_POSTPONED} trials" in bad.reason


def test_an_unreachable_server_never_costs_a_version_its_tries(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    story.agent.postpone("the server does not answer")
    assert story.start() == "1.0.0"
    story.update()
    # All of its tries, as the first time.
    assert "host_1.0.1+3-0.efi" in story.machine.entry_names()
    assert story.start() == "1.0.1"
    story.healthy()
    assert story.agent.facts().blessed
    assert story.agent.hints().attempts == ()


def test_a_judgement_waits_for_a_bounded_time_and_in_this_boot_only(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    assert not story.agent.is_waiting()
    story.agent.wait(seconds=600.0)
    assert story.agent.is_waiting()
    story.machine.clock.sleep(599.0)
    assert story.agent.is_waiting()
    story.machine.clock.sleep(2.0)
    assert not story.agent.is_waiting()
    story.agent.wait(seconds=600.0)
    assert story.start() == "1.0.1"
    assert not story.agent.is_waiting()


def test_a_failed_update_is_in_the_history_and_the_next_one_works(story: Story) -> None:
    artifact = RELEASES["1.0.1"].release.artifacts.root
    story.server.transfer = MemorySource(RELEASES["1.0.1"], break_at={artifact.sha256: 5000})
    with pytest.raises(FetchError):
        story.update()
    assert story.agent.hints().history[-1].kind is EventKind.FAILED
    story.server.transfer = None
    story.update()
    assert story.start() == "1.0.1"


def test_checking_changes_nothing(story: Story) -> None:
    story.machine.host.disk.journal.clear()
    assert isinstance(story.agent.check(UpdateOptions()), Update)
    assert not story.machine.host.disk.journal
    assert not story.machine.boot.writable_mounts


def test_looking_mounts_nothing_writable(story: Story) -> None:
    story.agent.facts()
    story.agent.book_boot()
    assert not story.machine.boot.writable_mounts


def test_without_a_server_or_channel_an_update_says_what_to_set(story: Story) -> None:
    bare = Agent(story.machine, Config(), story.agent.store, story.agent.lock_path, None)
    with pytest.raises(UpdaterError) as caught:
        bare.update(UpdateOptions(), Silent())
    assert "url" in caught.value.hints[0]
    bare = Agent(story.machine, Config(), story.agent.store, story.agent.lock_path, story.server)
    with pytest.raises(UpdaterError) as caught:
        bare.update(UpdateOptions(), Silent())
    assert "channel" in caught.value.hints[0]


@pytest.mark.parametrize("keep", [False, True])
def test_a_cut_while_blessing_a_downgrade_always_leaves_something_proven(story: Story, *, keep: bool) -> None:
    machine = story.machine
    for steps in itertools.count():
        host = TwinHost(RELEASES["1.0.0"])
        for one in RELEASES.values():
            host.know(one)
        machine.host, machine.one_shot = host, None
        lose_state(story)
        story.update_to("1.0.1")
        story.agent.pin(v("1.0.0"))
        story.update()
        assert story.start() == "1.0.0"
        host.power.cut_after(steps)
        try:
            story.healthy()
        except PowerCut:
            host.cut(keep=keep)
            host.power.restore()
        else:
            break
        assert any(entry.blessed for entry in host.entries())
        assert story.start() in ("1.0.0", "1.0.1")
    # Two names, what the second loader is told, and the spare on the ESP, which is exchanged before the second name.
    assert steps == 10


def test_what_the_firmware_would_not_start_is_not_chosen(story: Story) -> None:
    story.update_to("1.0.1")
    entry = next(name for name in story.machine.host.folder.names() if "1.0.0" in name)
    digest = story.machine.host.folder.authenticode(entry)
    assert digest is not None
    story.machine.firmware.contents[BootVariable.DBX] = hash_list([digest])
    before = story.machine.entry_names()
    with pytest.raises(PolicyError, match=r"1\.0\.0 is revoked"):
        story.agent.rollback()
    assert (story.machine.one_shot, story.machine.entry_names(), story.agent.hints().wish) == (None, before, None)


def test_a_release_that_was_revoked_here_never_becomes_bootable(story: Story) -> None:
    uki = RELEASES["1.0.1"].release.artifacts.uki
    digest = hashlib.sha256(RELEASES["1.0.1"].content(uki)).digest()
    story.machine.firmware.contents[BootVariable.DBX] = hash_list([digest])
    with pytest.raises(PolicyError, match=r"1\.0\.1 is revoked"):
        story.update()
    assert story.machine.entry_names() == ("host_1.0.0.efi",)


def test_the_boot_entries_can_be_read_while_a_slot_is_written(story: Story) -> None:
    story.update()
    # Once to remove what was there, once to write what comes; never for as long as the slot itself takes.
    assert story.machine.boot.writable_mounts == 2


def test_a_postponed_trial_is_left_by_force_when_nobody_reboots(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    story.machine.reboot_errors = [UpdaterError("an inhibitor")]
    assert story.agent.postpone("the server does not answer").reboot
    assert story.machine.reboots == [True]


def test_what_was_remarkable_about_a_place_that_failed_is_told_with_the_failure(story: Story) -> None:
    story.server.remarks = ("the server shows older metadata than this host has seen",)
    missing = "targets/channels/stable.json: the server answers 404"
    story.server.garbled = {(0, "channel"): FetchError(missing)}
    with pytest.raises(FetchError):
        story.agent.check(UpdateOptions())
    poll = story.agent.hints().poll
    assert poll is not None
    assert (poll.result, poll.reason) == (PollResult.FAILED, f"{missing}; {story.server.remarks[0]}")
