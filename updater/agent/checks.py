"""The health checks of a host, made from its settings.  Each looks once when it is asked to; nothing here judges.

A look raises a `TwinhullError` (or `OSError`) that says what is wrong, else it returns a mark: text that changes when
what is checked was started anew since the look before.
An error of the classes in `undecided` is not the image's doing: it delays the judgement and does not make it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bedrock import process
from bedrock.errors import TwinhullError
from updater.agent import units
from updater.agent.health_settings import CheckSettings, Engine, Health, Need
from updater.errors import FetchError, RefusedError

# How long systemd may take to start a unit, besides the time that the check itself has.
UNIT_START_S = 30.0
SERVER_CHECK = "update server answers"
FAILED_CHECK = "no unit failed"
WANTED_FOLDER = "wanted.d"
_ENGINES: dict[Engine, tuple[str, ...]] = {
    Engine.PODMAN: ("podman", "ps", "--quiet"),
    Engine.DOCKER: ("docker", "ps", "--quiet"),
    Engine.CONTAINERD: ("ctr", "containers", "list", "--quiet"),
    Engine.NONE: (),
}
RunCheck = Callable[[Sequence[str | Path], float], str]
"""Runs a program with a time limit in seconds; what it printed.  Raises ProcessError."""


@dataclass(frozen=True)
class Check:
    """One check; `asked` says in words or as a command what `look` looks at.

    `writes`: it fails, whatever the image is like, while `/var` takes nothing.
    """

    name: str
    asked: str
    look: Callable[[], str]
    need: Need = Need.REQUIRED
    undecided: tuple[type[Exception], ...] = ()
    writes: bool = False


def in_own_unit(words: Sequence[str | Path], timeout_s: float) -> str:
    """Run a program as a unit of its own: with all rights, which the agent does not have.

    Raises:
        ProcessError: It failed, or did not end in time.
    """
    unit = ("systemd-run", "--wait", "--pipe", "--collect", "--quiet", f"--property=RuntimeMaxSec={timeout_s:g}")
    return process.run((*unit, "--", *words), timeout_s=timeout_s + UNIT_START_S).stdout


def directly(words: Sequence[str | Path], timeout_s: float) -> str:
    """Run a program with the rights of this one.

    Raises:
        ProcessError: It failed, or did not end in time.
    """
    return process.run(words, timeout_s=timeout_s).stdout


def configured_checks(
    config: Health, refresh: Callable[[], None] | None, run: RunCheck = in_own_unit
) -> tuple[Check, ...]:
    """The checks of a configuration.

    Args:
        config: Which.
        refresh: Asks the update server; None when this host has none.
        run: How programs are run.
    """
    checks = list(_own_checks(config, run))
    if command := _ENGINES[config.engine]:
        look = partial(_program, run, command, config.timeout)
        checks.insert(0, Check(f"{config.engine.value} answers", " ".join(command), look, writes=True))
    if config.failed_units.need is not Need.NONE:
        look = partial(_no_unit_failed, config.failed_units.ignored, config.timeout)
        checks.insert(0, Check(FAILED_CHECK, "systemctl --failed", look, config.failed_units.need, writes=True))
    if config.server and refresh is not None:
        asked = "the repository's newest metadata"
        checks.append(Check(SERVER_CHECK, asked, partial(_refreshed, refresh), undecided=(FetchError, RefusedError)))
    return tuple(checks)


def without_room(checks: Sequence[Check], reason: str) -> tuple[Check, ...]:
    """The checks while `/var` takes nothing: those that write to it are looked at and decide nothing."""
    return tuple(
        replace(check, need=Need.WANTED, asked=f"{check.asked}; decides nothing, because {reason}")
        if check.writes
        else check
        for check in checks
    )


def _own_checks(config: Health, run: RunCheck) -> Iterator[Check]:
    """Those of the settings, then the programs of the folders; what the settings say of a program there counts."""
    for name, wanted in config.checks.items():
        if wanted.need is not Need.NONE:
            yield _check_of(name, wanted, config, run)
    named = {wanted.program for wanted in config.checks.values()}
    for path, need in programs(config.checks_dirs):
        if str(path) not in named:
            yield Check(f"check {path.name}", str(path), partial(_program, run, (path,), config.timeout), need)


def _check_of(name: str, wanted: CheckSettings, config: Health, run: RunCheck) -> Check:
    limit = wanted.timeout or config.timeout
    if wanted.unit is not None:
        return Check(name, f"unit {wanted.unit} is active", partial(_unit, wanted.unit, limit), wanted.need)
    if wanted.container is not None:
        command = (config.engine.value, "container", "inspect", wanted.container)
        asked = f"container {wanted.container} runs and is healthy"
        return Check(name, asked, partial(_container, run, command, limit), wanted.need, writes=True)
    program = str(wanted.program)
    return Check(name, program, partial(_program, run, (program,), limit), wanted.need)


def programs(folders: Sequence[str]) -> tuple[tuple[Path, Need], ...]:
    """The executables in the folders, by name; of two with the same name the later folder's counts."""
    found: dict[str, tuple[Path, Need]] = {}
    for folder in map(Path, folders):
        for inner, need in ((folder, Need.REQUIRED), (folder / WANTED_FOLDER, Need.WANTED)):
            found |= {path.name: (path, need) for path in executables(inner)}
    return tuple(found[name] for name in sorted(found))


def executables(folder: Path) -> tuple[Path, ...]:
    """The executable files of a folder by their names, those that begin with a dot left out."""
    return tuple(
        path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if path.is_file() and os.access(path, os.X_OK) and not path.name.startswith(".")
    )


def _unit(name: str, timeout_s: float) -> str:
    return units.require_active(units.ask_unit(name, timeout_s))


def _no_unit_failed(ignore: Sequence[str], timeout_s: float) -> str:
    return units.require_none_failed(units.ask_all(timeout_s), ignore)


def _program(run: RunCheck, words: Sequence[str | Path], timeout_s: float) -> str:
    run(words, timeout_s)
    return ""


def _refreshed(refresh: Callable[[], None]) -> str:
    refresh()
    return ""


def _container(run: RunCheck, words: Sequence[str | Path], timeout_s: float) -> str:
    return container_mark(run(words, timeout_s))


def container_mark(inspected: str) -> str:
    """The mark of a container that runs and is not ill, from what `podman container inspect` or Docker's prints.

    Raises:
        TwinhullError: It does not run, its health check has not passed, or this is not such a text.
    """
    try:
        found: dict[str, Any] = json.loads(inspected)[0]
        state: dict[str, Any] = found["State"]
        running, status = bool(state["Running"]), str(state.get("Status", ""))
        health = state.get("Health") or state.get("Healthcheck") or {}
        ailing = str(health.get("Status") or "healthy")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise TwinhullError(f"the engine's answer is not understood: {inspected[:100]!r}") from error
    if not running:
        raise TwinhullError(f"it is {status or 'not running'}, exit code {state.get('ExitCode', 'unknown')}")
    if ailing not in ("healthy", "none"):
        raise TwinhullError(f"its health check says {ailing}")
    return f"{state.get('StartedAt', '')}/{found.get('RestartCount', 0)}"
