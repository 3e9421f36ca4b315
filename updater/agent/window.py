"""When a host may reboot by itself.  Pure: no I/O, no clock.

A window opens at its time of day on each of its days and stays open for its length of elapsed time.  Where the clocks
are put forward over that time of day, it opens that much later on the clock; where they are put back over it, it opens
the first time only (PEP 495, fold 0).
Hosts of one window spread over it: each has its own place, a hash keyed with its id of the window's date.  A version
that is ready only when that moment has passed gets another place in what is left, so that it still boots inside.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from updater.agent.reboot_settings import Reboot, RebootPolicy, RebootWindow, WindowZone
from updater.week import occurrences

# The end of each window is kept free, so that whoever comes last still reboots inside.
SPREAD = 0.9


@dataclass(frozen=True)
class Opening:
    """A window on one of its days; `day` is the date on which it opens, in its own zone."""

    window: RebootWindow
    day: date
    opens: datetime
    closes: datetime


@dataclass(frozen=True)
class RebootMoment:
    """When a host reboots by itself, and why not before."""

    at: datetime
    why: str


def openings(windows: Sequence[RebootWindow], now: datetime, local: tzinfo) -> list[Opening]:
    """Every opening that has not closed, up to that of the next week, earliest first.

    Args:
        windows: The windows.
        now: The time.
        local: The host's own time zone.
    """
    found = [one for window in windows for one in _openings_of(window, now, local) if one.closes > now]
    return sorted(found, key=lambda one: (one.opens, one.closes))


def _openings_of(window: RebootWindow, now: datetime, local: tzinfo) -> Iterator[Opening]:
    zone = local if window.zone is WindowZone.LOCAL else UTC
    for day, opens in occurrences(window.start, window.days, zone, now.astimezone(zone).date()):
        yield Opening(window, day, opens, opens + timedelta(seconds=window.length))


def place(host_id: str, opening: Opening, *, purpose: str) -> float:
    """A host's place in [0, 1) in a window on one day."""
    message = f"{purpose}\0{opening.window}\0{opening.day.isoformat()}".encode()
    digest = hmac.digest(host_id.encode(), message, "sha256")
    # A float holds 53 bits exactly; with more, the highest values would round up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def turn(opening: Opening, host_id: str, ready: datetime | None) -> datetime:
    """This host's moment in an opening, for a version that has been ready since then (None: since long ago)."""
    length = opening.closes - opening.opens
    own = opening.opens + length * SPREAD * place(host_id, opening, purpose="turn")
    if ready is None or ready <= own:
        return own
    return ready + (opening.closes - ready) * SPREAD * place(host_id, opening, purpose="late")


def reboot_moment(
    now: datetime, reboot: Reboot, *, local: tzinfo, host_id: str, ready: datetime | None
) -> RebootMoment | None:
    """When a version that is staged reboots: `now` when it is due, or never by itself (None).

    Args:
        now: The time.
        reboot: The settings.
        local: The host's own time zone.
        host_id: Gives the host its place in a window.
        ready: Since when the version has been staged; None when that is not known.
    """
    if reboot.policy is RebootPolicy.MANUAL:
        return None
    if reboot.policy is RebootPolicy.IMMEDIATE:
        return RebootMoment(now, "at once, as the policy says")
    # A moment to come was noted by a clock that was wrong.
    since = None if ready is not None and ready > now else ready
    for opening in openings(reboot.windows, now, local):
        moment = turn(opening, host_id, since)
        if moment <= now:
            return RebootMoment(now, f"in the window that closes at {opening.closes:%Y-%m-%dT%H:%M:%SZ}")
        where = "is open" if opening.opens <= now else f"opens at {opening.opens:%Y-%m-%dT%H:%M:%SZ}"
        return RebootMoment(moment, f"the window of {opening.window} {where}, and this is the host's turn in it")
    return None
