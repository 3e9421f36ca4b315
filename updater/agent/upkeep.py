"""What is looked after at each boot: boot sectors, entries, UKIs, both loaders, the spare, and the other slot.

Nothing here may keep a host from being judged: what cannot be looked at or repaired is logged, and the boot goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bedrock.errors import TwinhullError
from partitions.entries import BootEntry, spare_choice
from partitions.layout import Slot, identity_of
from partitions.version import Version
from updater.agent import trial
from updater.agent.efi import InitrdFailure
from updater.agent.entry_changes import EntryChanges
from updater.agent.mender import Mender
from updater.agent.mending import mends
from updater.agent.state import EventKind, HostFacts, SlotState

_log = logging.getLogger(__name__)


@contextmanager
def _or_warn(what: str) -> Iterator[None]:
    """End the block at an error, which is logged as what was not done."""
    try:
        yield
    except (TwinhullError, OSError) as error:
        _log.warning("%s: %s", what, error)


@dataclass(frozen=True)
class Upkeep:
    """Looks after the boot partitions and the other slot; `tries` is how many boots a trial gets."""

    changes: EntryChanges
    tries: int

    def withdraw_damaged(self) -> None:
        """Take back a trial that used up its tries because its slot was damaged: that is no fault of the version."""
        with _or_warn("the other slot was not looked at"):
            self._withdraw_damaged()

    def _withdraw_damaged(self) -> None:
        facts, hints = self.changes.facts(), self.changes.record.hints()
        entry = facts.inactive_entry
        if entry is None or facts.inactive_state is not SlotState.BAD or hints.bad_version(entry.version) is not None:
            return
        if hints.attempt(entry.version).failure:
            return
        if flaw := Mender(self.changes.machine).flaw_of(facts.inactive.slot):
            self._withdraw(entry, facts.inactive.slot, flaw)

    def _withdraw(self, entry: BootEntry, slot: Slot, flaw: str) -> None:
        self.changes.record.tell(
            f"slot {slot.value} is damaged, and is written anew by an update: {flaw}", entry.version
        )
        now = self.changes.record.now()
        self.changes.apply(lambda hints: trial.withdraw(hints, entry, flaw=flaw, now=now))

    @staticmethod
    def is_of_other(failure: InitrdFailure, facts: HostFacts) -> bool:
        """Whether what an initrd left is of the other slot, not of a boot that ran in between or of another disk."""
        return failure.root_hash is not None and facts.inactive.identity == identity_of(failure.root_hash)

    def forget_failure(self, failure: InitrdFailure, version: Version) -> None:
        """Remove what an initrd left from the firmware's memory, once it is in the history."""
        self.changes.record.note(EventKind.FAILED, f"a boot ended in the initrd: {failure.text}", version)
        with _or_warn("the firmware keeps why a boot ended"):
            self.changes.machine.forget_initrd_failure()

    def keep_spare(self) -> None:
        """Let the ESP have a proven UKI as well."""
        with _or_warn("the spare on the ESP was not checked"):
            facts = self.changes.facts()
            entry = spare_choice(facts.entries)
            if entry is None:
                return
            slot = facts.slot if entry.version == facts.running_version else facts.inactive.slot
            if line := Mender(self.changes.machine).keep_spare(entry, slot):
                self.changes.record.tell(line, entry.version)

    def keep_ways_in(self, version: Version) -> None:
        """Keep both boot loaders startable."""
        with _or_warn("the boot loaders were not checked"):
            for line in self.changes.machine.keep_ways_in():
                self.changes.record.tell(line, version)

    def mend(self) -> None:
        """Put the boot partitions right: their file systems, then the entries.

        What belongs on a file system that is made anew follows: entries here, loaders and their settings after that.
        """
        version = self.changes.machine.running().version
        for name, partition in (
            ("the ESP", self.changes.machine.esp),
            ("the partition of the UKIs", self.changes.machine.boot),
        ):
            with _or_warn(f"the boot sector of {name} was not checked"):
                if partition.restore_boot_sector():
                    line = f"the boot sector of {name} was damaged and is restored from its backup"
                    self.changes.record.tell(line, version)
                elif partition.make_anew():
                    self.changes.record.tell(f"the file system of {name} was lost and is made anew", version)
        with _or_warn("the boot entries were not put right"):
            facts, hints = self.changes.facts(), self.changes.record.hints()
            for line in Mender(self.changes.machine).carry_out(mends(facts, hints, tries=self.tries)):
                self.changes.record.tell(line, version)

    def examine_other(self) -> None:
        """Look at what the loader prefers and did not start, or has given up: repair it, and give it back its boots."""
        with _or_warn("the other slot was not looked at"):
            self._examine_other()

    def _examine_other(self) -> None:
        facts, hints = self.changes.facts(), self.changes.record.hints()
        entry, slot = facts.inactive_entry, facts.inactive.slot
        given_up = facts.inactive_state is SlotState.GIVEN_UP
        started = entry is not None and entry.trial and bool(entry.tries_done)
        if entry is None or not (given_up or started or hints.attempt(entry.version).passed_over):
            return
        mender = Mender(self.changes.machine)
        whole, line = mender.repair_uki(entry, slot)
        if line:
            self.changes.record.tell(line, entry.version)
        flaw = mender.flaw_of(slot) if given_up or started else ""
        flaw = flaw or (line if whole is False else "")
        now = self.changes.record.now()
        if started and flaw:
            self._withdraw(entry, slot, flaw)
        elif flaw:
            self.changes.record.tell(
                f"slot {slot.value} is damaged, and is written anew by an update: {flaw}", entry.version
            )
        elif given_up and whole:
            why = f"slot {slot.value} is whole; it gets its boots again"
            self.changes.apply(lambda hints: trial.give_back(facts, hints, entry, why=why, now=now))
