"""How a Twinhull program starts and ends: errors become lines on stderr and an exit code, results go to stdout.

Both programs use it, so it needs nothing but click.  It is the only place that turns exceptions into exit codes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import click
from click.shell_completion import ShellComplete, get_completion_class

from bedrock import strict
from bedrock.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, DocumentError, TwinhullError
from bedrock.progress import LineProgress

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM

Command = TypeVar("Command", bound=Callable[..., Any])


def run_command(
    command: click.Command, *, prog_name: str, argv: Sequence[str] | None = None, obj: object = None
) -> NoReturn:
    """Run a click command as a program and leave the process.

    The exit code is 0, or what the command returned (an int) or passed to `ctx.exit`; for an error it is the error's
    own `exit_code`, 2 for wrong usage, 130 for Ctrl-C, and 1 for an error of the operating system.  SIGTERM unwinds
    the stack, so that clean-up runs, and then ends the process by the same signal, which is how systemd tells an
    orderly stop from a failure.

    Args:
        command: The command or group.
        prog_name: The name shown in help texts.
        argv: The arguments; those of the process when None.
        obj: What commands work with instead of what they would make themselves (`click.Context.find_object`).
    """
    try:
        with _unwinding_on_sigterm():
            code = _invoke(command, prog_name, argv, obj)
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        code = EXIT_FAILED
    except _TerminatedError:
        _die_of_sigterm()
        code = EXIT_TERMINATED
    sys.exit(code)


class FromText(click.ParamType[Any]):
    """A command-line value that its class parses from text."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; an error of the parser becomes wrong usage with the same message."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (ValueError, DocumentError) as error:
            self.fail(str(error), param, ctx)


def emit_json(value: object) -> None:
    """Print a value (dataclasses, enums and paths included) as JSON on stdout: sorted keys, UTF-8, a final newline."""
    click.echo(strict.dump_json(value), nl=False)


def json_option(command: Command) -> Command:
    """Add `--json` to a command; it arrives as the keyword `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for programs.")(command)


def line_progress(*, tenths: bool = False) -> LineProgress:
    """Progress on stderr: one line redrawn on a terminal, plain lines elsewhere.

    Args:
        tenths: Whether plain lines say how far a step is, too.
    """

    def say(line: str) -> None:
        click.echo(line, err=True)

    if not sys.stderr.isatty():
        return LineProgress(say, far=say if tenths else None)
    return LineProgress(
        lambda line: say(f"\r\033[K{line}"), far=lambda line: click.echo(f"\r\033[K{line}", err=True, nl=False)
    )


def completion_command(program: click.Command, prog_name: str) -> click.Command:
    """The command `completion SHELL` of a program, which prints the script that completes its command lines."""

    @click.command("completion")
    @click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
    def completion(shell: str) -> None:
        kind = get_completion_class(shell)
        if kind is None:
            raise click.UsageError(f"there is no completion for {shell}")
        variable = f"_{prog_name.upper()}_COMPLETE"
        # The base class's: the one for bash starts a bash only to warn of versions before 4.4.
        click.echo(ShellComplete.source(kind(program, {}, prog_name, variable)).strip())

    completion.help = f"""Print the completion script for {prog_name} in SHELL.

    \b
    Example:
      source <({prog_name} completion bash)                 # in ~/.bashrc; zsh alike
      {prog_name} completion fish > ~/.config/fish/completions/{prog_name}.fish
    """
    return completion


def print_error(message: str, hints: Sequence[str] = ()) -> None:
    """Print `error: …` and one `hint: …` line per hint on stderr, coloured on a terminal unless NO_COLOR is set."""
    first, *rest = message.splitlines() or [""]
    _line("error", "red", first)
    for line in rest:
        click.echo(f"  {line}", err=True, color=_color())
    for hint in hints:
        _line("hint", "cyan", hint)


def _invoke(command: click.Command, prog_name: str, argv: Sequence[str] | None, obj: object) -> int:
    try:
        result = command.main(args=argv, prog_name=prog_name, standalone_mode=False, obj=obj)
    except TwinhullError as error:
        print_error(str(error), error.hints)
        return error.exit_code
    except click.UsageError as error:
        return _wrong_usage(error)
    except click.ClickException as error:
        print_error(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print_error("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        print_error(_os_message(error))
        return EXIT_FAILED
    # `True` is an int too, but nobody means exit code 1 by it.
    return result if isinstance(result, int) and not isinstance(result, bool) else EXIT_DONE


def _wrong_usage(error: click.UsageError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True, color=_color())
        return EXIT_USAGE
    hints = (f"{error.ctx.command_path} --help says how it is used",) if error.ctx is not None else ()
    print_error(error.format_message(), hints)
    return EXIT_USAGE


def _os_message(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    reason = error.strerror or str(error) or type(error).__name__
    return f"{' -> '.join(names)}: {reason}" if names else reason


def _line(label: str, color: str, text: str) -> None:
    click.echo(f"{click.style(f'{label}:', fg=color, bold=True)} {text}", err=True, color=_color())


def _color() -> bool | None:
    # https://no-color.org: set and not empty means none; None lets click ask whether stderr is a terminal.
    return False if os.environ.get("NO_COLOR") else None


@contextmanager
def _unwinding_on_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _TerminatedError(SystemExit):
    """SIGTERM came; a SystemExit, so that nothing on the way takes it for a failure."""


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise _TerminatedError(EXIT_TERMINATED)


def _die_of_sigterm() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The reader may be gone already, and then nobody is left to report this to.
        with suppress(OSError):
            stream.flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def _drop_stdout() -> None:
    # What is still buffered would fail again, loudly, when the interpreter flushes at its end.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
