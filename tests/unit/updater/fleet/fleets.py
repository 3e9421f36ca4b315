"""Values for the engine's tests: one host, one rollout, one view, each with what a test changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from partitions.version import Version
from updater.fleet.model import FleetRelease, Host, HostProgress, Rollout, RolloutState, Stratum
from updater.fleet.policy import GroupPolicy, RolloutPolicy
from updater.fleet.rules import View

# A Wednesday.
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD, NEW = Version.from_text("1.0.0"), Version.from_text("1.1.0")
ROOT_HASH = "ab" * 32
STRATUM = Stratum("web", "a", "small")


def host(name: str = "h1", **changes: Any) -> Host:
    values: dict[str, Any] = {"stratum": STRATUM, "version": OLD, "progress": HostProgress.WAITING, "seen": NOW}
    return Host(name, **{**values, "release": ROOT_HASH, **changes})


def release(**changes: Any) -> FleetRelease:
    return FleetRelease(**{"version": NEW, "root_hash": ROOT_HASH, **changes})


def rollout(**changes: Any) -> Rollout:
    """One whose last wave is open, so that it is every host's turn."""
    last = len(RolloutPolicy().waves) - 1
    values: dict[str, Any] = {"release": release(), "state": RolloutState.ROLLING, "wave": last, "opened": NOW}
    return Rollout(**{**values, **changes})


def view(**changes: Any) -> View:
    return View(**{"rollout": rollout(), "group": GroupPolicy(), **changes})
