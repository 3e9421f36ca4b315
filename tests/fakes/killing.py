"""Ends a process with SIGKILL right before its n-th step on the disk: a file opened to write, renamed, removed, synced.

The process is forked from this one, so that every step of a command can be tried in milliseconds; the command itself is
the real one, from its arguments to its exit code.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bedrock.cli import run_command

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ON_NAMES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.chmod"})
_MARK = "\0"


@dataclass(frozen=True)
class Ended:
    """How a process ended: killed, or with an exit code; and what it printed."""

    killed: bool
    exit_code: int
    said: str


def run(program: click.Command, *lines: Sequence[str], folder: Path, kill_at: int = 0) -> tuple[Ended, ...]:
    """Run command lines in a process of their own; kill it right before its step `kill_at` (from 1) below a folder."""
    out = folder.parent / f"{folder.name}.said"
    child = os.fork()
    if not child:
        _run_here(program, lines, folder, kill_at, out)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            raise AssertionError(f"ended by signal {os.WTERMSIG(status)}: {out.read_text()}")
        return (Ended(killed=True, exit_code=-1, said=out.read_text()),)
    if os.WEXITSTATUS(status):
        raise AssertionError(out.read_text())
    *said, codes = out.read_text().split(_MARK)
    return tuple(
        Ended(killed=False, exit_code=code, said=text) for code, text in zip(json.loads(codes), said, strict=True)
    )


def _run_here(program: click.Command, lines: Sequence[Sequence[str]], folder: Path, kill_at: int, out: Path) -> None:
    """The child's part; it never returns."""
    try:
        # A collection would copy every page of the parent.
        gc.disable()
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for stream in (1, 2):
            os.dup2(handle, stream)
        sys.stdout = sys.stderr = os.fdopen(handle, "w")
        _kill_at(kill_at, folder)
        codes = [_exit_code(program, words) for words in lines]
        sys.stdout.write(json.dumps(codes))
        sys.stdout.flush()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the parent reads it
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(1)


def _exit_code(program: click.Command, words: Sequence[str]) -> int:
    try:
        run_command(program, prog_name="twinhull", argv=words)
    except SystemExit as ended:
        sys.stdout.write(_MARK)
        return ended.code if isinstance(ended.code, int) else 1


def _kill_at(step: int, folder: Path) -> None:
    """Count the steps; 0 is never reached."""
    left = step
    below = f"{folder}/"

    def step_on(path: Any) -> None:
        nonlocal left
        if not isinstance(path, str | bytes | os.PathLike) or not f"{os.fsdecode(path)}/".startswith(below):
            return
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _ON_NAMES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            step_on(arguments[0])

    def counted(fd: Any) -> None:
        # What a killed process wrote stays, synced or not.
        step_on(Path(f"/proc/self/fd/{fd if isinstance(fd, int) else fd.fileno()}").readlink())

    sys.addaudithook(hook)
    os.fsync = counted
