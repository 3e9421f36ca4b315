"""Decides whether this boot is healthy: bounded checks, repeated until the patience is used up.

A check raises a `TwinhullError` (or `OSError`) that says what is wrong; nothing else decides.
A check that failed by something that is not the image's doing (`undecided`) delays the judgement and does not make it.
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
from updater.errors import FetchError, RefusedError

DETAIL_LIMIT = 500
# How long systemd may take to start a unit, besides the time that the check itself has.
UNIT_START_S = 30.0
RunCheck = Callable[[Sequence[str | Path], float], None]
SERVER_CHECK = "update server answers"
_ENGINES: dict[Engine, tuple[str, ...]] = {
    Engine.PODMAN: ("podman", "ps", "--quiet"),
    Engine.DOCKER: ("docker", "ps", "--quiet"),
    Engine.CONTAINERD: ("ctr", "containers", "list", "--quiet"),
    Engine.NONE: (),
}


@dataclass(frozen=True)
class Check:
    """One check; `run` raises when it fails, and errors of the classes in `undecided` say nothing of the image."""

    name: str
    run: Callable[[], None]
    undecided: tuple[type[Exception], ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """How a check ended, after how many tries, and how long its last try took.

    `undecided`: it failed, and what it failed by is not the image's doing.
    """

    name: str
    ok: bool
    detail: str
    tries: int
    seconds: float
    undecided: bool = False


def in_own_unit(words: Sequence[str | Path], timeout_s: float) -> None:
    """Run a program as a unit of its own: with all rights, which the agent does not have.

    Raises:
        ProcessError: It failed, or did not end in time.
    """
    unit = ("systemd-run", "--wait", "--pipe", "--collect", "--quiet", f"--property=RuntimeMaxSec={timeout_s:g}")
    process.run((*unit, "--", *words), timeout_s=timeout_s + UNIT_START_S)


def directly(words: Sequence[str | Path], timeout_s: float) -> None:
    """Run a program with the rights of this one.

    Raises:
        ProcessError: It failed, or did not end in time.
    """
    process.run(words, timeout_s=timeout_s)


def configured_checks(
    config: Health, refresh: Callable[[], None] | None, run: RunCheck = in_own_unit
) -> tuple[Check, ...]:
    """The checks of a configuration.

    Args:
        config: Which.
        refresh: Asks the update server; None when this host has none.
        run: How programs are run.
    """
    checks = [Check(f"unit {unit}", partial(unit_is_active, unit, config.timeout)) for unit in config.units]
    if command := _ENGINES[config.engine]:
        checks.append(Check(f"{config.engine.value} answers", partial(run, command, config.timeout)))
    if config.server and refresh is not None:
        checks.append(Check(SERVER_CHECK, refresh, undecided=(FetchError, RefusedError)))
    checks += [
        Check(f"check {path.name}", partial(run, (path,), config.timeout)) for path in own_checks(config.checks_dirs)
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


def run_checks(
    checks: Sequence[Check],
    config: Health,
    clock: Clock,
    report: Callable[[CheckResult], None],
    on_wait: Callable[[], None] = lambda: None,
) -> tuple[CheckResult, ...]:
    """Run all checks; failed ones are repeated until they pass or the patience is used up.

    Checks that may stay undecided come last, once all others have passed, and with the server's patience; when another
    one failed, they are not run.

    Args:
        checks: What to run.
        config: How patient to be.
        clock: Measures that.
        report: Is given each result when it is final.
        on_wait: Called before the first check that may stay undecided, which may take long by itself.
    """
    sure = [check for check in checks if not check.undecided]
    results = _run_until(sure, config, clock, report)
    rest = [check for check in checks if check.undecided]
    if rest and all(result.ok for result in results.values()):
        on_wait()
        results |= _run_until(rest, config, clock, report)
    return tuple(results[check.name] for check in checks if check.name in results)


def _run_until(
    checks: Sequence[Check], config: Health, clock: Clock, report: Callable[[CheckResult], None]
) -> dict[str, CheckResult]:
    began = clock.steady()
    results: dict[str, CheckResult] = {}
    waiting = list(checks)
    tries = 0
    while waiting:
        tries += 1
        waited = clock.steady() - began
        for check in list(waiting):
            result = _run_one(check, tries, clock)
            if result.ok or waited >= (config.server_patience if result.undecided else config.patience):
                waiting.remove(check)
                results[check.name] = result
                report(result)
        if waiting:
            clock.sleep(config.retry_interval)
    return results


def failure_text(results: Sequence[CheckResult]) -> str:
    """All failed checks in one line; empty when there is none."""
    return "; ".join(f"{result.name}: {result.detail}" for result in results if not result.ok)


def is_undecided(results: Sequence[CheckResult]) -> bool:
    """Whether checks failed, and none of them by the image's doing."""
    failed = [result for result in results if not result.ok]
    return bool(failed) and all(result.undecided for result in failed)


def _run_one(check: Check, tries: int, clock: Clock) -> CheckResult:
    started = clock.steady()
    try:
        check.run()
    except (TwinhullError, OSError) as error:
        detail = " ".join(str(error).split())[:DETAIL_LIMIT]
        return CheckResult(
            check.name,
            ok=False,
            detail=detail,
            tries=tries,
            seconds=clock.steady() - started,
            undecided=isinstance(error, check.undecided),
        )
    return CheckResult(check.name, ok=True, detail="", tries=tries, seconds=clock.steady() - started)
