"""The reboot into what is staged: when it is due, who asked to put it off, and doing it.

`outlook` decides from the disk, the settings and a few notes; the update server is not asked, and needs not answer.
The notes are in `/run/twinhull/reboot.json`: they are gone after a reboot, and losing them costs a delay at most.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from bedrock import evolution, persist, strict
from bedrock.errors import DocumentError, TwinhullError
from partitions.version import Version
from updater.agent.agent import Agent
from updater.agent.before_reboot import (
    Change,
    Surroundings,
    ask_logind,
    hooks_below,
    run_directly,
    run_in_own_unit,
)
from updater.agent.config import Config
from updater.agent.host_paths import HostPaths
from updater.agent.plan import Nothing, Plan, StagedVersion, Update, Why, waiting
from updater.agent.state import EventKind, Hints
from updater.agent.window import reboot_moment
from updater.documents.channel import Instant

LOCALTIME = "etc/localtime"
# Whoever asked to wait is never asked again sooner.
SHORTEST_PAUSE_S = 1.0
# What a server says that makes a version which is staged one that nobody asks for.
_WITHDRAWN = (Why.UP_TO_DATE, Why.HALTED, Why.DEAD_END, Why.KNOWN_BAD, Why.CONFUSABLE, Why.OLDER)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notes:
    """What is remembered of one reboot until it happens.

    Attributes:
        version: Into which version.
        since_s: When somebody first asked to wait for it, in seconds since the boot; None when nobody did.
        asked_s: When everybody was asked last.
        waits_for: Who asked to wait when they were asked last.
        withdrawn: Why the server, when it answered last, did not want that version any more.
        named: Whether it wanted that version.
    """

    version: Version
    since_s: Annotated[float, strict.Range(0, 1e10)] | None = None
    asked_s: Annotated[float, strict.Range(0, 1e10)] = 0.0
    waits_for: tuple[str, ...] = ()
    withdrawn: str = ""
    named: bool = False


@dataclass(frozen=True)
class RebootOutlook:
    """When this host reboots into what is staged (`at` is None when it does not by itself), and why not now.

    `waits_for` are those who asked to put off a reboot that is due, and `overruled_at` is when that ends.
    """

    version: Version
    at: Instant | None
    why: str
    waits_for: tuple[str, ...] = ()
    overruled_at: Instant | None = None

    def __str__(self) -> str:
        when = f"at {self.at}" if self.at is not None else "not by itself"
        return f"into {self.version} {when}: {self.why}"


@dataclass(frozen=True)
class Circumstances:
    """What an outlook depends on besides the disk, the hints and the settings."""

    now: datetime
    steady_s: float
    host_id: str
    local: tzinfo


def outlook(
    target: StagedVersion, config: Config, notes: Notes, *, ready: datetime | None, given: Circumstances
) -> tuple[RebootOutlook, datetime | None]:
    """When a host reboots into what is staged, to show and exactly; pure."""
    refusal = _refusal(target, config, notes)
    if refusal is not None:
        return RebootOutlook(target.version, None, refusal), None
    moment = reboot_moment(given.now, config.reboot, local=given.local, host_id=given.host_id, ready=ready)
    if moment is None:
        return RebootOutlook(target.version, None, "it is left to an operator: see `updater reboot`"), None
    shown = RebootOutlook(target.version, Instant.of(moment.at), moment.why)
    if moment.at <= given.now and notes.since_s is not None and notes.waits_for:
        left = timedelta(seconds=max(0.0, notes.since_s + config.reboot.patience - given.steady_s))
        shown = replace(shown, why=f"{moment.why}, but {'; '.join(notes.waits_for)}", waits_for=notes.waits_for)
        shown = replace(shown, overruled_at=Instant.of(given.now + left))
    return shown, moment.at


def _refusal(target: StagedVersion, config: Config, notes: Notes) -> str | None:
    if target.refused is not None:
        return target.refused.reason
    if not config.enabled:
        return "`enabled` is false in the settings"
    if target.proven and not notes.named:
        # It was not what the machine came up with: without anybody who wants it, the host might come and go for ever.
        return "it is proven, and the server has not named it since this boot"
    return notes.withdrawn or None


def withdrawal(plan: Plan) -> str:
    """Why the server does not want what may be staged here any more; empty when it does not say so."""
    return plan.reason if isinstance(plan, Nothing) and plan.why in _WITHDRAWN else ""


def is_named(plan: Plan) -> bool:
    """Whether the server wants what is staged."""
    return isinstance(plan, Update) or (isinstance(plan, Nothing) and plan.why is Why.STAGED)


def ready_since(hints: Hints, version: Version) -> datetime | None:
    """When a version was staged; None when that was forgotten."""
    found = [event.at.when for event in hints.history if event.kind is EventKind.INSTALLED and event.version == version]
    return found[-1] if found else None


def local_zone(root: Path) -> tzinfo:
    """The host's own time zone, UTC without one: `/etc/localtime` need not exist (localtime(5))."""
    path = root / LOCALTIME
    try:
        with path.open("rb") as file:
            return ZoneInfo.from_file(file, key="local")
    except (OSError, ValueError) as error:
        if path.is_symlink() or path.exists():
            _log.warning("%s cannot be read, local time is taken for UTC: %s", path, error)
        return UTC


@dataclass(frozen=True)
class Departure:
    """Reboots of one host.

    Attributes:
        agent: The host's agent.
        notes_path: Where the notes are.
        surroundings: Who is asked first.
        local: The host's own time zone, read anew each time: an operator may change it.
    """

    agent: Agent
    notes_path: Path
    surroundings: Surroundings
    local: Callable[[], tzinfo]

    def outlook(self) -> RebootOutlook | None:
        """When this host reboots into what is staged; None when nothing is."""
        found = self._look()
        return None if found is None else found[0]

    def leave(self) -> float | None:
        """Reboot if it is due and nobody asks to wait (0 then); otherwise seconds until it may be, None if never.

        Raises:
            TwinhullError: The disk cannot be read, or the reboot fails.
        """
        found = self._look()
        if found is None:
            return None
        shown, at = found
        if at is None:
            return None
        now = self.agent.machine.clock.now()
        if at > now:
            return (at - now).total_seconds()
        if self.obstacles(shown.version):
            return self._retry_s(self._notes(shown.version))
        _log.info("rebooting into %s", shown.version)
        self.agent.reboot()
        return 0.0

    def obstacles(self, target: Version, *, at_once: bool = False) -> tuple[str, ...]:
        """Ask everybody; who asks to wait, in words, and empty when the host may reboot.

        Whoever asks to wait is overruled once `reboot.patience` has passed since somebody first did, or `at_once`.
        Nobody is asked again before `reboot.retry_interval` has passed: what they said last counts until then.
        """
        notes, settings = self._notes(target), self.agent.config.reboot
        steady_s = self.agent.machine.clock.steady()
        since_s = steady_s if notes.since_s is None else notes.since_s
        last_call = at_once or steady_s - since_s >= settings.patience
        if notes.waits_for and not last_call and steady_s - notes.asked_s < settings.retry_interval:
            return notes.waits_for
        change = Change(self.agent.machine.running().version, target)
        found = self.surroundings.ask(change, timeout_s=settings.hook_timeout, last_call=last_call)
        if found and last_call:
            self._overrule(target, found)
            return ()
        asked_s = self.agent.machine.clock.steady()
        if found or notes.waits_for:
            since = since_s if found else notes.since_s
            self._save(replace(notes, since_s=since, asked_s=asked_s, waits_for=found))
        if found:
            _log.info("the reboot waits: %s", "; ".join(found))
        return found

    def wait(self, target: Version, say: Callable[[str], None], *, at_once: bool) -> None:
        """Wait until nobody asks to wait any more or they are overruled; says for whom."""
        while found := self.obstacles(target, at_once=at_once):
            notes = self._notes(target)
            left_s = (notes.since_s or 0.0) + self.agent.config.reboot.patience - self.agent.machine.clock.steady()
            say(f"waiting for up to {left_s:.0f} s: {'; '.join(found)}")
            self.agent.machine.clock.sleep(self._retry_s(notes))

    def _retry_s(self, notes: Notes) -> float:
        """Seconds until everybody is asked again, or overruled."""
        settings, steady_s = self.agent.config.reboot, self.agent.machine.clock.steady()
        again = notes.asked_s + settings.retry_interval
        overruled = again if notes.since_s is None else notes.since_s + settings.patience
        return max(SHORTEST_PAUSE_S, min(again, overruled) - steady_s)

    def answered(self, plan: Plan) -> None:
        """Remember what follows from the server's answer for what is staged."""
        found = waiting(self.agent.facts(), self.agent.hints())
        if found is not None:
            notes = self._notes(found.version)
            after = replace(notes, withdrawn=withdrawal(plan), named=is_named(plan))
            if after != notes:
                self._save(after)

    def _look(self) -> tuple[RebootOutlook, datetime | None] | None:
        hints = self.agent.hints()
        found = waiting(self.agent.facts(), hints)
        if found is None:
            return None
        clock = self.agent.machine.clock
        given = Circumstances(clock.now(), clock.steady(), self.agent.machine.running().host_id, self.local())
        ready = ready_since(hints, found.version)
        return outlook(found, self.agent.config, self._notes(found.version), ready=ready, given=given)

    def _overrule(self, target: Version, who: tuple[str, ...]) -> None:
        text = f"rebooting nevertheless: {'; '.join(who)}"
        _log.warning("%s", text)
        now = Instant.of(self.agent.machine.clock.now())
        try:
            self.agent.store.remember(lambda hints: hints.with_event(EventKind.OVERRULED, text, now, target), now)
        except (TwinhullError, OSError) as error:
            _log.warning("%s", error)

    def _notes(self, version: Version) -> Notes:
        """The notes of a reboot into this version."""
        try:
            notes = evolution.read_json(Notes, self.notes_path.read_bytes(), source=str(self.notes_path))
        except FileNotFoundError:
            return Notes(version)
        except (DocumentError, OSError) as error:
            _log.warning("%s", error)
            return Notes(version)
        return notes if notes.version == version else Notes(version)

    def _save(self, notes: Notes) -> None:
        """Write the notes (to memory, not to a disk)."""
        try:
            self.notes_path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            persist.write_atomic(self.notes_path, strict.dump_json(notes))
        except OSError as error:
            _log.warning("%s could not be written: %s", self.notes_path, error)


def departure_of(agent: Agent, paths: HostPaths) -> Departure:
    """The reboots of a host; of one that is a folder, the programs run as they are and nobody inhibits anything."""
    here = paths.is_this_host
    surroundings = Surroundings(
        hooks=lambda: hooks_below(paths.root),
        run=run_in_own_unit if here else run_directly,
        inhibitors=ask_logind if here else tuple,
    )
    return Departure(agent, paths.reboot_notes, surroundings, lambda: local_zone(paths.root))
