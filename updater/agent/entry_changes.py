"""Carries out what was decided about boot entries: hints first, then the names, then what follows from the names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from bedrock.errors import TwinhullError
from partitions.entries import BootEntry
from updater.agent.machine import Machine, read_facts
from updater.agent.mender import Mender
from updater.agent.record import Record
from updater.agent.second_way import follow_entries
from updater.agent.state import Hints, HostFacts
from updater.agent.trial import TrialVerdict

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EntryChanges:
    """Changes the boot entries of a machine; whoever uses it holds the lock of those who do."""

    machine: Machine
    record: Record

    def facts(self) -> HostFacts:
        """What runs and what is on the disk."""
        return read_facts(self.machine)

    def apply(self, decide: Callable[[Hints], TrialVerdict]) -> TrialVerdict:
        """Save the hints and make the renames; the reason is on the disk before anything changes."""
        verdicts: list[TrialVerdict] = []

        def decided(hints: Hints) -> Hints:
            verdicts.append(decide(hints))
            return verdicts[-1].hints

        self.record.remember(decided)
        # What cannot be written down is decided nevertheless.
        verdict = verdicts[-1] if verdicts else decide(self.record.hints())
        self.rename(verdict)
        return verdict

    def rename(self, verdict: TrialVerdict) -> None:
        """Change entries on the disk, each durable before the next; then what the second boot loader starts follows."""
        for rename in verdict.renames:
            if rename.old.blessed and rename.new.exhausted and not rename.old.exhausted:
                try:
                    self.drop_spare(rename.old)
                except (TwinhullError, OSError) as error:
                    _log.warning("the ESP may still have a spare of %s: %s", rename.old.version, error)
            self.machine.boot.rename(rename.old.file_name, rename.new.file_name)
        if verdict.removals:
            self.machine.boot.remove(*(entry.file_name for entry in verdict.removals))
        if verdict.renames or verdict.removals:
            self.keep_second_way()

    def keep_second_way(self) -> None:
        """Let the second boot loader start what the first one does not; a failure is not worth more than a warning."""
        try:
            follow_entries(self.machine.boot, self.facts().entries)
        except (TwinhullError, OSError) as error:
            _log.warning("the second boot loader could not be told what to start: %s", error)

    def drop_spare(self, entry: BootEntry) -> None:
        """Take an entry's spare from the ESP: the loader would go on starting what is not to be started any more."""
        with self.machine.esp.mounted(writable=False) as folder:
            there = entry.as_blessed().file_name in folder.names()
        if not there:
            return
        facts = self.facts()
        running = BootEntry(facts.image, facts.running_version)
        if running.version != entry.version and (line := Mender(self.machine).keep_spare(running, facts.slot)):
            _log.info("%s", line)
        with self.machine.esp.mounted(writable=False) as folder:
            there = entry.as_blessed().file_name in folder.names()
        if there:
            self.machine.esp.remove(entry.as_blessed().file_name)
