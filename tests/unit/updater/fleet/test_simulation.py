"""Played fleets: the real engine breaks no limit, and the checks catch every engine that does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from updater.documents.channel import Instant
from updater.fleet.cli import fleet
from updater.fleet.engine import HostDecision, decide
from updater.fleet.halt import HaltPolicy
from updater.fleet.model import Admission, Host, Rollout, RolloutState, Stratum, Tally
from updater.fleet.policy import FleetPolicy, GroupPolicy, RolloutPolicy, SlotPolicy, Wave
from updater.fleet.rollouts import advance, open_wave
from updater.fleet.rules import View
from updater.fleet.schedule import FleetWindow, Freeze, TimeZone
from updater.fleet.simulation.report import document, lines
from updater.fleet.simulation.scenario import Played, PlayedEngine, Scenario
from updater.fleet.simulation.watch import Violation, ViolationWatch
from updater.fleet.simulation.world import play
from updater.fleet.slots import Granted, Held, SlotRequest, SlotTable, grant
from updater.week import WEEK, TimeOfDay

BEGINS = datetime(2026, 7, 1, 8, tzinfo=UTC)
CAP = 25


def policy() -> FleetPolicy:
    """Three groups in three zones of time, a freeze of an hour, and a cap of failures."""
    zones = ("Europe/Berlin", "America/New_York", "Asia/Tokyo")
    groups = {
        f"g{number}": GroupPolicy(
            SlotPolicy(6, most_per_zone=3, settle=5.0),
            (FleetWindow(TimeOfDay(2 + number, 30), 4 * 3600.0),),
            TimeZone.from_text(zone),
        )
        for number, zone in enumerate(zones)
    }
    waves = (Wave(0.01, soak=1800.0), Wave(0.1, soak=1800.0), Wave(0.5, soak=1800.0), Wave(1.0, soak=0.0))
    freeze = Freeze(Instant(BEGINS + timedelta(hours=17)), Instant(BEGINS + timedelta(hours=18)), "a match")
    return FleetPolicy(RolloutPolicy(waves, settled=0.5, halt=HaltPolicy(most_hosts=CAP)), groups, freezes=(freeze,))


SCENARIO = Scenario(policy(), hosts=1500, hours=48, begins=BEGINS)
ALL_BAD = replace(SCENARIO, failing=1.0)
AT_ONCE = replace(policy().rollouts, waves=(Wave(1.0, soak=0.0),), halt=HaltPolicy())
UNCAPPED = replace(ALL_BAD, policy=replace(policy(), rollouts=AT_ONCE))


@cache
def played(scenario_name: str) -> Played:
    return play(SCENARIO if scenario_name == "good" else ALL_BAD)


def test_a_good_release_reaches_the_fleet_and_breaks_nothing() -> None:
    found = played("good")
    assert found.violations == {}
    assert found.tally.healthy > 1000
    # The groups' windows lie apart; who went silent in one is still away in the next.
    assert 6 <= found.most_away <= 18
    assert found.rollout.wave == 3


def test_a_bad_release_is_halted_in_its_first_wave() -> None:
    found = played("bad")
    assert found.violations == {}
    assert found.rollout.state is RolloutState.HALTED
    assert found.rollout.wave == 0
    # 1 % of each stratum, and never more than those that were away when the second one failed.
    assert found.tally.failed <= 15 + 18
    assert "hosts failed" in found.rollout.why


@pytest.mark.parametrize("freeze_h", [0.5, 3.0])
def test_a_freeze_shows_nothing_of_a_release(freeze_h: float) -> None:
    freeze = Freeze(Instant(BEGINS), Instant(BEGINS + timedelta(hours=freeze_h)), "a match")
    groups = {"g": GroupPolicy(SlotPolicy(500))}
    frozen = FleetPolicy(policy().rollouts, groups, freezes=(freeze,))
    found = play(replace(SCENARIO, policy=replace(frozen, rollouts=RolloutPolicy()), failing=0.3, hours=24))
    assert found.rollout.state is RolloutState.HALTED
    assert found.tally.told < 200
    assert found.violations == {}


@pytest.mark.parametrize("silent", [1.0, 0.3])
def test_silence_halts_as_failures_do(silent: float) -> None:
    found = play(replace(SCENARIO, silent=silent, failing=0.0))
    assert found.rollout.state is RolloutState.HALTED
    assert found.violations == {}
    assert found.tally.silent >= 2


def test_the_same_seed_is_the_same_play_and_restarts_break_no_limit() -> None:
    assert play(SCENARIO) == played("good")
    assert play(replace(SCENARIO, seed=2)).tally != played("good").tally
    assert play(replace(SCENARIO, restarts=40)).violations == {}


GrantOutcome = tuple[SlotTable, Granted | Held]


def three_slots_more(table: SlotTable, asked: SlotRequest, slots: SlotPolicy, **more: Any) -> GrantOutcome:
    zone = None if slots.most_per_zone is None else slots.most_per_zone + 3
    return grant(table, asked, replace(slots, most=slots.most + 3, most_per_zone=zone), **more)


def twice_the_wave(*arguments: Any, **more: Any) -> Rollout:
    found = open_wave(*arguments, **more)
    doubled = {stratum: Admission(1.0, 2 * each.most) for stratum, each in found.admissions.items()}
    return replace(found, admissions=doubled)


def an_hour_longer(host: Host | None, view: View, now: datetime) -> HostDecision:
    windows = tuple(replace(each, length=each.length + 3600) for each in view.group.windows)
    return decide(host, replace(view, group=replace(view.group, windows=windows)), now)


def without_freezes(host: Host | None, view: View, now: datetime) -> HostDecision:
    return decide(host, replace(view, freezes=()), now)


def without_a_halt(rollout: Rollout, tally: Tally, now: datetime) -> tuple[Rollout, tuple[Any, ...]]:
    healthy = Tally(told=tally.told, healthy=tally.settled)
    return advance(rollout, healthy, now)


def without_waiting(rollout: Rollout, tally: Tally, now: datetime) -> tuple[Rollout, tuple[Any, ...]]:
    everybody = sum(each.most for each in rollout.admissions.values())
    return advance(rollout, replace(tally, told=everybody, healthy=everybody - tally.lost), now)


def the_same_number(*arguments: Any, **more: Any) -> GrantOutcome:
    table, found = grant(*arguments, **more)
    return table, Granted(1) if isinstance(found, Granted) else found


BROKEN: list[tuple[PlayedEngine, Violation, Scenario]] = [
    (PlayedEngine(grant=three_slots_more), Violation.GROUP, SCENARIO),
    (PlayedEngine(grant=three_slots_more), Violation.ZONE, SCENARIO),
    (PlayedEngine(open_wave=twice_the_wave), Violation.WAVE, SCENARIO),
    (PlayedEngine(decide=an_hour_longer), Violation.WINDOW, SCENARIO),
    (PlayedEngine(decide=without_freezes), Violation.FREEZE, SCENARIO),
    (PlayedEngine(advance=without_a_halt), Violation.HALT, ALL_BAD),
    (PlayedEngine(grant=the_same_number), Violation.FENCE, SCENARIO),
    (PlayedEngine(advance=without_waiting), Violation.EARLY, SCENARIO),
    # Without a cap in hosts, the share says it.
    (PlayedEngine(advance=without_a_halt), Violation.HALT, UNCAPPED),
]


@pytest.mark.parametrize(("engine", "violation", "scenario"), BROKEN, ids=lambda each: getattr(each, "name", ""))
def test_a_broken_engine_is_seen(engine: PlayedEngine, violation: Violation, scenario: Scenario) -> None:
    assert play(scenario, engine).violations[violation.name.lower()] > 0


def test_who_is_told_twice_is_seen() -> None:
    watch = ViolationWatch(policy())
    watch.wave_opened(3, {})
    for _ in range(2):
        watch.told("h", Stratum("g0", "z0"), BEGINS)
    assert watch.found[Violation.TWICE] == 1


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        # The clocks go forward at 01:00 UTC: 02:30 does not exist, and the window opens at 03:30, which is 01:30 UTC.
        ("2026-03-29T01:29:59", False),
        ("2026-03-28T01:30:00", True),
        ("2026-03-28T05:29:59", True),
        ("2026-03-28T05:30:00", False),
        # They go back at 01:00 UTC: the first 02:30 is 00:30 UTC.
        ("2026-10-25T00:30:00", True),
        ("2026-10-25T00:29:59", False),
    ],
)
def test_what_looks_on_knows_the_windows_by_itself(at: str, *, is_open: bool) -> None:
    watch = ViolationWatch(policy())
    watch.granted("g0", "z0", 1, datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert watch.found[Violation.WINDOW] == (not is_open)


def test_a_window_across_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    late = GroupPolicy(SlotPolicy(9), (FleetWindow(TimeOfDay(23, 0), 7200.0, (WEEK[2],)),))
    for text, wrong in (("2026-07-02T00:59:00", 0), ("2026-07-02T01:00:00", 1), ("2026-07-01T00:30:00", 1)):
        watch = ViolationWatch(FleetPolicy(groups={"g": late}))
        watch.granted("g", "z", 1, datetime.fromisoformat(text).replace(tzinfo=UTC))
        assert watch.found[Violation.WINDOW] == wrong, text


def test_the_picture_shows_what_there_is_however_little() -> None:
    text = lines(played("good"))
    assert any("x" in line.split("|")[1] for line in text if "|" in line)
    assert all(len(line.split("|")[1]) == 50 for line in text if "|" in line)
    assert "violations    none" in text
    assert any("halted: 2 of" in line for line in lines(played("bad")))


def run(*words: str) -> Any:
    return CliRunner().invoke(fleet, ["simulate", "--hosts", "300", "--hours", "12", *words])


def test_the_command_plays_a_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("groups: {web: {slots: {most: 50}}}\nrollouts: {waves: [{share: 1, soak: 0s}]}\n")
    done = run(str(path))
    assert done.exit_code == 0
    assert "wave 1 of 1, done" in done.output
    found = json.loads(run(str(path), "--json").output)
    assert found["violations"] == {}
    assert found["healthy"] > 250
    assert found["hours"][0]["told"] == 0


def test_a_policy_with_environments_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("environments: [{name: test, groups: [lab]}]\n")
    assert "environments" in str(run(str(path)).exception)


def test_the_command_tells_what_is_wrong_with_a_policy(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("waves: 5\n")
    assert "waves" in str(run(str(path)).exception)


def test_what_is_said_of_a_played_fleet_is_whole() -> None:
    found = document(played("good"))
    assert found["told"] >= found["healthy"] + found["failed"] + found["silent"]
    assert len(found["hours"]) >= 48


def test_a_violation_ends_with_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    broken: Callable[[Scenario], Played] = lambda scenario: replace(played("good"), violations={"wave": 3})  # noqa: E731
    monkeypatch.setattr("updater.fleet.cli.play", broken)
    done = CliRunner().invoke(fleet, ["simulate"], standalone_mode=False)
    assert done.return_value == 1
    assert "wave 3" in done.output
