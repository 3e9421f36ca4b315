"""Whole stories of a host: update, bless, fall back, go back, pin, hold; through the real loader's rules."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import pytest

from bedrock.progress import Silent
from keys.secureboot.siglist import BootVariable, hash_list
from tests.fakes.documents import document_sha256
from tests.fakes.memory_disk import PowerCut
from tests.fakes.story import RELEASES, Story, v
from tests.fakes.twin_host import MemorySource, TwinHost
from updater.agent import trial
from updater.agent.agent import Agent
from updater.agent.config import Config
from updater.agent.plan import Update, UpdateOptions, Why
from updater.agent.state import EventKind, Pin, SlotState
from updater.agent.trial import MOST_POSTPONED, NOT_TAKEN
from updater.documents.release import Artifact
from updater.errors import (
    FetchError,
    PolicyError,
    RefusedError,
    SlotError,
    UpdaterError,
)


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


def test_a_postponed_trial_is_left_by_force_when_nobody_reboots(story: Story) -> None:
    story.update()
    assert story.start() == "1.0.1"
    story.machine.reboot_errors = [UpdaterError("an inhibitor")]
    assert story.agent.postpone("the server does not answer").reboot
    assert story.machine.reboots == [True]
