"""The one gate through which Twinhull starts other programs.

Rules: an argument list, never a shell; an explicit environment, of which only essentials like `PATH` are inherited;
every run is bounded in time; a failure carries the tail of what the program printed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from bedrock.errors import ProcessError

TAIL_LINES = 30
LINE_WIDTH = 300
_KEPT = ("PATH", "HOME", "TMPDIR", "TERM", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Argument = str | Path
Running = subprocess.Popen[bytes]
"""A program that `start` started."""
StillRunningError = subprocess.TimeoutExpired
"""Raised by `Running.wait` when the program has not ended in time."""
DEVNULL: Final = subprocess.DEVNULL
STDOUT: Final = subprocess.STDOUT


@dataclass(frozen=True)
class Finished:
    """How a program ended and what it printed (`stderr` is empty when it was merged or logged)."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment a child gets: the kept names of ours, a fixed locale, and `extra` over them."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {"PATH": _DEFAULT_PATH, "LC_ALL": "C.UTF-8", **kept, **(extra or {})}


def run(
    argv: Sequence[Argument],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    log: Path | None = None,
    check: bool = True,
) -> Finished:
    """Run a program to its end.

    Args:
        argv: Program and arguments.
        timeout_s: Longest time it may run; past it the program is killed.
        env: Names added to the child's environment.
        cwd: Folder to run in.
        stdin: Bytes to feed; nothing (an empty input) when None.
        log: File that receives stdout and stderr, appended; the result then carries no output.
        check: Raise when the exit code is not 0.

    Raises:
        ProcessError: It could not be started, ran too long, or (with `check`) failed.
    """
    words = tuple(str(word) for word in argv)
    try:
        if log is not None:
            with log.open("ab") as sink:
                done = _run(words, timeout_s=timeout_s, env=env, cwd=cwd, stdin=stdin, sink=sink)
        else:
            done = _run(words, timeout_s=timeout_s, env=env, cwd=cwd, stdin=stdin, sink=None)
    except subprocess.TimeoutExpired as error:
        raise ProcessError(f"{words[0]} was still running after {timeout_s:g} s", tail=_text(error.stderr)) from error
    except OSError as error:
        raise ProcessError(f"{words[0]} could not be started: {error.strerror}") from error
    if check and done.returncode != 0:
        shown = _tail(log.read_text(errors="replace")) if log else _tail(done.stderr or done.stdout)
        raise ProcessError(
            f"{words[0]} failed with exit code {done.returncode}", returncode=done.returncode, tail=shown
        )
    return done


def start(
    argv: Sequence[Argument],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = subprocess.STDOUT,
    pass_fds: Sequence[int] = (),
) -> Running:
    """Start a program that runs alongside us (a VM, a server); the caller ends it and waits for it.

    Raises:
        ProcessError: It could not be started.
    """
    words = tuple(str(word) for word in argv)
    try:
        return subprocess.Popen(
            words,
            env=environment(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
        )
    except OSError as error:
        raise ProcessError(f"{words[0]} could not be started: {error.strerror}") from error


def _run(
    words: tuple[str, ...],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: bytes | None,
    sink: IO[bytes] | None,
) -> Finished:
    done = subprocess.run(
        words,
        env=environment(env),
        cwd=cwd,
        input=stdin if stdin is not None else b"",
        stdout=sink if sink is not None else subprocess.PIPE,
        stderr=subprocess.STDOUT if sink is not None else subprocess.PIPE,
        timeout=timeout_s,
        check=False,
    )
    return Finished(words, done.returncode, _text(done.stdout), _text(done.stderr))


def _text(data: bytes | str | None) -> str:
    if data is None:
        return ""
    return data if isinstance(data, str) else data.decode(errors="replace")


def _tail(text: str) -> str:
    lines = text.rstrip().splitlines()[-TAIL_LINES:]
    return "\n".join(line if len(line) <= LINE_WIDTH else f"{line[:LINE_WIDTH]}…" for line in lines)
