"""The health of this boot: which checks there are, how patient they are, and what is done about what they say.

At the gate (twinhull-health.service) the result decides; by hand nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from bedrock.errors import DocumentError
from updater.agent import health, trial, var_room
from updater.agent.agent import Agent
from updater.agent.checks import Check, RunCheck, configured_checks, without_room
from updater.agent.config import Loaded
from updater.agent.health_settings import Health

SETTINGS_CHECK = "settings of the image"


class Judging(Enum):
    """How the checks are run: each once, or until it is decided, or that and with what follows from it."""

    ONCE = auto()
    PATIENTLY = auto()
    AT_THE_GATE = auto()


@dataclass(frozen=True)
class Gate:
    """What the health of one host is judged with."""

    agent: Agent
    settings: Loaded
    run: RunCheck
    no_room: Callable[[], str] = var_room.of_containers

    def judge(self, how: Judging, say: health.Say) -> tuple[health.CheckResult, ...]:
        """Run the configured checks; an image whose own settings have errors is not healthy."""
        bounds = self._bounds(how)

        def wait() -> None:
            if how is Judging.AT_THE_GATE:
                self.agent.wait(seconds=bounds.server_patience)

        clock = self.agent.machine.clock
        checks = self._checks()
        if how is Judging.AT_THE_GATE and self._on_trial and (reason := self.no_room()):
            # Whatever the image is like, containers fail then; updates go on all the same.
            say(f"...  {reason}: what containers need decides nothing")
            checks = without_room(checks, reason)
        results = health.HealthJudgement(checks, bounds, clock, say, wait).run()
        for result in results:
            say(result.line)
        return results

    @property
    def _on_trial(self) -> bool:
        return trial.standing(self.agent.facts(), self.agent.hints()) is trial.Standing.TRIAL

    def _checks(self) -> tuple[Check, ...]:
        refresh = self.agent.refresh if self.agent.server is not None else None
        checks = configured_checks(self.settings.config.health, refresh, self.run)
        if self.settings.image_is_sound:
            return checks
        return (Check(SETTINGS_CHECK, "/usr/lib/twinhull/updater.yaml", _raiser(self.settings.problems[0])), *checks)

    def _bounds(self, how: Judging) -> Health:
        """How patient the checks are.

        Only a trial waits for the server: of a blessed version there is nothing to judge, and its daemon asks again
        anyway.
        """
        bounds = self.settings.config.health
        if how is Judging.ONCE or not self.settings.image_is_sound:
            return replace(bounds, settle=0.0, patience=0.0, server_patience=0.0)
        if how is Judging.PATIENTLY:
            return bounds
        return bounds if self._on_trial else replace(bounds, server_patience=bounds.patience)


def _raiser(error: DocumentError) -> Callable[[], str]:
    """A look that fails with this error."""

    def fail() -> str:
        raise error

    return fail
