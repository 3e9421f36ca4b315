"""Channels and references to releases, as a release manager would make them."""

from __future__ import annotations

from bedrock import strict
from bedrock.digest import bytes_sha256
from partitions.version import Version
from updater.documents.channel import Channel, Instant, Pace, ReleaseReference
from updater.documents.release import Architecture, Release


def document_sha256(release: Release) -> str:
    """The SHA-256 of a release's document."""
    return bytes_sha256(strict.dump_json(release))


def reference_to(release: Release) -> ReleaseReference:
    """A release by its bytes."""
    return ReleaseReference(release.version, document_sha256(release))


def some_reference(version: str) -> ReleaseReference:
    """A release of that version, whose document nobody reads: its hash is made from the version alone."""
    return ReleaseReference(Version.from_text(version), bytes_sha256(version.encode()))


def channel_at(reference: ReleaseReference, pace: Pace | Instant, *, name: str = "stable") -> Channel:
    """A channel of the image `host` that points there."""
    pace = Pace(pace) if isinstance(pace, Instant) else pace
    return Channel(1, name, "host", Architecture.X86_64, reference, pace)
