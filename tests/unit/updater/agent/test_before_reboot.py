"""Who is asked before a reboot: programs with a time limit, and inhibitors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock.errors import ProcessError, TwinhullError
from bedrock.process import Finished
from partitions.version import Version
from tests.fakes.programs import write_program
from updater.agent import before_reboot
from updater.agent.before_reboot import EXIT_NOT_NOW, Change, Surroundings, blocking

CHANGE = Change(Version.from_text("1.0.0"), Version.from_text("1.0.1"))


@dataclass
class Place:
    """A host where nothing runs: programs by name with their exit codes, and inhibitors."""

    codes: dict[str, int | Exception] = field(default_factory=dict)
    holders: list[tuple[str, ...]] = field(default_factory=list)
    ran: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)

    def run(self, hook: Path, environment: Mapping[str, str], timeout_s: float) -> Finished:
        self.ran.append((hook.name, environment, timeout_s))
        code = self.codes[hook.name]
        if isinstance(code, Exception):
            raise code
        return Finished((str(hook),), code, "", "said")

    def inhibitors(self) -> tuple[str, ...]:
        return self.holders.pop(0) if self.holders else ()

    def ask(self, *, last_call: bool = False) -> tuple[str, ...]:
        hooks = [Path("/etc") / name for name in self.codes]
        return Surroundings(lambda: hooks, self.run, self.inhibitors).ask(CHANGE, timeout_s=9.0, last_call=last_call)

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.ran]


def test_nobody_asks_to_wait() -> None:
    place = Place({"10-a": 0, "20-b": 0})
    assert place.ask() == ()
    environment = {"TWINHULL_FROM_VERSION": "1.0.0", "TWINHULL_TO_VERSION": "1.0.1", "TWINHULL_LAST_CALL": "0"}
    assert place.ran == [("10-a", environment, 9.0), ("20-b", environment, 9.0)]


def test_a_program_that_says_not_now_is_waited_for_and_those_after_it_are_not_run() -> None:
    place = Place({"10-a": 0, "20-b": EXIT_NOT_NOW, "30-c": 0})
    assert place.ask() == ("/etc/20-b says not now",)
    assert place.names == ["10-a", "20-b"]


@pytest.mark.parametrize("code", [1, 127, -9, ProcessError("still running after 9 s"), OSError("gone")])
def test_a_program_that_fails_or_hangs_is_logged_and_the_reboot_goes_on(
    code: int | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place({"10-a": code, "20-b": 0})
    assert place.ask() == ()
    assert place.names == ["10-a", "20-b"]
    assert "/etc/10-a" in caplog.text


def test_an_inhibitor_is_asked_before_any_program_is_run() -> None:
    place = Place({"10-a": 0}, [("backup inhibits",)])
    assert place.ask() == ("backup inhibits",)
    assert place.names == []


def test_an_inhibitor_that_came_while_programs_ran_counts() -> None:
    place = Place({"10-a": 0}, [(), ("backup inhibits",)])
    assert place.ask() == ("backup inhibits",)
    assert place.names == ["10-a"]


def test_at_the_last_call_every_program_is_run_and_says_so() -> None:
    place = Place({"10-a": EXIT_NOT_NOW, "20-b": 0}, [("backup inhibits",)])
    assert place.ask(last_call=True) == ("/etc/10-a says not now", "backup inhibits")
    assert place.names == ["10-a", "20-b"]
    assert place.ran[1][1]["TWINHULL_LAST_CALL"] == "1"


def test_inhibitors_that_cannot_be_found_out_keep_no_host_from_rebooting(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> tuple[str, ...]:
        raise TwinhullError("no bus")

    around = Surroundings(lambda: (), Place().run, broken)
    assert around.ask(CHANGE, timeout_s=1.0, last_call=False) == ()
    assert "no bus" in caplog.text


def test_programs_of_both_folders_run_by_name_and_the_one_below_etc_counts(tmp_path: Path) -> None:
    image, own = tmp_path / "usr/lib/twinhull/before-reboot.d", tmp_path / "etc/twinhull/before-reboot.d"
    for folder in (image, own):
        folder.mkdir(parents=True)
    write_program(image, "10-a", "exit 1")
    mine = write_program(own, "10-a", "exit 0")
    last = write_program(image, "90-z", "exit 0")
    write_program(own, "50-off", "exit 0").chmod(0o644)
    assert before_reboot.hooks_below(tmp_path) == (mine, last)
    assert before_reboot.hooks_below(tmp_path / "none") == ()


def test_a_program_is_given_its_environment_and_its_exit_code_is_kept(tmp_path: Path) -> None:
    hook = write_program(tmp_path / "d", "hook", f'echo "$A" > {tmp_path}/seen; exit 75')
    assert before_reboot.run_directly(hook, {"A": "b c"}, 5.0).returncode == EXIT_NOT_NOW
    assert (tmp_path / "seen").read_text() == "b c\n"


def test_a_program_runs_in_a_unit_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin", "systemd-run", f'echo "$*" > {tmp_path}/words; exit 75')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    assert before_reboot.run_in_own_unit(Path("/etc/hook"), {"A": "b"}, 7.5).returncode == EXIT_NOT_NOW
    words = (tmp_path / "words").read_text().split()
    assert words[-2:] == ["--", "/etc/hook"]
    assert {"--wait", "--collect", "--property=RuntimeMaxSec=7.5", "--setenv=A=b"} <= set(words)


def answer(*inhibitors: tuple[str, str, str, str, int, int]) -> str:
    return json.dumps({"type": "a(ssssuu)", "data": [[list(one) for one in inhibitors]]})


def test_those_that_block_a_shutdown_count_and_no_others() -> None:
    text = answer(
        ("sleep:shutdown", "backup", "nightly", "block", 0, 7),
        ("shutdown", "weak", "mildly", "block-weak", 0, 8),
        ("shutdown", "late", "a moment", "delay", 0, 9),
        ("sleep:idle", "film", "watching", "block", 0, 10),
    )
    assert blocking(text) == ("backup inhibits a shutdown: nightly", "weak inhibits a shutdown: mildly")
    assert blocking(answer()) == ()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"data": []}', '{"data": [[["shutdown"]]]}', '{"data": 5}'])
def test_an_answer_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(TwinhullError, match="not understood"):
        blocking(text)


@given(st.text())
def test_no_answer_is_an_error_of_our_own(text: str) -> None:
    with pytest.raises(TwinhullError):
        blocking(text)


def test_logind_is_asked_over_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = answer(("shutdown", "backup", "nightly", "block", 0, 7))
    write_program(tmp_path / "bin", "busctl", f"echo \"$*\" > {tmp_path}/words; echo '{text}'")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    assert before_reboot.ask_logind() == ("backup inhibits a shutdown: nightly",)
    assert (tmp_path / "words").read_text().endswith("org.freedesktop.login1.Manager ListInhibitors\n")
