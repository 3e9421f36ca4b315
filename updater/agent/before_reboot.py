"""Who is asked before a reboot: programs of the host, and whoever holds an inhibitor of systemd-logind.

Programs are the executables in `/usr/lib/twinhull/before-reboot.d` and `/etc/twinhull/before-reboot.d`, in the order of
their names; each runs as root in a unit of its own with a time limit.  One that exits with `EXIT_NOT_NOW` asks to wait,
and may be run again later; anything else but 0 is logged and changes nothing.
Inhibitors: logind's `ListInhibitors` (org.freedesktop.login1(5)); those that block a shutdown ask to wait, and those
that only delay one get their time from logind itself.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedrock import process
from bedrock.errors import TwinhullError
from partitions.version import Version
from updater.agent.checks import UNIT_START_S, executables

# EX_TEMPFAIL of sysexits.h: try again later.
EXIT_NOT_NOW = 75
LOGIND_TIMEOUT_S = 30.0
HOOK_FOLDERS = ("usr/lib/twinhull/before-reboot.d", "etc/twinhull/before-reboot.d")
_BLOCKING = ("block", "block-weak")
_LIST = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "ListInhibitors")
_log = logging.getLogger(__name__)

RunHook = Callable[[Path, Mapping[str, str], float], process.Finished]
"""Runs a program with additions to its environment and a time limit in seconds.  Raises ProcessError."""


@dataclass(frozen=True)
class Change:
    """What a reboot is for: from the running version to this one."""

    source: Version
    target: Version


@dataclass(frozen=True)
class Surroundings:
    """What is asked before a reboot.

    Attributes:
        hooks: The programs, in order.
        run: Runs one of them.
        inhibitors: Who inhibits a shutdown, in words.  Raises TwinhullError when that cannot be found out.
    """

    hooks: Callable[[], Sequence[Path]]
    run: RunHook
    inhibitors: Callable[[], tuple[str, ...]]

    def ask(self, change: Change, *, timeout_s: float, last_call: bool) -> tuple[str, ...]:
        """Everybody who asks to wait, in words; empty when the host may reboot.

        Args:
            change: What the reboot is for.
            timeout_s: How long one program may take.
            last_call: Whether the reboot follows in any case: every program is run then.
        """
        first = self._inhibitors()
        if first and not last_call:
            return first
        asked_by = []
        for hook in self.hooks():
            if self._asks_to_wait(hook, change, timeout_s=timeout_s, last_call=last_call):
                asked_by.append(f"{hook} says not now")
                if not last_call:
                    return tuple(asked_by)
        # The programs may have taken minutes.
        return (*asked_by, *(first if last_call else self._inhibitors()))

    def _asks_to_wait(self, hook: Path, change: Change, *, timeout_s: float, last_call: bool) -> bool:
        environment = {
            "TWINHULL_FROM_VERSION": str(change.source),
            "TWINHULL_TO_VERSION": str(change.target),
            "TWINHULL_LAST_CALL": "1" if last_call else "0",
        }
        try:
            done = self.run(hook, environment, timeout_s)
        except (TwinhullError, OSError) as error:
            _log.warning("before the reboot: %s: %s", hook, error)
            return False
        if done.returncode == EXIT_NOT_NOW:
            return True
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())[-500:]
            _log.warning("before the reboot: %s ended with exit code %s: %s", hook, done.returncode, said)
        return False

    def _inhibitors(self) -> tuple[str, ...]:
        try:
            return self.inhibitors()
        except (TwinhullError, OSError) as error:
            _log.warning("who inhibits a shutdown cannot be found out: %s", error)
            return ()


def hooks_below(root: Path) -> tuple[Path, ...]:
    """The programs of a host, by name; of two with the same name the one below `/etc` counts."""
    found = {path.name: path for folder in HOOK_FOLDERS for path in executables(root / folder)}
    return tuple(found[name] for name in sorted(found))


def run_in_own_unit(hook: Path, environment: Mapping[str, str], timeout_s: float) -> process.Finished:
    """Run a program as a unit of its own, with all rights.

    Raises:
        ProcessError: It cannot be started, or systemd does not end it.
    """
    words = ("systemd-run", "--wait", "--pipe", "--collect", "--quiet", f"--property=RuntimeMaxSec={timeout_s:g}")
    given = [f"--setenv={name}={value}" for name, value in environment.items()]
    return process.run((*words, *given, "--", hook), timeout_s=timeout_s + UNIT_START_S, check=False)


def run_directly(hook: Path, environment: Mapping[str, str], timeout_s: float) -> process.Finished:
    """Run a program with the rights of this one.

    Raises:
        ProcessError: It cannot be started, or does not end in time.
    """
    return process.run((hook,), timeout_s=timeout_s, env=environment, check=False)


def ask_logind() -> tuple[str, ...]:
    """Who inhibits a shutdown, in words.

    Raises:
        TwinhullError: logind does not answer, or not as its interface says.
    """
    words = ("busctl", "--system", "--json=short", "call", *_LIST)
    return blocking(process.run(words, timeout_s=LOGIND_TIMEOUT_S).stdout)


def blocking(answer: str) -> tuple[str, ...]:
    """Those of logind's inhibitors that block a shutdown, from what `busctl --json=short` printed.

    Raises:
        TwinhullError: It is not the answer of `ListInhibitors`, an array of (what, who, why, mode, uid, pid).
    """
    try:
        (listed,) = json.loads(answer)["data"]
        found = [(str(what).split(":"), str(who), str(why), str(mode)) for what, who, why, mode, _uid, _pid in listed]
    except (ValueError, LookupError, TypeError) as error:
        raise TwinhullError(f"logind's answer is not understood: {answer[:100]!r}") from error
    return tuple(
        f"{who} inhibits a shutdown: {why}"
        for what, who, why, mode in found
        if "shutdown" in what and mode in _BLOCKING
    )
