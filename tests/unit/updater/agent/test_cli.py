"""The program: exit codes, what is printed, and what the units run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bedrock.errors import DocumentError, Problem, TwinhullError
from partitions.version import Version
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.machine import FakeMachine, FakeServer
from tests.fakes.programs import write_program
from tests.fakes.twin_host import TwinHost, built
from updater.agent import cli
from updater.agent.agent import Agent
from updater.agent.config import Config, Loaded
from updater.agent.health_settings import CheckSettings, Engine, FailedUnits, Health, Need
from updater.agent.host_paths import HostPaths
from updater.agent.reboot_settings import Reboot, RebootPolicy
from updater.agent.setting import Setting, read_setting
from updater.agent.store import HintStore
from updater.agent.trial import HANG_S
from updater.agent.unit_commands import LATER_DEADLINE
from updater.documents.channel import Instant
from updater.errors import FetchError, PolicyError, RefusedError, SlotError, UpdaterError

RELEASES = {text: built(text) for text in ("1.0.0", "1.0.1")}
WRONG = (DocumentError("updater.yaml", (Problem("tries", "must be"),)),)
HEALTH = Health(engine=Engine.NONE, checks_dirs=(), failed_units=FailedUnits(Need.NONE), settle=0.0, patience=0.0)
CONFIG = Config(url="http://server", channel="stable", health=HEALTH)


@pytest.fixture
def machine() -> FakeMachine:
    host = TwinHost(RELEASES["1.0.0"])
    host.know(RELEASES["1.0.1"])
    return FakeMachine(host)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(channel_at(reference_to(RELEASES["1.0.1"].release), Instant(START)), dict(RELEASES))


@pytest.fixture
def it(machine: FakeMachine, server: FakeServer, tmp_path: Path) -> Setting:
    agent = Agent(machine, CONFIG, HintStore(tmp_path / "state.json"), tmp_path / "lock", server)
    return Setting(agent, Loaded(CONFIG), HostPaths(tmp_path / "host"))


def run(it: Setting, *argv: str) -> Result:
    return CliRunner().invoke(cli.updater, argv, standalone_mode=False, obj=it)


def read(result: Result) -> dict[str, object]:
    assert result.exception is None, result.exception
    loaded: dict[str, object] = json.loads(result.stdout)
    return loaded


def test_the_status_tells_what_runs(it: Setting) -> None:
    shown = read(run(it, "status", "--json"))
    assert (shown["version"], shown["slot"], shown["blessed"], shown["standing"]) == ("1.0.0", "a", True, "blessed")
    assert shown["inactive"] == {"slot": "b", "state": "empty", "version": None}
    assert "1.0.0 in slot a, blessed" in run(it, "status").stdout


def test_checking_ends_with_4_when_there_is_nothing_to_do(it: Setting, server: FakeServer) -> None:
    assert run(it, "check").return_value == 0
    server.point_to("1.0.0")
    result = run(it, "check", "--json")
    assert result.return_value == 4
    assert read(result)["why"] == "up-to-date"


def test_updating_reports_and_reboots(it: Setting, machine: FakeMachine) -> None:
    result = run(it, "update", "--json")
    assert result.return_value == 0
    shown = read(result)
    assert (shown["plan"], shown["version"], shown["slot"]) == ("update", "1.0.1", "b")
    assert isinstance(shown["report"], dict)
    assert shown["report"]["downloaded_bytes"] > 0
    assert machine.reboots == [False]
    assert run(it, "update").return_value == 4


def test_updating_without_a_reboot_only_stages(it: Setting, machine: FakeMachine) -> None:
    result = run(it, "update", "--no-reboot")
    assert "1.0.1 is staged in slot b" in result.stdout
    assert "bytes downloaded" in result.stdout
    assert not machine.reboots


def test_a_rule_that_forbids_is_an_error_with_a_hint(it: Setting) -> None:
    run(it, "hold", "--reason", "audit")
    result = run(it, "update")
    assert isinstance(result.exception, PolicyError)
    assert "audit" in str(result.exception)
    assert result.exception.hints == ("release it with `updater release-hold`",)
    assert read(run(it, "release-hold", "--json")) == {"hold": None}


def test_pins_are_set_and_taken_off(it: Setting) -> None:
    assert read(run(it, "pin", "1.0.1", "--json")) == {"pin": {"version": "1.0.1", "sha256": None}}
    assert read(run(it, "unpin", "--json")) == {"pin": None}
    assert run(it, "pin", "no_version").exception is not None


def test_a_trial_is_booked_gated_blessed_and_told_in_the_history(it: Setting, machine: FakeMachine) -> None:
    run(it, "update")
    machine.power_cycle()
    assert "1.0.1 runs in slot b, trial" in run(it, "boot").stdout
    assert run(it, "health", "--gate").return_value == 0
    assert read(run(it, "bless", "--json"))["renamed"] == ["host_1.0.1+3-6.efi"]
    assert run(it, "bless").stdout == "blessed already\n"
    assert run(it, "deadline").exception is None
    kinds = [line.split()[1] for line in run(it, "history").stdout.splitlines()]
    assert kinds == ["installed", "booted", "blessed"]


def test_an_unhealthy_trial_reboots_and_an_unhealthy_blessed_slot_does_not(
    it: Setting, machine: FakeMachine, server: FakeServer
) -> None:
    server.error = TwinhullError("no answer")
    result = run(it, "health", "--gate")
    assert result.return_value == 1
    assert "FAIL update server answers: no answer" in result.stdout
    assert not machine.reboots
    server.error = None
    run(it, "update", "--no-reboot")
    machine.power_cycle()
    server.error = TwinhullError("no answer")
    assert run(it, "health").return_value == 1
    assert not machine.reboots
    assert run(it, "health", "--gate").return_value == 1
    assert machine.reboots == [False]
    assert it.agent.hints().attempt(Version.from_text("1.0.1")).failure == "update server answers: no answer"


@pytest.mark.parametrize("error", [FetchError("nobody answers"), RefusedError("timestamp.json expired")])
def test_an_update_server_that_does_not_answer_never_condemns_a_version(
    it: Setting, machine: FakeMachine, server: FakeServer, error: UpdaterError
) -> None:
    patient = replace(CONFIG, health=replace(CONFIG.health, patience=0.0, server_patience=1200.0))
    it = Setting(replace(it.agent, config=patient), Loaded(patient), it.paths)
    run(it, "update", "--no-reboot")
    machine.power_cycle()
    run(it, "boot")
    server.error = error
    rebooted_at: list[float] = []
    began = machine.clock.steady()

    def deadline_meanwhile() -> None:
        """The deadline fires ten minutes after the boot, while the gate waits."""
        machine.clock.meanwhile = lambda: None
        machine.clock.sleep(600.0)
        assert it.agent.is_waiting()
        rebooted_at.extend([machine.clock.steady() - began] if machine.reboots else [])

    machine.clock.meanwhile = deadline_meanwhile
    result = run(it, "health", "--gate")
    assert result.return_value == 1
    assert rebooted_at == []
    # It waited as long as it is configured to, and then went back without holding it against the version.
    assert machine.clock.steady() - began >= 1200.0
    assert machine.reboots == [False]
    assert machine.entry_names() == ("host_1.0.0.efi",)
    assert it.agent.hints().bad == ()
    assert str(machine.power_cycle()) == "1.0.0"
    run(it, "boot")
    server.error = None
    assert "1.0.1 is staged" in run(it, "update", "--no-reboot").stdout


def test_a_version_waits_for_the_server_only_on_trial_and_at_the_gate(
    it: Setting, machine: FakeMachine, server: FakeServer
) -> None:
    patient = replace(CONFIG, health=replace(CONFIG.health, patience=0.0, server_patience=1200.0))
    it = Setting(replace(it.agent, config=patient), Loaded(patient), it.paths)
    server.error = FetchError("nobody answers")
    # A proven version is not judged by its server.
    assert run(it, "health", "--gate").return_value == 0
    assert run(it, "health").return_value == 1
    assert not machine.clock.slept
    assert not machine.reboots


def test_a_deadline_waits_as_long_as_the_gate_does(
    it: Setting, machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "bin", "systemctl", f'echo "$*" >> {tmp_path}/words')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    run(it, "update", "--no-reboot")
    machine.power_cycle()
    run(it, "boot")
    it.agent.wait(seconds=600.0)
    for _ in range(2):
        assert run(it, "deadline").exception is None
    assert not machine.reboots
    # Starting a timer that has elapsed once does nothing.
    assert (tmp_path / "words").read_text() == 2 * f"restart --no-block {LATER_DEADLINE}\n"
    machine.clock.sleep(601.0)
    assert "rebooting" in run(it, "deadline").stderr
    assert machine.reboots == [True]


def test_a_proven_version_hangs_by_the_time_of_systemd_not_of_the_kernel(
    it: Setting, machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(it, "update", "--no-reboot")
    machine.power_cycle()
    run(it, "boot")
    run(it, "bless")
    # A repair of `/var` in the initrd took an hour.
    started_s = 3600.0
    machine.clock.sleep(started_s + HANG_S - 1 - machine.clock.steady())
    write_program(tmp_path / "bin", "systemctl", f'[ "$1" != show ] || echo {round(started_s * 1e6)}')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert run(it, "deadline").exception is None
    assert not machine.reboots
    machine.clock.sleep(1.0)
    assert "did not come to its health checks in 1800 s" in run(it, "deadline").stderr
    assert machine.reboots == [True]


def test_refused_polls_are_shown_in_words(it: Setting, server: FakeServer) -> None:
    server.error = RefusedError("timestamp.json expired at 2026-01-01T00:00:00Z")
    for _ in range(2):
        assert isinstance(run(it, "check").exception, RefusedError)
    shown = read(run(it, "status", "--json"))["poll"]
    assert isinstance(shown, dict)
    assert (shown["result"], shown["reason"]) == ("refused", "timestamp.json expired at 2026-01-01T00:00:00Z")
    assert "last poll    2026-03-01T12:00:00Z refused: timestamp.json expired at" in run(it, "status").stdout
    assert "poll-refused -  timestamp.json expired at 2026-01-01T00:00:00Z" in run(it, "history").stdout


def test_a_trial_past_its_deadline_is_left_with_force(it: Setting, machine: FakeMachine) -> None:
    run(it, "update", "--no-reboot")
    machine.power_cycle()
    result = run(it, "deadline")
    assert result.exception is None
    assert "was not blessed before the deadline: rebooting" in result.stderr
    assert machine.reboots == [True]


def test_a_deadline_with_nothing_to_go_back_to_stays_and_does_not_fail(it: Setting, machine: FakeMachine) -> None:
    folder = machine.host.folder
    folder.rename("host_1.0.0.efi", "host_1.0.0+0-1.efi")
    result = run(it, "deadline")
    assert result.exception is None
    assert "nothing to go back to" in result.stderr
    assert not machine.reboots


def test_a_deadline_that_cannot_be_judged_fails_so_that_its_unit_reboots(it: Setting, machine: FakeMachine) -> None:
    machine.error = SlotError("the disk cannot be read")
    assert isinstance(run(it, "deadline").exception, SlotError)


def test_an_image_whose_settings_cannot_be_read_is_not_healthy(
    it: Setting,
) -> None:
    broken = replace(it, settings=Loaded(CONFIG, WRONG, image_is_sound=False))
    result = run(broken, "health", "--gate", "--json")
    assert result.return_value == 1
    assert read(result)["healthy"] is False


def test_wrong_settings_of_the_host_condemn_no_image_and_are_shown(
    it: Setting,
) -> None:
    host = replace(it, settings=Loaded(CONFIG, WRONG))
    assert run(host, "health", "--gate").return_value == 0
    assert read(run(host, "status", "--json"))["settings_problems"] == ["updater.yaml: tries: must be"]
    assert "ignored      updater.yaml: tries: must be" in run(host, "status").stdout
    shown = run(host, "settings", "--json")
    assert shown.return_value == 2
    assert read(shown)["problems"] == ["updater.yaml: tries: must be"]


def test_a_trial_is_blessed_only_when_its_checks_held_for_a_while(it: Setting, machine: FakeMachine) -> None:
    settled = replace(CONFIG, health=replace(HEALTH, settle=30.0))
    it = Setting(replace(it.agent, config=settled), Loaded(settled), it.paths)
    run(it, "update", "--no-reboot")
    machine.power_cycle()
    assert run(it, "health", "--wait").return_value == 0
    assert run(it, "health").return_value == 0
    assert not machine.reboots


def test_a_check_says_what_was_asked_why_it_failed_and_that_it_is_only_wanted(it: Setting, tmp_path: Path) -> None:
    probe = write_program(tmp_path / "bin", "probe", "echo no mail; exit 1")
    checks = {"mail": CheckSettings(program=str(probe), need=Need.WANTED)}
    config = replace(CONFIG, health=replace(HEALTH, checks=checks))
    it = Setting(replace(it.agent, config=config), Loaded(config), it.paths)
    result = run(it, "health")
    assert result.return_value == 0
    assert "warn mail: " in result.stdout
    shown = read(run(it, "health", "--json"))
    assert shown["healthy"] is True
    assert isinstance(shown["checks"], list)
    mail = shown["checks"][0]
    assert (mail["name"], mail["asked"], mail["need"], mail["ok"]) == ("mail", str(probe), "wanted", False)
    assert "no mail" in mail["detail"]


def before_reboot(paths: HostPaths, body: str) -> None:
    folder = paths.root / "etc/twinhull/before-reboot.d"
    folder.mkdir(parents=True)
    write_program(folder, "50-drain", body)


def test_the_status_says_when_it_reboots(it: Setting) -> None:
    config = replace(CONFIG, reboot=Reboot(RebootPolicy.MANUAL))
    it = Setting(replace(it.agent, config=config), Loaded(config), it.paths)
    assert read(run(it, "status", "--json"))["reboot"] is None
    run(it, "update", "--no-reboot")
    shown = read(run(it, "status", "--json"))["reboot"]
    assert isinstance(shown, dict)
    assert (shown["version"], shown["at"], shown["waits_for"]) == ("1.0.1", None, [])
    assert "reboot       into 1.0.1 not by itself: it is left to an operator" in run(it, "status").stdout


def test_a_reboot_by_hand_waits_for_a_program_that_says_not_now_and_says_so(
    it: Setting, machine: FakeMachine, tmp_path: Path
) -> None:
    before_reboot(it.paths, f"echo $TWINHULL_FROM_VERSION $TWINHULL_TO_VERSION >> {tmp_path}/ran; exit 75")
    run(it, "update", "--no-reboot")
    result = run(it, "reboot", "--json")
    assert read(result) == {"version": "1.0.1"}
    assert "waiting for up to 3600 s: " in result.stderr
    assert "50-drain says not now" in result.stderr
    assert machine.reboots == [False]
    assert sum(machine.clock.slept) == 3600.0
    assert set((tmp_path / "ran").read_text().splitlines()) == {"1.0.0 1.0.1"}
    assert "overruled" in run(it, "history").stdout


def test_a_reboot_at_once_waits_for_nobody(it: Setting, machine: FakeMachine, tmp_path: Path) -> None:
    before_reboot(it.paths, f"echo $TWINHULL_LAST_CALL > {tmp_path}/ran; exit 75")
    assert run(it, "reboot", "--now").stdout == "rebooting into 1.0.0\n"
    assert machine.reboots == [False]
    assert not machine.clock.slept
    assert (tmp_path / "ran").read_text() == "1\n"


def test_the_settings_in_force_are_shown_by_their_paths(it: Setting) -> None:
    result = run(it, "settings")
    assert result.return_value == 0
    assert 'url = "http://server"' in result.stdout.splitlines()
    assert "reboot.retry_interval = 60.0" in result.stdout.splitlines()


def test_a_rollback_reboots_into_the_other_slot(it: Setting, machine: FakeMachine) -> None:
    run(it, "update", "--no-reboot")
    machine.power_cycle()
    run(it, "bless")
    assert read(run(it, "rollback", "--json")) == {"version": "1.0.0"}
    assert machine.reboots == [False]
    assert str(machine.power_cycle()) == "1.0.0"


@pytest.mark.parametrize("command", sorted(cli.updater.commands))
def test_every_command_tells_what_it_does(it: Setting, command: str) -> None:
    text = run(it, command, "--help").stdout
    assert len(text.splitlines()) > 3


def test_looking_commands_offer_json() -> None:
    names = {name for name, command in cli.updater.commands.items() if not command.hidden} - {"completion"}
    with_json = {name for name in names if any(p.name == "as_json" for p in cli.updater.commands[name].params)}
    assert names == with_json


def test_the_program_reads_its_settings_and_says_what_it_ignores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "twinhull.updater").write_text("tries: 5\npoll: 7\n")
    made = read_setting(HostPaths(), warn=True)
    assert made.config.tries == 5
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {tmp_path}/twinhull.updater: poll: unknown key")
    assert told.endswith("(ignored)\n")
