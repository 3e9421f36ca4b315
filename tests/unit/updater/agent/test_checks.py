"""The health checks that settings make: what is asked, how, and what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import DocumentError, ProcessError, TwinhullError
from tests.fakes.programs import write_program
from updater.agent import checks
from updater.agent.checks import Check, container_mark
from updater.agent.health_settings import CheckSettings, Engine, FailedUnits, Health, Need

BARE = Health(engine=Engine.NONE, checks_dirs=(), failed_units=FailedUnits(Need.NONE))


class Runs:
    """Runs no program: it notes which, and prints what it was given."""

    def __init__(self, output: str = "") -> None:
        self.output = output
        self.words: list[tuple[list[str], float]] = []

    def __call__(self, words: Sequence[str | Path], timeout_s: float) -> str:
        self.words.append((list(map(str, words)), timeout_s))
        return self.output


def named(config: Health, run: checks.RunCheck = Runs()) -> dict[str, Check]:  # noqa: B008 - it keeps nothing here
    return {check.name: check for check in checks.configured_checks(config, None, run)}


def test_checks_have_their_own_time_limits_and_needs() -> None:
    own = {
        "slow": CheckSettings(program="/bin/slow", timeout=600.0, need=Need.WANTED),
        "usual": CheckSettings(program="/bin/usual"),
        "off": CheckSettings(program="/bin/off", need=Need.NONE),
    }
    run = Runs()
    found = named(Health(checks=own, engine=Engine.NONE, checks_dirs=(), failed_units=FailedUnits(Need.NONE)), run)
    assert {name: check.need for name, check in found.items()} == {"slow": Need.WANTED, "usual": Need.REQUIRED}
    for check in found.values():
        check.look()
    assert run.words == [(["/bin/slow"], 600.0), (["/bin/usual"], 120.0)]


def test_programs_of_both_folders_count_and_the_hosts_own_wins(tmp_path: Path) -> None:
    for path in ("image", "host", "host/wanted.d"):
        (tmp_path / path).mkdir()
    write_program(tmp_path / "image", "10-disk", "exit 1")
    net = write_program(tmp_path / "image", "20-net", "exit 0")
    own = write_program(tmp_path / "host", "10-disk", "exit 0")
    write_program(tmp_path / "host", "30-off", "exit 1").chmod(0o644)
    write_program(tmp_path / "host", ".hidden", "exit 1")
    nice = write_program(tmp_path / "host/wanted.d", "40-nice", "exit 1")
    found = checks.programs((str(tmp_path / "image"), str(tmp_path / "host"), str(tmp_path / "none")))
    assert found == ((own, Need.REQUIRED), (net, Need.REQUIRED), (nice, Need.WANTED))


def test_what_the_settings_say_of_a_program_in_a_folder_counts(tmp_path: Path) -> None:
    path = write_program(tmp_path / "d", "50-web", "exit 0")
    own = {"web": CheckSettings(program=str(path), need=Need.WANTED)}
    config = Health(checks=own, engine=Engine.NONE, checks_dirs=(str(tmp_path / "d"),))
    assert {name for name, check in named(config).items() if check.asked == str(path)} == {"web"}


def test_an_operators_program_tells_its_output_when_it_fails(tmp_path: Path) -> None:
    path = write_program(tmp_path / "d", "disk", "echo disk is full >&2; exit 3")
    config = Health(engine=Engine.NONE, checks_dirs=(str(tmp_path / "d"),), failed_units=FailedUnits(Need.NONE))
    (check,) = named(config, checks.directly).values()
    assert check.name == "check disk"
    with pytest.raises(ProcessError, match="disk is full") as caught:
        check.look()
    assert str(path) in str(caught.value)


def test_a_program_that_hangs_ends(tmp_path: Path) -> None:
    hang = write_program(tmp_path / "d", "hang", "while :; do :; done")
    with pytest.raises(ProcessError, match="still running"):
        checks.directly((hang,), 0.2)


def test_programs_run_in_units_of_their_own_with_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin", "systemd-run", f'echo "$*" > {tmp_path}/words; echo said')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    assert checks.in_own_unit(("podman", "ps"), 7.5) == "said\n"
    words = (tmp_path / "words").read_text().split()
    assert words[-3:] == ["--", "podman", "ps"]
    assert {"--wait", "--pipe", "--property=RuntimeMaxSec=7.5"} <= set(words)


def test_a_unit_that_is_not_active_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin", "systemctl", "printf 'Id=%s\\nActiveState=failed\\nSubState=failed\\n' \"$4\"")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    (check,) = named(
        Health(
            checks={"web": CheckSettings(unit="web.service")},
            engine=Engine.NONE,
            checks_dirs=(),
            failed_units=FailedUnits(Need.NONE),
        )
    ).values()
    assert check.asked == "unit web.service is active"
    with pytest.raises(TwinhullError, match="it is failed"):
        check.look()


@pytest.mark.parametrize(
    ("engine", "names"),
    [
        (Engine.PODMAN, ["no unit failed", "podman answers"]),
        (Engine.DOCKER, ["no unit failed", "docker answers"]),
        (Engine.CONTAINERD, ["no unit failed", "containerd answers"]),
        (Engine.NONE, ["no unit failed"]),
    ],
)
def test_the_engine_of_the_image_is_asked_and_failed_units_count(engine: Engine, names: list[str]) -> None:
    assert list(named(Health(engine=engine, checks_dirs=()))) == names


@pytest.mark.parametrize(("need", "found"), [(Need.WANTED, [Need.WANTED]), (Need.NONE, [])])
def test_failed_units_have_a_switch(need: Need, found: list[Need]) -> None:
    config = Health(engine=Engine.NONE, checks_dirs=(), failed_units=FailedUnits(need))
    assert [check.need for check in named(config).values()] == found


def test_the_server_is_asked_only_when_there_is_one_and_last() -> None:
    asked = [check.name for check in checks.configured_checks(BARE, lambda: None)]
    assert asked == [checks.SERVER_CHECK]
    assert checks.configured_checks(BARE, None) == ()


def inspected(**state: Any) -> str:
    return json.dumps([{"RestartCount": 0, "State": {"Running": True, "Status": "running", "StartedAt": "t", **state}}])


def container(output: str) -> str:
    own = {"db": CheckSettings(container="db", timeout=9.0)}
    run = Runs(output)
    config = Health(checks=own, checks_dirs=(), failed_units=FailedUnits(Need.NONE))
    found = named(config, run)["db"].look()
    assert run.words == [(["podman", "container", "inspect", "db"], 9.0)]
    return found


@pytest.mark.parametrize("health", [None, {}, {"Status": ""}, {"Status": "healthy"}, {"Status": "none"}])
def test_a_container_that_runs_passes(health: dict[str, str] | None) -> None:
    assert container(inspected(Health=health)) == "t/0"


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"Running": False, "Status": "exited", "ExitCode": 3}, "it is exited, exit code 3"),
        ({"Health": {"Status": "starting"}}, "its health check says starting"),
        ({"Health": {"Status": "unhealthy"}}, "its health check says unhealthy"),
        ({"Healthcheck": {"Status": "unhealthy"}}, "its health check says unhealthy"),
    ],
)
def test_a_container_that_does_not_run_or_is_ill_fails(state: dict[str, Any], why: str) -> None:
    with pytest.raises(TwinhullError, match=why):
        container(inspected(**state))


def test_a_container_that_was_started_anew_has_another_mark() -> None:
    again = json.dumps([{"RestartCount": 1, "State": {"Running": True, "StartedAt": "t"}}])
    assert len({container_mark(inspected()), container_mark(inspected(StartedAt="u")), container_mark(again)}) == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '[{"State": 5}]', '[{"State": {"Running": 1, "Health": 5}}]'])
def test_an_answer_that_is_not_understood_fails(text: str) -> None:
    with pytest.raises(TwinhullError, match="not understood"):
        container_mark(text)


@given(st.text())
def test_no_answer_is_an_error_of_our_own(text: str) -> None:
    with pytest.raises(TwinhullError):
        container_mark(text)


@pytest.mark.parametrize("keys", [{}, {"unit": "a.service", "program": "/bin/a"}, {"need": "wanted"}])
def test_a_check_asks_exactly_one_thing(keys: dict[str, str]) -> None:
    with pytest.raises(DocumentError, match="must have one of unit, container and program"):
        strict.read(CheckSettings, keys, source="x")


@pytest.mark.parametrize("engine", ["containerd", "none"])
def test_an_engine_that_cannot_be_asked_for_a_container_is_refused(engine: str) -> None:
    with pytest.raises(DocumentError, match=f"asked of podman or docker, and engine is {engine}"):
        strict.read(Health, {"engine": engine, "checks": {"db": {"container": "db"}}}, source="x")


def test_while_var_takes_nothing_what_writes_to_it_decides_nothing() -> None:
    own = {"web": CheckSettings(container="web"), "disk": CheckSettings(program="/bin/disk")}
    config = Health(checks=own, engine=Engine.PODMAN, checks_dirs=())
    found = {check.name: check for check in checks.configured_checks(config, lambda: None, Runs())}
    without = {check.name: check for check in checks.without_room(tuple(found.values()), "/var is full")}
    decides = [name for name, check in without.items() if check.need is Need.REQUIRED]
    assert decides == ["disk", checks.SERVER_CHECK]
    assert "decides nothing, because /var is full" in without["podman answers"].asked
    assert without["disk"] == found["disk"]
    assert list(without) == list(found)
