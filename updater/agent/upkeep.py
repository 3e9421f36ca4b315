"""What is looked after at each boot: boot sectors, entries, UKIs, both loaders, the spare, and the other slot.

Nothing here may keep a host from being judged: what cannot be looked at or repaired is logged, and the boot goes on.
"""

from __future__ import annotations

import logging
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


@dataclass(frozen=True)
class Upkeep:
    """Looks after the boot partitions and the other slot; `tries` is how many boots a trial gets."""

    changes: EntryChanges
    tries: int

    def withdraw_damaged(self) -> None:
        """Take back a trial that used up its tries because its slot was damaged: that is no fault of the version."""
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
        try:
            self.changes.machine.forget_initrd_failure()
        except TwinhullError as error:
            _log.warning("%s", error)

    def keep_spare(self) -> None:
        """Let the ESP have a proven UKI as well."""
        facts = self.changes.facts()
        entry = spare_choice(facts.entries)
        if entry is None:
            return
        slot = facts.slot if entry.version == facts.running_version else facts.inactive.slot
        if line := Mender(self.changes.machine).keep_spare(entry, slot):
            self.changes.record.tell(line, entry.version)

    def keep_ways_in(self, version: Version) -> None:
        """Keep both boot loaders startable; a failure keeps nothing else from its work."""
        try:
            for line in self.changes.machine.keep_ways_in():
                self.changes.record.tell(line, version)
        except (TwinhullError, OSError) as error:
            _log.warning("the boot loaders were not checked: %s", error)

    def mend(self) -> None:
        """Put the boot partitions right: their boot sectors, then the entries."""
        version = self.changes.machine.running().version
        for name, partition in (
            ("the ESP", self.changes.machine.esp),
            ("the partition of the UKIs", self.changes.machine.boot),
        ):
            try:
                if partition.restore_boot_sector():
                    self.changes.record.tell(
                        f"the boot sector of {name} was damaged and is restored from its backup", version
                    )
            except (TwinhullError, OSError) as error:
                _log.warning("the boot sector of %s was not checked: %s", name, error)
        facts = self.changes.facts()
        for line in Mender(self.changes.machine).carry_out(mends(facts, self.changes.record.hints(), tries=self.tries)):
            self.changes.record.tell(line, facts.running_version)

    def examine_other(self) -> None:
        """Look at what the loader prefers and did not start, or has given up: repair it, and give it back its boots."""
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
        flaw = flaw or ("" if whole else line)
        now = self.changes.record.now()
        if started and flaw:
            self._withdraw(entry, slot, flaw)
        elif flaw:
            self.changes.record.tell(
                f"slot {slot.value} is damaged, and is written anew by an update: {flaw}", entry.version
            )
        elif given_up:
            why = f"slot {slot.value} is whole; it gets its boots again"
            self.changes.apply(lambda hints: trial.give_back(facts, hints, entry, why=why, now=now))
