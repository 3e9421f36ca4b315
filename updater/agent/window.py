"""When a host may reboot by itself.  Pure: no I/O, no clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from updater.agent.config import Reboot, RebootPolicy


def reboot_at(now: datetime, reboot: Reboot) -> datetime | None:
    """The next moment a reboot is allowed: `now`, the start of the next window, or never (None).

    The window is a time of day in UTC; it may cross midnight.
    """
    if reboot.policy is RebootPolicy.IMMEDIATE:
        return now
    if reboot.policy is RebootPolicy.MANUAL:
        return None
    start = reboot.window.start
    today = now.astimezone(UTC).replace(hour=start.hour, minute=start.minute, second=0, microsecond=0)
    length = timedelta(seconds=reboot.window.length)
    for opens in (today - timedelta(days=1), today):
        if opens <= now < opens + length:
            return now
    return today if now < today else today + timedelta(days=1)
