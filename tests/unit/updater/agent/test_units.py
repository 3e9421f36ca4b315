"""What systemd says of its units, and what a health check makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock.errors import ProcessError, TwinhullError
from tests.fakes.programs import write_program
from updater.agent import units
from updater.agent.health_settings import FailedUnits
from updater.agent.units import AllUnits, UnitState

ACTIVE = """\
Id=web.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
InvocationID=aa
NRestarts=0
"""
FAILED = """\
Id=db.service
LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code
InvocationID=bb
NRestarts=5
"""


def test_each_block_is_a_unit_in_the_order_they_were_asked_for() -> None:
    web, db = units.parse_units(f"{ACTIVE}\n{FAILED}")
    assert (web.name, web.active, web.restarts) == ("web.service", "active", 0)
    assert (db.name, db.result, db.restarts) == ("db.service", "exit-code", 5)


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    units.parse_units(text)


def test_an_active_unit_passes_with_a_mark_that_a_restart_changes() -> None:
    (web,) = units.parse_units(ACTIVE)
    (again,) = units.parse_units(ACTIVE.replace("=aa", "=cc"))
    (restarted,) = units.parse_units(ACTIVE.replace("NRestarts=0", "NRestarts=1"))
    assert len({units.require_active(unit) for unit in (web, again, restarted)}) == 3


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (units.parse_units(FAILED)[0], r"it is failed \(failed, exit-code, restarted 5 times\)"),
        (UnitState("a.service", load="not-found", active="inactive"), "it does not exist"),
        (UnitState("a.service", load="masked", active="inactive"), "it is masked"),
        (UnitState("a.service", active="activating", sub="auto-restart"), r"it is activating \(auto-restart\)"),
        (UnitState("a.service"), "it is unknown"),
    ],
)
def test_a_unit_that_is_not_active_says_why(unit: UnitState, text: str) -> None:
    with pytest.raises(TwinhullError, match=text):
        units.require_active(unit)


def test_a_failed_unit_counts_unless_it_is_ignored() -> None:
    found = AllUnits(("web.service", "backup-1.service", "twinhull-provision.service"), ())
    with pytest.raises(TwinhullError, match=r"^web.service, backup-1.service failed$"):
        units.require_none_failed(found, FailedUnits().ignored)
    assert units.require_none_failed(found, FailedUnits(ignore=("web.service", "backup-?.*")).ignored) == ""


@pytest.mark.parametrize(
    "name",
    [
        "systemd-networkd-wait-online.service",
        "systemd-networkd-wait-online@eth0.service",
        "getty@tty1.service",
        "serial-getty@ttyS0.service",
        "user@0.service",
        "sshd@3-192.0.2.1:22-192.0.2.2:4711.service",
    ],
)
def test_a_network_that_is_away_and_a_login_that_ends_say_nothing_of_the_image(name: str) -> None:
    found = AllUnits((name,), ((name, 3),))
    assert units.require_none_failed(found, FailedUnits().ignored) == ""


def test_many_failed_units_are_counted() -> None:
    found = AllUnits(tuple(f"u{number}.service" for number in range(20)), ())
    with pytest.raises(TwinhullError, match="and 12 more failed"):
        units.require_none_failed(found, ())


def test_a_service_that_systemd_restarts_changes_the_mark() -> None:
    before = units.require_none_failed(AllUnits(restarts=(("a.service", 1), ("noisy.service", 3))), ("noisy.*",))
    after = units.require_none_failed(AllUnits(restarts=(("noisy.service", 4), ("a.service", 2))), ("noisy.*",))
    assert (before, after) == ("a.service:1", "a.service:2")


def played(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    write_program(folder / "bin", "systemctl", body)
    monkeypatch.setenv("PATH", f"{folder}/bin")


def test_systemd_is_asked_for_one_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played(tmp_path, monkeypatch, f"test \"$1 $4\" = 'show web.service' && printf '{ACTIVE}'")
    assert units.ask_unit("web.service", 5).invocation == "aa"


def test_systemd_is_asked_for_all_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "db.service loaded failed failed Data base\\n"
    body = f"case $1 in list-units) printf '{listed}' ;; show) printf '{ACTIVE}\\n{FAILED}' ;; esac"
    played(tmp_path, monkeypatch, body)
    assert units.ask_all(5) == AllUnits(("db.service",), (("db.service", 5),))


def test_a_systemd_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played(tmp_path, monkeypatch, "echo no bus >&2; exit 1")
    for ask in (lambda: units.ask_unit("a.service", 5), lambda: units.ask_all(5)):
        with pytest.raises(ProcessError, match="no bus"):
            ask()


@pytest.mark.parametrize(
    ("body", "started_s"), [("echo 3600500000", 3600.5), ("echo", 0.0), ("echo soon", 0.0), ("exit 1", 0.0)]
)
def test_the_start_of_systemd_is_that_of_the_kernel_when_it_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, started_s: float
) -> None:
    played(tmp_path, monkeypatch, body)
    assert units.ask_started_s(5) == started_s
