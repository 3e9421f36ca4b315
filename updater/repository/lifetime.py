"""How long signed documents stay valid.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from keys.roles import TufRole


@dataclass(frozen=True)
class Lifetimes:
    """How long a role's document is valid from its signing.

    Short where the key is online and signing is cheap, because expiry limits how long a host can be shown an old state;
    long where people have to fetch a key for it.
    """

    offline: timedelta = timedelta(days=365)
    delegated: timedelta = timedelta(days=90)
    online: timedelta = timedelta(days=7)

    def expiry(self, role: TufRole, now: datetime) -> datetime:
        """When a document of `role` signed at `now` expires (TUF writes whole seconds in UTC)."""
        return now.astimezone(UTC).replace(microsecond=0) + self._of(role)

    def due(self, role: TufRole, expires: datetime, *, now: datetime, within: timedelta) -> bool:
        """Whether a document that expires then is to be signed again: within a span, but not before half of its life.

        A long span in a daily timer would otherwise make a new root every day.
        """
        return expires - now <= min(within, self._of(role) / 2)

    def _of(self, role: TufRole) -> timedelta:
        if role.online:
            return self.online
        return self.delegated if role in (TufRole.RELEASES, TufRole.CHANNELS) else self.offline
