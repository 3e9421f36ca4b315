"""How the subprocess gate starts, bounds and reports programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bedrock import process
from bedrock.errors import ProcessError


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_and_exit_code_are_handed_back() -> None:
    done = process.run(python("import sys; print('out'); print('err', file=sys.stderr)"), timeout_s=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_a_failure_carries_the_tail_of_what_was_printed() -> None:
    code = "import sys; [print(f'line {n}', file=sys.stderr) for n in range(100)]; sys.exit(3)"
    with pytest.raises(ProcessError, match="exit code 3") as caught:
        process.run(python(code), timeout_s=60)
    assert caught.value.returncode == 3
    assert caught.value.tail.splitlines() == [f"line {n}" for n in range(70, 100)]


def test_stdout_is_the_tail_when_stderr_is_empty() -> None:
    with pytest.raises(ProcessError, match="said here"):
        process.run(python("import sys; print('said here'); sys.exit(1)"), timeout_s=60)


def test_a_failure_may_be_asked_for_instead_of_raised() -> None:
    assert process.run(python("raise SystemExit(5)"), timeout_s=60, check=False).returncode == 5


def test_a_program_that_runs_too_long_is_killed() -> None:
    with pytest.raises(ProcessError, match=r"still running after 0\.2 s"):
        process.run(python("import time; time.sleep(60)"), timeout_s=0.2)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProcessError, match="no-such-program could not be started: No such file"):
        process.run(["no-such-program"], timeout_s=60)
    with pytest.raises(ProcessError, match="no-such-program could not be started"):
        process.start(["no-such-program"])


def test_the_environment_is_stated_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    done = process.run(
        python("import os; print('A_SECRET' in os.environ, os.environ['LC_ALL'], os.environ['GIVEN'])"),
        timeout_s=60,
        env={"GIVEN": "yes"},
    )
    assert done.stdout == "False C.UTF-8 yes\n"


def test_arguments_are_never_read_by_a_shell(tmp_path: Path) -> None:
    trap = f"$(touch {tmp_path}/hit); touch {tmp_path}/hit"
    done = process.run([*python("import sys; print(sys.argv[1])"), trap], timeout_s=60)
    assert done.stdout == trap + "\n"
    assert not (tmp_path / "hit").exists()


def test_input_is_fed_and_otherwise_empty() -> None:
    echo = python("import sys; print(repr(sys.stdin.read()))")
    assert process.run(echo, timeout_s=60, stdin=b"hi").stdout == "'hi'\n"
    assert process.run(echo, timeout_s=60).stdout == "''\n"


def test_a_log_receives_everything_and_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    done = process.run(python("print('during')"), timeout_s=60, log=log)
    assert (done.stdout, log.read_text()) == ("", "before\nduring\n")
    with pytest.raises(ProcessError, match="last words"):
        process.run(python("import sys; sys.exit('last words')"), timeout_s=60, log=log)


def test_output_that_is_not_text_does_not_hurt() -> None:
    done = process.run(python("import sys; sys.stdout.buffer.write(b'\\xff')"), timeout_s=60)
    assert done.stdout == "\N{REPLACEMENT CHARACTER}"


def test_a_started_program_runs_beside_us() -> None:
    with process.start(python("raise SystemExit(7)")) as running:
        assert running.wait(timeout=60) == 7
