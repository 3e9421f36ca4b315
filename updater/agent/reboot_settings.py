"""The settings `reboot:`: when a staged version may boot, and who may ask to wait.  Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from bedrock import strict
from updater.week import WEEK, Day, TimeOfDay

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
_THREE = TimeOfDay(3, 0)


class RebootPolicy(Enum):
    """When a staged update may boot."""

    IMMEDIATE = "immediate"
    WINDOW = "window"
    MANUAL = "manual"


class WindowZone(Enum):
    """Whose time of day a window is written in."""

    UTC = "utc"
    LOCAL = "local"


@dataclass(frozen=True)
class RebootWindow:
    """A time in which reboots are allowed.

    Attributes:
        start: When it opens, as `"03:00"` (quoted).
        length: How long it stays open; it may cross midnight.
        days: The days on which it opens, of `mon`, `tue`, `wed`, `thu`, `fri`, `sat` and `sun`; every day when left
            out.
        zone: Whose time `start` and `days` are: `utc`, or `local` for the host's own (`/etc/localtime`).
    """

    start: TimeOfDay = _THREE
    length: Annotated[float, strict.Duration(), strict.Range(MINUTE_S, DAY_S)] = 2 * HOUR_S
    days: tuple[Day, ...] = WEEK
    zone: WindowZone = WindowZone.UTC

    def __post_init__(self) -> None:
        if not self.days:
            raise ValueError("a window without days never opens: leave `days` out for every day")

    def __str__(self) -> str:
        return f"{self.start} {'UTC' if self.zone is WindowZone.UTC else 'local time'}"


@dataclass(frozen=True)
class Reboot:
    """How a staged update comes to boot.

    Attributes:
        policy: `immediate`: as soon as it is installed; `window`: in one of the windows; `manual`: never by itself.
        windows: When a host may reboot with `policy: window`; each host has a moment of its own in each of them.
        hook_timeout: How long one program of `/etc/twinhull/before-reboot.d` may take.
        retry_interval: Pause before programs and inhibitors that asked to wait are asked again.
        patience: How long they may put off one reboot; then they are overruled.
    """

    policy: RebootPolicy = RebootPolicy.IMMEDIATE
    windows: tuple[RebootWindow, ...] = (RebootWindow(),)
    hook_timeout: Annotated[float, strict.Duration(), strict.Range(1, HOUR_S)] = 5 * MINUTE_S
    retry_interval: Annotated[float, strict.Duration(), strict.Range(1, HOUR_S)] = MINUTE_S
    patience: Annotated[float, strict.Duration(), strict.Range(0, 7 * DAY_S)] = HOUR_S

    def __post_init__(self) -> None:
        if self.policy is RebootPolicy.WINDOW and not self.windows:
            raise ValueError("policy: window needs at least one of `windows`")
