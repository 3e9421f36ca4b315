"""What systemd says of its units, and what that means for a health check.  The judging is pure; three functions ask.

Source of the properties: org.freedesktop.systemd1(5).  A unit that was started again has another InvocationID, and one
that systemd itself restarted a higher NRestarts: between two looks it may have ended and come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bedrock import process
from bedrock.errors import ProcessError, TwinhullError

_PROPERTIES = "Id,LoadState,ActiveState,SubState,Result,InvocationID,NRestarts"
# A unit that systemd is about to start once more is as good as failed.
_FAILED_STATES = ("failed", "auto-restart", "auto-restart-queued")
_SHOWN = 8


@dataclass(frozen=True)
class UnitState:
    """One unit at one moment; `restarts` is how often systemd started it again by itself."""

    name: str
    load: str = ""
    active: str = ""
    sub: str = ""
    result: str = ""
    invocation: str = ""
    restarts: int = 0

    @property
    def mark(self) -> str:
        """Changes whenever the unit is started anew."""
        return f"invocation {self.invocation}, restarted {self.restarts} times"

    @property
    def text(self) -> str:
        """Its state in words."""
        if self.load == "not-found":
            return "it does not exist"
        if self.load == "masked":
            return "it is masked"
        result = f", {self.result}" if self.result not in ("", "success") else ""
        again = f", restarted {self.restarts} times" if self.restarts else ""
        return f"it is {self.active or 'unknown'} ({self.sub or 'unknown'}{result}{again})"


@dataclass(frozen=True)
class AllUnits:
    """The units that failed or are about to be started again, and how often each service was restarted."""

    failed: tuple[str, ...] = ()
    restarts: tuple[tuple[str, int], ...] = ()


def parse_units(text: str) -> tuple[UnitState, ...]:
    """The output of `systemctl show`: a block of KEY=VALUE lines for each unit, in the order they were asked for."""
    found = []
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" in values:
            restarts = values.get("NRestarts", "")
            found.append(
                UnitState(
                    values["Id"],
                    load=values.get("LoadState", ""),
                    active=values.get("ActiveState", ""),
                    sub=values.get("SubState", ""),
                    result=values.get("Result", ""),
                    invocation=values.get("InvocationID", ""),
                    restarts=int(restarts) if restarts.isdigit() else 0,
                )
            )
    return tuple(found)


def ask_unit(name: str, timeout_s: float) -> UnitState:
    """Ask systemd for one unit.

    Raises:
        ProcessError: systemd does not answer in time.
    """
    words = ("systemctl", "show", f"--property={_PROPERTIES}", "--", name)
    found = parse_units(process.run(words, timeout_s=timeout_s).stdout)
    return found[0] if found else UnitState(name)


def ask_all(timeout_s: float) -> AllUnits:
    """Ask systemd which units failed and which services it restarted.

    Raises:
        ProcessError: systemd does not answer in time.
    """
    states = ",".join(_FAILED_STATES)
    listed = process.run(
        ("systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager", f"--state={states}"),
        timeout_s=timeout_s,
    )
    shown = process.run(("systemctl", "show", "--property=Id,NRestarts", "*.service"), timeout_s=timeout_s)
    return AllUnits(
        failed=tuple(line.split()[0] for line in listed.stdout.splitlines() if line.strip()),
        restarts=tuple((unit.name, unit.restarts) for unit in parse_units(shown.stdout) if unit.restarts),
    )


def ask_started_s(timeout_s: float) -> float:
    """When systemd started, in seconds of the steady clock: after the initrd, whose repairs may take an hour.

    0.0, the start of the kernel, when systemd does not say: it may be what hangs.
    """
    try:
        shown = process.run(
            ("systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic"), timeout_s=timeout_s
        )
    except ProcessError:
        return 0.0
    text = shown.stdout.strip()
    return int(text) / 1e6 if text.isdigit() else 0.0


def require_active(unit: UnitState) -> str:
    """The mark of a unit that is active.

    Raises:
        TwinhullError: It is not.
    """
    if unit.active != "active":
        raise TwinhullError(unit.text)
    return unit.mark


def require_none_failed(units: AllUnits, ignore: Sequence[str]) -> str:
    """What changes when a service is restarted, if no unit failed; those that match a pattern do not count.

    Raises:
        TwinhullError: Some failed.
    """
    failed = _without(units.failed, ignore)
    if failed:
        more = f" and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        raise TwinhullError(f"{', '.join(failed[:_SHOWN])}{more} failed")
    counted = set(_without((name for name, _ in units.restarts), ignore))
    return " ".join(f"{name}:{count}" for name, count in sorted(units.restarts) if name in counted)


def _without(names: Iterable[str], ignore: Sequence[str]) -> list[str]:
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in ignore)]
