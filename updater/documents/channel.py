"""`channels/<name>.json`: a named, signed pointer to a release, with how fast it may spread.

A channel names bytes: with each version goes the SHA-256 of its release document, so that whoever signs releases
cannot put other content under a name that a release manager chose.
Only this module decides the pace, from the host's id and the clock alone: every host has a fixed place in [0, 1) per
channel and version, and its turn comes when the wave has reached that place.
It grows by `bedrock.evolution`.  Pure: no I/O, no clock.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from bedrock import evolution, strict
from partitions.version import Version
from updater.documents.release import Architecture, Name, Sha256, release_path

FORMAT = 1
MAX_DOCUMENT_BYTES = 1 << 16
# Every host computes with these: sums of them must be dates that a calendar has.
FIRST_YEAR, LAST_YEAR = 2000, 2199
LONGEST_SPREAD_S = 366 * 86400.0


@dataclass(frozen=True)
class Instant:
    """A moment in UTC, written `2026-01-31T12:00:00Z`."""

    when: datetime

    @classmethod
    def of(cls, when: datetime) -> Instant:
        """A moment as documents have it: in whole seconds."""
        return cls(when.replace(microsecond=0))

    @classmethod
    def from_text(cls, text: str) -> Instant:
        """Parse the only accepted form.

        Raises:
            ValueError: Any other form.
        """
        try:
            when = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise ValueError(f"must be a moment such as 2026-01-31T12:00:00Z, not {text!r}") from error
        return cls(when)

    def __str__(self) -> str:
        return self.when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Pace:
    """How a release spreads: from `start`, evenly over `over_s` seconds (0: every host at once; at most 366 days)."""

    start: Instant
    over_s: Annotated[float, strict.Duration(), strict.Range(0, LONGEST_SPREAD_S)] = 0.0

    def __post_init__(self) -> None:
        if not FIRST_YEAR <= self.start.when.year <= LAST_YEAR:
            raise ValueError(f"start: must be in the years {FIRST_YEAR} to {LAST_YEAR}, not {self.start}")


@dataclass(frozen=True)
class ReleaseReference:
    """A release by its version and by the SHA-256 of its document."""

    version: Version
    sha256: Sha256


@dataclass(frozen=True)
class DeadEnd:
    """A version from which hosts must not update by themselves, and why."""

    version: Version
    reason: str


@dataclass(frozen=True)
class Retry:
    """Hosts on which the release failed until then try it once more: it was not the release's fault, and why."""

    at: Instant
    reason: str


@dataclass(frozen=True)
class Channel:
    """The release a channel points to, and how it spreads.

    `floor` is an intermediate release: an older host updates to it first, and from there to `release`.
    It is a published release of the same image and architecture, not above `release`.
    """

    format: Annotated[int, strict.Range(FORMAT, FORMAT)]
    name: Name
    image: Name
    architecture: Architecture
    release: ReleaseReference
    pace: Pace
    floor: ReleaseReference | None = None
    dead_ends: tuple[DeadEnd, ...] = ()
    halted: bool = False
    retry: Retry | None = None

    @property
    def version(self) -> Version:
        """The version it points to."""
        return self.release.version

    @property
    def release_paths(self) -> tuple[str, ...]:
        """The target paths of the releases it names: its own and its floor."""
        named = (self.release,) if self.floor is None else (self.release, self.floor)
        return tuple(release_path(self.image, each.version, self.architecture) for each in named)

    @property
    def target_path(self) -> str:
        """The channel's TUF target path."""
        return channel_path(self.name)

    def dead_end(self, version: Version) -> DeadEnd | None:
        """The dead end of `version`, if it is one."""
        return next((end for end in self.dead_ends if end.version == version), None)

    def takes_back(self, version: Version, failed_at: Instant) -> bool:
        """Whether a failure of `version` at that time does not count any more."""
        return self.retry is not None and str(version) == str(self.version) and failed_at.when < self.retry.at.when

    def turn_of(self, host_id: str) -> datetime:
        """When the wave reaches this host."""
        return datetime.fromtimestamp(
            self.pace.start.when.timestamp() + self.pace.over_s * place_of(host_id, self.name, self.version), tz=UTC
        )


def channel_path(name: str) -> str:
    """The TUF target path of a channel."""
    return f"channels/{name}.json"


def place_of(host_id: str, channel: str, version: Version) -> float:
    """A host's fixed place in [0, 1) in the wave that carries `version` on `channel`."""
    digest = hashlib.sha256(f"{channel}\0{version}\0{host_id}".encode()).digest()
    # A float holds 53 bits exactly; with more, the highest values would round up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def parse_channel(data: bytes, *, source: str) -> Channel:
    """Read a channel document.

    Raises:
        DocumentError: Not JSON, a critical key that is new here, wrong types, or values out of range.
    """
    return evolution.read_json(Channel, data, source=source)


def parse_channel_to_change(data: bytes, *, source: str) -> Channel:
    """Read a channel document that is going to be written again.

    Raises:
        DocumentError: As `parse_channel`, and for each key that is new here, for it would be lost.
    """
    return evolution.read_to_rewrite(Channel, data, source=source)
