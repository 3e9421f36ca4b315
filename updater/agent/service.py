"""The daemon: polls with jitter, updates, reboots when allowed.  One round decides, the loop only waits.

Whatever goes wrong in a round is logged, and the next round comes, later each time: a host must not stop updating
because its server was unreachable for a while, nor because of an error of our own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bedrock.clock import Clock
from bedrock.errors import TwinhullError
from bedrock.progress import Progress
from updater.agent.agent import UpdateOutcome
from updater.agent.config import Config
from updater.agent.plan import Nothing, Update, UpdateOptions, Wait, Why
from updater.agent.window import reboot_at
from updater.errors import FetchError

FIRST_DELAY_S = 30.0
# Rounds that fail follow each other ever more slowly, up to this or to what is configured, whichever is longer.
LONGEST_BACKOFF_S = 3600.0
_log = logging.getLogger(__name__)


class Updating(Protocol):
    """The part of the agent the daemon needs."""

    def update(self, options: UpdateOptions, progress: Progress) -> UpdateOutcome:
        """Ask the server and install what is due."""

    def reboot(self) -> None:
        """Reboot into what is staged."""


@dataclass
class Daemon:
    """The loop; `jitter` gives numbers in [0, 1) that spread the polls of many hosts."""

    agent: Updating
    config: Config
    clock: Clock
    jitter: Callable[[], float]
    progress: Progress
    _failed: int = field(default=0, init=False)

    def run(self) -> None:
        """Run until a reboot was requested (or the process is asked to end)."""
        self.clock.sleep(self.jitter() * min(FIRST_DELAY_S, self.config.poll_interval))
        while (pause := self.round()) is not None:
            self.clock.sleep(pause)

    def round(self) -> float | None:
        """Poll once; returns the seconds until the next round, or None when a reboot was requested."""
        usual = self.config.poll_interval * (1 - self.config.poll_jitter * self.jitter())
        if not self.config.enabled:
            return usual
        try:
            pause = self._polled(usual)
        except (TwinhullError, OSError) as error:
            _log.error("%s", "; ".join([str(error), *getattr(error, "__notes__", ())]))
            return self._backoff(usual, error)
        except Exception as error:  # noqa: BLE001 - the loop's border: an error of ours must not end a host's updates
            _log.exception("this round failed by an error of the agent itself")
            return self._backoff(usual, error)
        self._failed = 0
        return pause

    def _polled(self, usual: float) -> float | None:
        outcome = self.agent.update(UpdateOptions(), self.progress)
        _log.info("%s", outcome_line(outcome))
        if isinstance(outcome.plan, Wait):
            left = (outcome.plan.until - self.clock.now()).total_seconds()
            return min(usual, max(1.0, left))
        return self._reboot_or_wait(usual) if is_staged(outcome) else usual

    def _backoff(self, usual: float, error: Exception) -> float:
        """Seconds until the next round after one that failed; a server may ask for more."""
        self._failed += 1
        grown: float = min(usual * 2 ** min(self._failed - 1, 10), max(usual, LONGEST_BACKOFF_S))
        asked_for = error.retry_after_s if isinstance(error, FetchError) else None
        return max(grown, asked_for or 0.0)

    def _reboot_or_wait(self, usual: float) -> float | None:
        now = self.clock.now()
        when = reboot_at(now, self.config.reboot)
        if when is None:
            _log.info("staged; the reboot is left to an operator")
            return usual
        if when > now:
            _log.info("staged; the reboot window opens at %s", when.isoformat())
            return min(usual, max(1.0, (when - now).total_seconds()))
        _log.info("rebooting into the staged version")
        self.agent.reboot()
        return None


def is_staged(outcome: UpdateOutcome) -> bool:
    """Whether a version waits for a reboot."""
    return isinstance(outcome.plan, Update) or (isinstance(outcome.plan, Nothing) and outcome.plan.why is Why.STAGED)


def outcome_line(outcome: UpdateOutcome) -> str:
    """An outcome in one line."""
    if isinstance(outcome.plan, Update):
        where = f"{outcome.plan.version} is staged in slot {outcome.plan.slot.value}"
        if outcome.report is None:
            return where
        report = outcome.report
        return (
            f"{where}: {report.downloaded_bytes} bytes downloaded in {report.download_s:.1f} s, "
            f"{report.written_bytes} written in "
            f"{report.write_s:.1f} s ({report.write_mb_per_s:.1f} MB/s), verified in {report.verify_s:.1f} s"
        )
    return outcome.plan.reason
