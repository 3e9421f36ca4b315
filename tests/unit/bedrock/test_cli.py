from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from bedrock.cli import emit_json, json_option, run_command
from bedrock.errors import EXIT_REFUSED, DocumentError, Problem, TwinhullError

ROOT = Path(__file__).parents[3]


class RefusedByTestError(TwinhullError):
    exit_code = EXIT_REFUSED


def leave(action: Callable[[], object], argv: tuple[str, ...] = ()) -> int:
    @click.command()
    def command() -> object:
        return action()

    with pytest.raises(SystemExit) as caught:
        run_command(command, prog_name="prog", argv=argv)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def raising(error: BaseException) -> Callable[[], object]:
    def action() -> object:
        raise error

    return action


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (4, 4), (True, 0), ("text", 0)])
def test_returned_int_is_the_exit_code_and_nothing_else_is(result: object, code: int) -> None:
    assert leave(lambda: result) == code


def test_ctx_exit_is_the_exit_code() -> None:
    assert leave(lambda: click.get_current_context().exit(4)) == 4


def test_our_error_is_told_with_hints_and_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(raising(RefusedByTestError("no").with_hint("try a").with_hint("or b"))) == 3
    captured = capsys.readouterr()
    assert captured.err == "error: no\nhint: try a\nhint: or b\n"
    assert captured.out == ""


def test_every_line_of_a_long_error_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    error = DocumentError("image.yaml", (Problem("a", "is missing"), Problem("b", "is odd")))
    assert leave(raising(error)) == 2
    assert capsys.readouterr().err == "error: image.yaml: a: is missing\n  image.yaml: b: is odd\n"


def test_error_without_text_is_still_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(raising(TwinhullError())) == 1
    assert capsys.readouterr().err == "error: \n"


def test_wrong_usage_exits_2_and_points_to_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(lambda: None, ("--wrong",)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: No such option")
    assert "hint: prog --help" in err


def test_group_without_command_shows_its_help_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    @click.group()
    def group() -> None:
        """Do things."""

    with pytest.raises(SystemExit) as caught:
        run_command(group, prog_name="prog", argv=[])
    assert caught.value.code == 2
    assert "Do things." in capsys.readouterr().err


def test_other_click_error_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(raising(click.ClickException("bad"))) == 1
    assert capsys.readouterr().err == "error: bad\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interruption_exits_130(error: BaseException) -> None:
    assert leave(raising(error)) == 130


def test_os_error_names_path_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(raising(FileNotFoundError(2, "No such file or directory", "/nowhere"))) == 1
    assert capsys.readouterr().err == "error: /nowhere: No such file or directory\n"
    assert leave(raising(OSError(18, "Invalid cross-device link", "/a", None, "/b"))) == 1
    assert capsys.readouterr().err == "error: /a -> /b: Invalid cross-device link\n"
    assert leave(raising(OSError("odd"))) == 1
    assert capsys.readouterr().err == "error: odd\n"


def test_programming_error_is_not_hidden() -> None:
    @click.command()
    def command() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_command(command, prog_name="prog", argv=[])


TERMINATED = """
import os, signal, click
from bedrock.cli import run_command
@click.command()
def command():
    click.echo("begun")
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    finally:
        click.echo("cleaned up")
run_command(command, prog_name="prog", argv=[])
"""


def test_sigterm_cleans_up_and_then_ends_the_process_as_a_signal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "begun\ncleaned up\n", "")


def test_signal_handling_is_put_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    during = []
    assert leave(lambda: during.append(signal.getsignal(signal.SIGTERM))) == 0
    assert during != [before]
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_color_is_honoured_even_when_colour_is_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda _stream=None, color=None: color is False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    leave(raising(TwinhullError("x")))
    assert "\x1b[" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    leave(raising(TwinhullError("x")))
    assert capsys.readouterr().err == "error: x\n"


PROGRAM = """
import click
from bedrock.cli import run_command
@click.command()
@click.option("--lines", type=int)
def command(lines):
    for number in range(lines):
        click.echo("x" * 99)
run_command(command, prog_name="prog")
"""


@pytest.mark.parametrize("lines", [1, 20_000])
def test_closed_pipe_ends_the_program_quietly(lines: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, f"--lines={lines}"],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@dataclass(frozen=True)
class Value:
    name: str
    path: Path


def test_json_goes_to_stdout_whole(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    @json_option
    def command(*, as_json: bool) -> None:
        if as_json:
            emit_json({"b": Value("ä", Path("/x")), "a": [1, None]})

    with pytest.raises(SystemExit) as caught:
        run_command(command, prog_name="prog", argv=["--json"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": [1, None], "b": {"name": "ä", "path": "/x"}}
    assert "ä" in out
    assert out.endswith("}\n")
