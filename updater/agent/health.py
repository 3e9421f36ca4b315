"""Decides whether this boot is healthy: bounded checks, repeated until the patience is used up.

A check raises a `TwinhullError` (or `OSError`) that says what is wrong; nothing else decides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bedrock import process
from bedrock.clock import Clock
from bedrock.errors import TwinhullError
from updater.agent.config import Engine, Health

DETAIL_LIMIT = 500
_ENGINES: dict[Engine, tuple[str, ...]] = {
    Engine.PODMAN: ("podman", "ps", "--quiet"),
    Engine.DOCKER: ("docker", "ps", "--quiet"),
    Engine.CONTAINERD: ("ctr", "containers", "list", "--quiet"),
    Engine.NONE: (),
}


@dataclass(frozen=True)
class Check:
    """One check; `run` raises when it fails."""

    name: str
    run: Callable[[], None]


@dataclass(frozen=True)
class CheckResult:
    """How a check ended, after how many tries, and how long its last try took."""

    name: str
    ok: bool
    detail: str
    tries: int
    seconds: float


def configured_checks(config: Health, refresh: Callable[[], None] | None) -> tuple[Check, ...]:
    """The checks of a configuration; `refresh` asks the update server (None: this host has no server)."""
    checks = [Check(f"unit {unit}", partial(unit_is_active, unit, config.timeout)) for unit in config.units]
    if command := _ENGINES[config.engine]:
        checks.append(Check(f"{config.engine.value} answers", partial(engine_answers, command, config.timeout)))
    if config.server and refresh is not None:
        checks.append(Check("update server answers", refresh))
    checks += [
        Check(f"check {path.name}", partial(own_check_passes, path, config.timeout))
        for path in own_checks(config.checks_dirs)
    ]
    return tuple(checks)


def own_checks(folders: Sequence[str]) -> tuple[Path, ...]:
    """The executables in the folders, by name; of two with the same name the later folder's counts."""
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_file() and os.access(path, os.X_OK) and not path.name.startswith("."):
                found[path.name] = path
    return tuple(found[name] for name in sorted(found))


def unit_is_active(unit: str, timeout_s: float) -> None:
    """Check that a systemd unit is active.

    Raises:
        TwinhullError: It is not.
    """
    state = process.run(("systemctl", "is-active", unit), timeout_s=timeout_s, check=False).stdout.strip()
    if state != "active":
        raise TwinhullError(f"it is {state or 'unknown'}")


def engine_answers(command: Sequence[str], timeout_s: float) -> None:
    """Check that the container engine can list its containers with this command.

    Raises:
        ProcessError: It cannot.
    """
    process.run(command, timeout_s=timeout_s)


def own_check_passes(path: Path, timeout_s: float) -> None:
    """Check that an operator's executable exits with 0.

    Raises:
        ProcessError: It does not, or not in time.
    """
    process.run((path,), timeout_s=timeout_s)


def run_checks(
    checks: Sequence[Check], config: Health, clock: Clock, report: Callable[[CheckResult], None]
) -> tuple[CheckResult, ...]:
    """Run all checks; failed ones are repeated until they pass or the patience is used up.

    Every result is passed to `report` when it is final.
    """
    deadline = clock.steady() + config.patience
    results: dict[str, CheckResult] = {}
    waiting = list(checks)
    tries = 0
    while waiting:
        tries += 1
        last = clock.steady() >= deadline
        for check in list(waiting):
            result = _run_one(check, tries, clock)
            if result.ok or last:
                waiting.remove(check)
                results[check.name] = result
                report(result)
        if waiting:
            clock.sleep(config.retry_interval)
    return tuple(results[check.name] for check in checks)


def failure_text(results: Sequence[CheckResult]) -> str:
    """All failed checks in one line; empty when there is none."""
    return "; ".join(f"{result.name}: {result.detail}" for result in results if not result.ok)


def _run_one(check: Check, tries: int, clock: Clock) -> CheckResult:
    started = clock.steady()
    try:
        check.run()
    except (TwinhullError, OSError) as error:
        detail = " ".join(str(error).split())[:DETAIL_LIMIT]
        return CheckResult(check.name, ok=False, detail=detail, tries=tries, seconds=clock.steady() - started)
    return CheckResult(check.name, ok=True, detail="", tries=tries, seconds=clock.steady() - started)
