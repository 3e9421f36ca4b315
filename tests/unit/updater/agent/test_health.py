"""Health checks: bounded, tried again, reported one by one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from bedrock.errors import ProcessError, TwinhullError
from tests.fakes.clock import FakeClock
from updater.agent import health
from updater.agent.config import Engine, Health
from updater.agent.health import Check, CheckResult
from updater.errors import FetchError, RefusedError


def script(folder: Path, name: str, body: str, mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(mode)
    return path


class Flaky:
    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.runs = 0

    def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise TwinhullError("not yet")


class Judged(NamedTuple):
    """How checks ended, which of them said that they wait, and how long all took."""

    results: tuple[CheckResult, ...]
    waits: list[float]
    waited_s: float


def run(*checks: Check, patience: float = 60.0) -> tuple[tuple[CheckResult, ...], list[str], FakeClock]:
    clock, told = FakeClock(), list[str]()
    results = health.run_checks(
        checks, Health(patience=patience, retry_interval=5.0), clock, lambda result: told.append(result.name)
    )
    return results, told, clock


def test_a_check_that_passes_later_is_waited_for() -> None:
    slow, quick = Flaky(3), Flaky(0)
    results, told, clock = run(Check("slow", slow), Check("quick", quick))
    assert [result.ok for result in results] == [True, True]
    assert told == ["quick", "slow"]
    assert (slow.runs, quick.runs) == (4, 1)
    assert sum(clock.slept) == 15.0


def test_patience_ends() -> None:
    results, _, clock = run(Check("never", Flaky(10**9)))
    assert health.failure_text(results) == "never: not yet"
    assert sum(clock.slept) == 60.0


def test_without_patience_each_check_runs_once() -> None:
    flaky = Flaky(1)
    results, _, clock = run(Check("once", flaky), patience=0.0)
    assert not results[0].ok
    assert flaky.runs == 1
    assert not clock.slept


class Away(Flaky):
    """The update server: it cannot be reached for so many tries."""

    def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise FetchError("no answer")


def judged(*checks: Check, patience: float = 60.0, server_patience: float = 600.0) -> Judged:
    clock, waits = FakeClock(), list[float]()
    bounds = Health(patience=patience, server_patience=server_patience, retry_interval=5.0)
    results = health.run_checks(checks, bounds, clock, lambda _: None, lambda: waits.append(clock.steady()))
    return Judged(results, waits, sum(clock.slept))


def server(failures: int) -> Check:
    return Check("server", Away(failures), undecided=(FetchError, RefusedError))


def test_an_update_server_that_is_away_is_waited_for_longer_than_anything_else() -> None:
    done = judged(server(50), Check("slow", Flaky(3)))
    assert [result.ok for result in done.results] == [True, True]
    # The server is asked when nothing else is left to be checked, and that is said before: asking may take long.
    assert (done.waits, done.waited_s) == ([15.0], 265.0)


def test_an_update_server_that_stays_away_decides_nothing() -> None:
    done = judged(server(10**9), Check("quick", Flaky(0)))
    assert health.is_undecided(done.results)
    assert health.failure_text(done.results) == "server: no answer"
    assert done.waited_s == 600.0


def test_a_check_that_fails_decides_without_the_server() -> None:
    done = judged(Check("broken", Flaky(10**9)), server(10**9))
    assert not health.is_undecided(done.results)
    assert (done.waits, done.waited_s) == ([], 60.0)


def test_what_passes_is_not_undecided() -> None:
    assert not health.is_undecided(judged(server(0)).results)


def test_an_error_of_our_own_in_asking_the_server_decides() -> None:
    done = judged(Check("server", Flaky(10**9), undecided=(FetchError, RefusedError)))
    assert not health.is_undecided(done.results)


def test_nothing_to_check_is_healthy() -> None:
    assert health.failure_text(run()[0]) == ""


def test_executables_of_both_folders_count_and_the_hosts_own_wins(tmp_path: Path) -> None:
    script(tmp_path / "image", "10-disk", "exit 1")
    script(tmp_path / "image", "20-net", "exit 0")
    own = script(tmp_path / "host", "10-disk", "exit 0")
    script(tmp_path / "host", "30-off", "exit 1", mode=0o644)
    script(tmp_path / "host", ".hidden", "exit 1")
    found = health.own_checks((str(tmp_path / "image"), str(tmp_path / "host"), str(tmp_path / "none")))
    assert found == (own, tmp_path / "image" / "20-net")


def test_an_operators_check_tells_its_output_when_it_fails(tmp_path: Path) -> None:
    path = script(tmp_path / "d", "disk", "echo disk is full >&2; exit 3")
    config = Health(engine=Engine.NONE, checks_dirs=(str(tmp_path / "d"),), patience=0.0)
    checks = health.configured_checks(config, None, health.directly)
    (result,) = health.run_checks(checks, config, FakeClock(), lambda _: None)
    assert result.name == "check disk"
    assert "disk is full" in result.detail
    assert str(path) in result.detail


def test_a_check_that_hangs_ends(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="still running"):
        health.directly((script(tmp_path / "d", "hang", "exec sleep 60"),), 0.2)


def test_a_unit_that_is_not_active_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin", "systemctl", 'test "$2" = good.service && echo active && exit 0; echo failed; exit 3')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    health.unit_is_active("good.service", 5)
    with pytest.raises(TwinhullError, match="it is failed"):
        health.unit_is_active("bad.service", 5)


def test_a_container_engine_that_does_not_answer_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin", "podman", "echo no runtime >&2; exit 125")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(ProcessError, match="no runtime"):
        health.directly(("podman", "ps"), 5)


def test_programs_run_in_units_of_their_own_with_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin", "systemd-run", f'echo "$*" > {tmp_path}/words')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    health.in_own_unit(("podman", "ps"), 7.5)
    words = (tmp_path / "words").read_text().split()
    assert words[-3:] == ["--", "podman", "ps"]
    assert {"--wait", "--pipe", "--property=RuntimeMaxSec=7.5"} <= set(words)


@pytest.mark.parametrize(
    ("engine", "names"),
    [
        (Engine.PODMAN, ["podman answers"]),
        (Engine.DOCKER, ["docker answers"]),
        (Engine.CONTAINERD, ["containerd answers"]),
        (Engine.NONE, []),
    ],
)
def test_the_engine_of_the_image_is_asked(engine: Engine, names: list[str]) -> None:
    config = Health(engine=engine, checks_dirs=())
    assert [check.name for check in health.configured_checks(config, None)] == names


def test_the_server_is_asked_only_when_there_is_one() -> None:
    config = Health(units=("a.service",), checks_dirs=())
    assert [check.name for check in health.configured_checks(config, lambda: None)] == [
        "unit a.service",
        "podman answers",
        "update server answers",
    ]
    assert len(health.configured_checks(config, None)) == 2
