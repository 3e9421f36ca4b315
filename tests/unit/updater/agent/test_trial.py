"""What happens to a slot that is not proven yet: blessed, left, demoted, remembered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from partitions.entries import BootEntry
from partitions.version import Version
from tests.fakes.loader import selected
from tests.unit.updater.agent.test_plan import entry, facts, v
from updater.agent import trial
from updater.agent.state import Attempt, EventKind, Hints, HostFacts
from updater.agent.trial import Standing, TrialVerdict
from updater.documents.channel import Instant

AT = Instant(datetime(2026, 3, 1, tzinfo=UTC))


def boot(host: HostFacts, hints: Hints, boot_id: str = "b1") -> TrialVerdict:
    return trial.at_boot(host, hints, trial.Boot(boot_id, 3, AT))


def after(host: HostFacts, verdict: TrialVerdict) -> tuple[BootEntry, ...]:
    """The entries once the verdict's renames are made."""
    entries = list(host.entries)
    for rename in verdict.renames:
        entries[entries.index(rename.old)] = rename.new
    return tuple(entries)


TRIAL = facts("1.1", entry("1.0"), entry("1.1", 2, 1), other="1.0")
LAST_TRY = facts("1.1", entry("1.0"), entry("1.1", 0, 3), other="1.0")
BACK = facts("1.0", entry("1.0"), entry("1.1", 0, 3), other="1.1")


def test_a_trial_boot_is_counted_once() -> None:
    counted = boot(TRIAL, Hints())
    assert counted.hints.attempt(v("1.1")) == Attempt(v("1.1"), 1, "b1")
    assert boot(TRIAL, counted.hints) == TrialVerdict(counted.hints)
    assert boot(TRIAL, counted.hints, "b2").hints.attempt(v("1.1")).boots == 2


def test_a_trial_whose_counter_the_firmware_never_writes_ends_after_its_tries() -> None:
    stuck = facts("1.1", entry("1.0"), entry("1.1", 3, 0), other="1.0")
    hints = Hints()
    for number in range(1, 9):
        verdict = boot(stuck, hints, f"b{number}")
        assert not verdict.reboot
        hints = verdict.hints
    verdict = boot(stuck, hints, "b9")
    assert verdict.reboot
    failed = trial.unhealthy(stuck, hints, failure="x", now=AT).hints
    assert boot(stuck, failed, "b9").reboot
    chosen = selected(after(stuck, verdict))
    assert chosen is not None
    assert chosen.version == v("1.0")
    assert verdict.hints.bad_version(v("1.1")) is not None


def test_a_trial_with_nothing_to_return_to_is_not_left() -> None:
    alone = facts("1.1", entry("1.1", 3, 0))
    hints = Hints().with_attempt(Attempt(v("1.1"), 7))
    assert boot(alone, hints) == replace(boot(alone, hints), renames=(), reboot=False)
    assert not trial.unhealthy(alone, hints, failure="x", now=AT).reboot
    assert not trial.give_up(alone, hints, reason="x", now=AT).reboot


def test_an_unhealthy_trial_reboots_and_its_reason_is_kept() -> None:
    verdict = trial.unhealthy(TRIAL, Hints(), failure="unit web.service failed", now=AT)
    assert verdict.reboot
    assert not verdict.renames
    back = boot(BACK, verdict.hints)
    bad = back.hints.bad_version(v("1.1"))
    assert bad is not None
    assert bad.reason == "unit web.service failed"
    assert back.hints.history[-1].kind is EventKind.FELL_BACK


def test_an_unhealthy_last_try_reboots_too() -> None:
    assert trial.unhealthy(LAST_TRY, Hints(), failure="x", now=AT).reboot


def test_an_unhealthy_blessed_slot_never_reboots() -> None:
    verdict = trial.unhealthy(facts("1.0", entry("1.0"), entry("0.9"), other="0.9"), Hints(), failure="x", now=AT)
    assert not verdict.reboot
    assert verdict.hints.history[-1].kind is EventKind.UNHEALTHY


def test_a_version_that_never_reached_its_checks_is_bad_with_that_reason() -> None:
    assert not boot(BACK, Hints()).hints.bad
    last = facts("1.0", entry("1.0"), entry("1.1", 0, 6), other="1.1")
    bad = boot(last, Hints()).hints.bad_version(v("1.1"))
    assert bad is not None
    assert bad.reason == trial.NOT_REACHED


def test_tries_that_nothing_is_known_of_are_given_again() -> None:
    verdict = boot(BACK, Hints().with_attempt(Attempt(v("1.1"), 3, "b0")))
    assert [rename.new.file_name for rename in verdict.renames] == ["host_1.1+3-3.efi"]
    assert verdict.hints.history[-1].kind is EventKind.UNJUDGED
    assert not verdict.hints.bad


def test_what_an_initrd_left_behind_condemns_a_trial() -> None:
    seen = trial.at_boot(BACK, Hints(), trial.Boot("b1", 3, AT, ("the initrd: no disk holds the slot",)))
    bad = seen.hints.bad_version(v("1.1"))
    assert bad is not None
    assert bad.evidence == ("the initrd: no disk holds the slot",)
    assert bad.reason == "the initrd: no disk holds the slot"
    assert not seen.renames


def test_a_bad_version_keeps_its_first_reason() -> None:
    hints = Hints().with_bad(v("1.1"), "first", AT)
    verdict = boot(BACK, hints)
    assert verdict.hints == hints


def test_a_staged_version_that_was_not_booted_yet_is_not_bad() -> None:
    staged = facts("1.0", entry("1.0"), entry("1.1", 3, 0), other="1.1")
    assert not boot(staged, Hints()).hints.bad


def test_a_trial_entry_that_vanished_in_the_firmware_is_bad() -> None:
    gone = facts("1.0", entry("1.0"), other="1.1")
    hints = Hints().with_attempt(Attempt(v("1.1"), 1, "b0"))
    assert boot(gone, hints).hints.bad_version(v("1.1")) is not None


def test_a_running_trial_whose_own_entry_vanished_is_not_called_bad() -> None:
    gone = facts("1.1", entry("1.0"), other="1.0")
    hints = Hints().with_attempt(Attempt(v("1.1"), 1, "b0"))
    assert trial.standing(gone, hints) is Standing.UNKNOWN
    assert not boot(gone, hints).hints.bad


def test_a_one_shot_downgrade_that_came_back_failed_is_bad_and_else_gets_its_other_tries() -> None:
    back = facts("1.1", entry("1.1"), entry("1.0", 2, 1), other="1.0")
    assert not boot(back, Hints(wish=v("1.0"))).hints.bad
    verdict = boot(back, Hints(wish=v("1.0")).with_attempt(Attempt(v("1.0"), 1, failure="x")))
    assert verdict.hints.bad_version(v("1.0")) is not None
    assert verdict.hints.wish is None


def test_a_healthy_trial_is_guarded_while_the_older_one_is_there_and_else_not_counted() -> None:
    alone = facts("1.1", entry("1.1", 2, 1))
    assert [r.new.file_name for r in trial.bless(alone, Hints(), now=AT).renames] == ["host_1.1.efi"]
    verdict = trial.bless(TRIAL, Hints().with_attempt(Attempt(v("1.1"), 2, failure="x")), now=AT)
    assert [(r.old.file_name, r.new.file_name) for r in verdict.renames] == [("host_1.1+2-1.efi", "host_1.1+3-6.efi")]
    assert verdict.hints.newest_blessed == v("1.1")
    assert not verdict.hints.attempts


def test_blessing_a_retried_version_clears_its_record() -> None:
    assert not trial.bless(TRIAL, Hints().with_bad(v("1.1"), "x", AT), now=AT).hints.bad


def test_blessing_twice_changes_nothing() -> None:
    done = facts("1.1", entry("1.0"), entry("1.1", 3, 6), other="1.0")
    first = trial.bless(done, Hints(), now=AT)
    assert not first.renames
    assert trial.bless(done, first.hints, now=AT) == first


def test_a_wanted_downgrade_is_blessed_first_and_the_newer_one_demoted_after() -> None:
    older = facts("1.0", entry("1.1"), entry("1.0", 2, 1), other="1.1")
    verdict = trial.bless(older, Hints(wish=v("1.0"), newest_blessed=v("1.1")), now=AT)
    assert [r.new.file_name for r in verdict.renames] == ["host_1.0.efi", "host_1.1+0-0.efi"]
    chosen = selected(after(older, verdict))
    assert chosen is not None
    assert chosen.version == v("1.0")
    assert verdict.hints.newest_blessed == v("1.1")
    assert verdict.hints.wish is None
    assert verdict.hints.bad_version(v("1.1")) is not None


def test_a_rollback_to_a_blessed_slot_demotes_the_newer_one_only_by_wish() -> None:
    older = facts("1.0", entry("1.1"), entry("1.0"), other="1.1")
    assert not trial.bless(older, Hints(), now=AT).renames
    wished = trial.bless(older, Hints(wish=v("1.0")), now=AT)
    assert [r.new.file_name for r in wished.renames] == ["host_1.1+0-0.efi"]


def test_an_unhealthy_rollback_returns_to_the_newer_version() -> None:
    older = facts("1.0", entry("1.1"), entry("1.0"), other="1.1")
    assert trial.unhealthy(older, Hints(wish=v("1.0")), failure="x", now=AT).reboot


def test_a_demoted_version_is_not_taken_for_a_failed_one() -> None:
    demoted = facts("1.0", entry("1.0"), entry("1.1", 0, 0), other="1.1")
    assert not boot(demoted, Hints()).hints.bad


@pytest.mark.parametrize("done", [0, 1, 9])
def test_an_entry_marked_bad_has_done_at_least_one_try(done: int) -> None:
    marked = trial.marked_bad(entry("1.1", 3, 0), done)
    assert marked.exhausted
    assert marked.tries_done is not None
    assert 1 <= marked.tries_done <= 9


def test_the_only_blessed_entry_is_never_renamed() -> None:
    for host in (TRIAL, LAST_TRY, BACK, facts("1.0", entry("1.0"))):
        for verdict in (
            boot(host, Hints(wish=v("1.0"))),
            trial.bless(host, Hints(wish=v("1.0")), now=AT),
            trial.give_up(host, Hints(), reason="x", now=AT),
        ):
            assert any(one.blessed for one in after(host, verdict))
            assert not [r for r in verdict.renames if r.old.blessed]


def test_the_history_keeps_the_last_lines_only() -> None:
    hints = Hints()
    for number in range(300):
        hints = hints.with_event(EventKind.BOOTED, str(number), AT, Version.from_text("1"))
    assert len(hints.history) == 200
    assert hints.history[-1].text == "299"
