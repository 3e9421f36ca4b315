"""The daemon: polls with jitter, updates, reboots when allowed.  One round decides, the loop only waits.

Whatever goes wrong in a poll is logged, and the next poll comes, later each time: a host must not stop updating
because its server was unreachable for a while, nor because of an error of our own.
What is staged reboots by the disk and the clock alone, before and after the server is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from bedrock.clock import Clock
from bedrock.errors import TwinhullError
from bedrock.progress import Progress
from updater.agent.agent import UpdateOutcome
from updater.agent.config import Config
from updater.agent.plan import Plan, Update, UpdateOptions, Wait
from updater.errors import FetchError, PutOffError

FIRST_DELAY_S = 30.0
# Rounds that fail follow each other ever more slowly, up to this or to what is configured, whichever is longer.
LONGEST_BACKOFF_S = 3600.0
SHORTEST_PAUSE_S = 1.0
# How long a poll without a download takes when the server hangs, and how long one is put off for a reboot: somebody may
# ask to wait with that for days.
LONGEST_POLL_S = 600.0
LONGEST_PUT_OFF_S = 3600.0
# A clock may be set while a staged version waits for its moment.
LONGEST_WAIT_S = 300.0
_log = logging.getLogger(__name__)


class Updating(Protocol):
    """The part of the agent the daemon needs."""

    def update(self, options: UpdateOptions, progress: Progress) -> UpdateOutcome:
        """Ask the server and install what is due."""


class Leaving(Protocol):
    """Reboots into what is staged (`updater.agent.departure`)."""

    def leave(self) -> float | None:
        """Reboot if it is due (0 then), else seconds until it may be; None: nothing that reboots by itself."""

    def answered(self, plan: Plan) -> None:
        """Remember what follows from the server's answer for what is staged."""


@dataclass
class Daemon:
    """The loop; `jitter` gives numbers in [0, 1) that spread the polls of many hosts."""

    agent: Updating
    departure: Leaving
    config: Config
    clock: Clock
    jitter: Callable[[], float]
    progress: Progress
    _failed: int = field(default=0, init=False)
    _poll_at_s: float = field(default=0.0, init=False)

    def run(self) -> None:
        """Run until a reboot was requested (or the process is asked to end)."""
        self.clock.sleep(self.jitter() * min(FIRST_DELAY_S, self.config.poll_interval))
        self._poll_at_s = self.clock.steady()
        while (pause := self.round()) is not None:
            self.clock.sleep(pause)

    def round(self) -> float | None:
        """Reboot or poll when it is time; returns the seconds until the next round, or None when it reboots.

        Whether the server answers, and how long it takes, changes nothing of when a staged version reboots.
        """
        if not self.config.enabled:
            return self._usual()
        leaves_in_s = self._leave()
        if leaves_in_s == 0.0:
            return None
        if self._polls_in(leaves_in_s) <= 0.0:
            pause = self._poll(leaves_in_s)
            self._poll_at_s = self.clock.steady() + pause
            leaves_in_s = self._leave()
            if leaves_in_s == 0.0:
                return None
        polls_in_s = max(SHORTEST_PAUSE_S, self._polls_in(leaves_in_s))
        if leaves_in_s is None:
            return polls_in_s
        return min(polls_in_s, LONGEST_WAIT_S, max(SHORTEST_PAUSE_S, leaves_in_s))

    def _polls_in(self, leaves_in_s: float | None) -> float:
        """Seconds until the server is asked: not shortly before a reboot, for a server that hangs takes minutes."""
        near = leaves_in_s is not None and leaves_in_s < LONGEST_POLL_S
        return self._poll_at_s + (LONGEST_PUT_OFF_S if near else 0.0) - self.clock.steady()

    def _usual(self) -> float:
        return self.config.poll_interval * (1 - self.config.poll_jitter * self.jitter())

    def _leave(self) -> float | None:
        """Reboot into what is staged if it is due; whatever goes wrong, the host goes on asking the server."""
        try:
            return self.departure.leave()
        except (TwinhullError, OSError) as error:
            _log_error(error)
        except Exception:  # noqa: BLE001 - as below
            _log.exception("looking for what is staged failed by an error of the agent itself")
        return self.config.reboot.retry_interval

    def _poll(self, leaves_in_s: float | None) -> float:
        """Ask the server; returns the seconds until it is asked again."""
        usual = self._usual()
        until = None if leaves_in_s is None else self.clock.now() + timedelta(seconds=leaves_in_s)
        try:
            outcome = self.agent.update(UpdateOptions(until=until), self.progress)
            _log.info("%s", outcome_line(outcome))
            self.departure.answered(outcome.plan)
        except PutOffError as error:
            _log.info("%s", error)
            return usual
        except (TwinhullError, OSError) as error:
            _log_error(error)
            return self._backoff(usual, error)
        except Exception as error:  # noqa: BLE001 - the loop's border: an error of ours must not end a host's updates
            _log.exception("this round failed by an error of the agent itself")
            return self._backoff(usual, error)
        self._failed = 0
        if isinstance(outcome.plan, Wait):
            return min(usual, max(SHORTEST_PAUSE_S, (outcome.plan.until - self.clock.now()).total_seconds()))
        return usual

    def _backoff(self, usual: float, error: Exception) -> float:
        """Seconds until the next round after one that failed; a server may ask for more."""
        self._failed += 1
        grown: float = min(usual * 2 ** min(self._failed - 1, 10), max(usual, LONGEST_BACKOFF_S))
        asked_for = error.retry_after_s if isinstance(error, FetchError) else None
        return max(grown, asked_for or 0.0)


def _log_error(error: Exception) -> None:
    _log.error("%s", "; ".join([str(error), *getattr(error, "__notes__", ())]))


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
