"""The set-up's commands, called by the Makefile: `python3 -m setup host|rootless|venv|all|lock|forget`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bedrock.errors import TwinhullError
from setup import venv
from setup.cache import cache_folder, forget
from setup.host import ensure_host_packages
from setup.lock import make_locks

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code is 0, or the error's own."""
    parser = argparse.ArgumentParser(prog="python3 -m setup", description="Make this machine ready for Twinhull.")
    parser.add_argument(
        "command",
        choices=("host", "rootless", "venv", "all", "lock", "forget"),
        help="host: host packages; rootless: also those for builds without root; venv: the virtual environment; "
        "all: host and venv; "
        "lock: renew the lock files; forget: remove the environment and the cache",
    )
    command = parser.parse_args(arguments).command
    start = time.monotonic()
    try:
        _run(command)
    except TwinhullError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        for hint in error.hints:
            print(f"hint: {hint}", file=sys.stderr)
        return error.exit_code
    _say(f"{command} ready ({time.monotonic() - start:.0f} s)")
    return 0


def _run(command: str) -> None:
    if command in {"host", "all"}:
        ensure_host_packages(_say, log=ROOT / "out/setup/apt.log")
    if command == "rootless":
        ensure_host_packages(_say, log=ROOT / "out/setup/apt.log", rootless=True)
    if command in {"venv", "all"}:
        venv.ensure_venv(ROOT, _say)
    if command == "lock":
        make_locks(ROOT, _say, cache=cache_folder())
    if command == "forget":
        forget((ROOT / venv.FOLDER, cache_folder()), _say)


def _say(message: str) -> None:
    print(f"set-up: {message}", flush=True)
