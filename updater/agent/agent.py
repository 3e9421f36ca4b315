"""The agent's operations, one method for each request of an operator or a unit.

Each gathers facts, lets a pure module decide, and acts; machine, repository and source of bytes are Protocols.
Everything that changes boot entries or slots holds the update lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

from bedrock.errors import TwinhullError
from bedrock.progress import Progress
from keys.secureboot.siglist import BootVariable, hashes_of, parse_lists
from partitions.entries import BootEntry
from partitions.version import Version
from updater.agent import trial
from updater.agent.asking import AnyPlace, Repository, Server
from updater.agent.boot_trust.applying import apply_boot_trust
from updater.agent.config import Config
from updater.agent.entry_changes import EntryChanges
from updater.agent.install import (
    ArtifactSource,
    Installation,
    InstallTarget,
    check_space,
    check_target,
    install,
)
from updater.agent.lock import exclusive
from updater.agent.machine import Machine, disk_map, read_facts
from updater.agent.mender import Mender
from updater.agent.plan import (
    Nothing,
    Plan,
    Update,
    UpdateOptions,
    changed_meanwhile,
    forbidden,
    is_still_wanted,
    plan,
    way_back,
)
from updater.agent.put_off import Until
from updater.agent.record import Record
from updater.agent.state import Attempt, EventKind, Hints, Hold, HostFacts, Pin, PollResult, SlotState
from updater.agent.store import HintStore
from updater.agent.upkeep import Upkeep
from updater.documents.channel import Channel
from updater.documents.release import Release, SignedRelease
from updater.errors import BusyError, PolicyError, PutOffError, UpdaterError

# The guards of a trial wait this long for the lock, within the time limit of their units.
PATIENCE_S = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UpdateOutcome:
    """The decision and, when an update was installed, the installation's report."""

    plan: Plan
    report: Installation | None = None


@dataclass(frozen=True)
class Agent:
    """The agent of one machine; `server` is None when no update server is configured.

    Two locks: `lock_path` for whoever changes boot entries or slots, and one next to it for whoever updates.
    """

    machine: Machine
    config: Config
    store: HintStore
    lock_path: Path
    server: Server | None

    def facts(self) -> HostFacts:
        """What runs and what is on the disk."""
        return read_facts(self.machine)

    def hints(self) -> Hints:
        """What is remembered."""
        return self._record.hints()

    def check(self, options: UpdateOptions) -> Plan:
        """Ask the server and decide; changes nothing but the kept metadata.

        Raises:
            RefusedError: What the server says does not verify.
            FetchError: The server cannot be reached.
            UpdaterError: No server or channel is configured.
        """
        with self._asking() as repository:
            return self._decide_now(self._channel(repository), options)

    def update(self, options: UpdateOptions, progress: Progress) -> UpdateOutcome:
        """Ask the server and, when an update is due, write it to the disk and stage it.

        While bytes come over the network, nothing of the other slot is touched and no lock is held that blessing,
        leaving a trial or going back needs.

        Raises:
            BusyError: Another update is running.
            RefusedError: Verification failed; nothing new is bootable.
            FetchError: The server cannot be reached.
            SlotError: The slot or its boot entry could not be written.
        """
        with exclusive(self.lock_path.with_name("update.lock"), self.machine.clock):
            refused = forbidden(self.facts(), self.hints())
            if refused is not None:
                return UpdateOutcome(refused)
            with self._asking() as repository:
                # First, for what is installed next may need a certificate that is trusted only by this.
                self._apply_boot_trust(repository)
                channel = self._channel(repository)
                decided = self._decide_now(channel, options)
                if not isinstance(decided, Update):
                    return UpdateOutcome(decided)
                with self._noting_failure(decided.version):
                    found = repository.release(decided.version, sha256=decided.sha256)
            with closing(self._server()), self._noting_failure(decided.version):
                decide_again = partial(self._decide_now, channel, options)
                return self._update_to(found, decided, decide_again, progress, until=options.until)

    @contextmanager
    def _noting_failure(self, version: Version) -> Iterator[None]:
        try:
            yield
        except PutOffError:
            raise
        except (TwinhullError, OSError) as error:
            self._record.note(EventKind.FAILED, str(error), version)
            raise

    def _apply_boot_trust(self, repository: Repository) -> None:
        """Append to the firmware's lists what they lack (writes to its flash); a failure stops no update."""
        try:
            found = repository.boot_trust()
            if found is None:
                return
            with self._exclusive(patience_s=PATIENCE_S):
                entry = next(iter(self.facts().running_entries), None)
                done = apply_boot_trust(
                    found,
                    lambda: self.machine.boot_programs(entry),
                    self.machine.databases(),
                    secure_boot=self.machine.secure_boot(),
                )
        except (TwinhullError, OSError) as error:
            _log.error("what the firmware may start was not changed: %s", error)
            return
        for line in (*done.waiting, *done.failed):
            _log.warning("the firmware's lists: %s", line)
        if done.appended or done.problems != self.hints().firmware:
            self._record.remember(lambda hints: hints.with_firmware(done.appended, done.problems, self._record.now()))

    def _update_to(
        self,
        found: SignedRelease,
        decided: Update,
        decide_again: Callable[[], Plan],
        progress: Progress,
        *,
        until: datetime | None,
    ) -> UpdateOutcome:
        if decided.sha256 is None:
            self._record.remember(lambda hints: hints.with_pin_seen(found.release.version, found.sha256))
        source = self._server().source()
        self._check_room(found.release)
        began = self.machine.clock.steady()
        source.prepare(found.release, progress if until is None else Until(progress, self.machine.clock, until))
        download_s = self.machine.clock.steady() - began
        with self._exclusive(patience_s=PATIENCE_S):
            # Minutes may have passed, and an operator may have decided otherwise.
            still = decide_again()
            if not is_still_wanted(still, decided, found.sha256):
                return UpdateOutcome(still if isinstance(still, Nothing) else changed_meanwhile(decided))
            report = replace(self._install(self.facts(), found.release, source, progress), download_s=download_s)
            self._record.remember(lambda hints: self._installed(hints, decided))
            if decided.downgrade:
                self._choose_once(decided.version)
        source.clear()
        return UpdateOutcome(decided, report)

    def book_boot(self) -> trial.TrialVerdict:
        """Record this boot; a trial without tries left is given up, which may request a reboot."""
        upkeep = Upkeep(self._changes, self.config.tries)
        with self._exclusive(patience_s=PATIENCE_S):
            upkeep.mend()
            upkeep.withdraw_damaged()
            facts, evidence = self.facts(), self.machine.initrd_failure()
            seen = (evidence.text,) if evidence is not None and upkeep.is_of_other(evidence, facts) else ()
            boot = trial.Boot(self.machine.running().boot_id, self.config.tries, self._record.now(), seen)
            verdict = self._changes.apply(lambda hints: trial.at_boot(facts, hints, boot))
            if evidence is not None:
                upkeep.forget_failure(evidence, facts.running_version)
            upkeep.examine_other()
            self._changes.keep_second_way()
            upkeep.keep_ways_in(facts.running_version)
            upkeep.keep_spare()
        return self._follow(verdict, force=False)

    def bless(self) -> trial.TrialVerdict:
        """Mark the running slot good on the disk.

        Raises:
            PolicyError: The running slot has no boot entry to bless.
        """
        with self._exclusive(patience_s=PATIENCE_S):
            facts, now = self.facts(), self._record.now()
            verdict = trial.bless(facts, self.hints(), now=now)
            if trial.standing(facts, verdict.hints) is trial.Standing.UNKNOWN:
                raise PolicyError(
                    f"{facts.running_version} runs without a boot entry; there is nothing to bless"
                ).with_hint("reboot: the loader starts an entry it has, and that version can install others")
            # The hints follow the disk: they must not call a version blessed that is not blessed on the disk.
            self._changes.rename(verdict)
            self._record.remember(lambda hints: trial.bless(facts, hints, now=now).hints)
        return verdict

    def unhealthy(self, failure: str, *, force: bool) -> trial.TrialVerdict:
        """Record durably why this boot is not healthy; leave it when it is on trial and has a fallback.

        Raises:
            BusyError: Another process changes boot entries; with `force` the trial is left nevertheless.
        """
        try:
            with self._exclusive(patience_s=PATIENCE_S):
                verdict = self._unhealthy(failure)
        except BusyError:
            if not force:
                raise
            verdict = self._unhealthy(failure)
        return self._follow(verdict, force=force)

    def wait(self, *, seconds: float) -> None:
        """Record that the judgement of a trial may wait for a server, at most this long from now."""
        until_s = self.machine.clock.steady() + seconds
        with self._exclusive(patience_s=PATIENCE_S):
            facts = self.facts()
            self._record.remember(lambda hints: trial.wait(facts, hints, until_s=until_s))

    def is_waiting(self) -> bool:
        """Whether the judgement of this trial waits, and may."""
        boot_id, steady_s = self.machine.running().boot_id, self.machine.clock.steady()
        return trial.is_waiting(self.facts(), self.hints(), boot_id=boot_id, steady_s=steady_s)

    def postpone(self, reason: str) -> trial.TrialVerdict:
        """Leave a trial that could not be judged, if there is something to go back to."""
        with self._exclusive(patience_s=PATIENCE_S):
            facts, now = self.facts(), self._record.now()
            verdict = self._changes.apply(lambda hints: trial.postpone(facts, hints, reason=reason, now=now))
        try:
            return self._follow(verdict, force=False)
        except TwinhullError as error:
            # The running entry may be gone already: nothing but a reboot leads on from here.
            _log.warning("the reboot is forced: %s", error)
            return self._follow(verdict, force=True)

    def _unhealthy(self, failure: str) -> trial.TrialVerdict:
        facts, now = self.facts(), self._record.now()
        verdict = self._changes.apply(lambda hints: trial.unhealthy(facts, hints, failure=failure, now=now))
        if verdict.reboot or not any(entry.guarded for entry in facts.running_entries):
            return verdict
        flaw = Mender(self.machine).flaw_of(facts.slot)
        return (
            self._changes.apply(lambda hints: trial.leave_damaged(facts, hints, flaw=flaw, now=now))
            if flaw
            else verdict
        )

    def rollback(self) -> Version:
        """Go back to the other slot: gives up a trial, or leaves a blessed version on request; the caller reboots.

        Raises:
            PolicyError: There is no proven version to go back to.
            BusyError: The boot entries are being changed at this moment.
        """
        try:
            with self._exclusive():
                return self._roll_back()
        except BusyError:
            # An update is being written, which takes as long as the disk does: what it left cannot be gone back to.
            way_back(self.facts())
            raise

    def _roll_back(self) -> Version:
        facts, hints = self.facts(), self.hints()
        back = way_back(facts)
        self._require_startable(back)
        if trial.standing(facts, hints) is trial.Standing.TRIAL:
            now = self._record.now()
            self._changes.apply(lambda hints: trial.give_up(facts, hints, reason=trial.ROLLED_BACK, now=now))
        else:
            self._wish(back)
        return back.version

    def reboot(self) -> None:
        """Reboot; a staged older version is chosen for one boot, because the loader would not start it by itself."""
        facts = self.facts()
        staged = facts.inactive_entry
        pending = facts.inactive_state in (SlotState.STAGED, SlotState.TRIAL)
        if staged is not None and pending and staged.version < facts.running_version:
            self._require_startable(staged)
            self.machine.set_one_shot(staged.loader_pattern)
        self.machine.reboot(force=False)

    def pin(self, version: Version | None) -> Hints:
        """Stay on exactly this version, or (None) follow the channel again."""
        kind = EventKind.UNPINNED if version is None else EventKind.PINNED
        wish = None if version is None else Pin(version)
        return self._wishing(
            lambda hints: replace(hints, pin=wish),
            kind,
            "by the operator",
            version,
        )

    def hold(self, reason: str) -> Hints:
        """Take no update until released."""
        held = Hold(reason, self._record.now())
        return self._wishing(lambda hints: replace(hints, hold=held), EventKind.HELD, reason or "by the operator")

    def release_hold(self) -> Hints:
        """Take updates again."""
        return self._wishing(lambda hints: replace(hints, hold=None), EventKind.RELEASED, "by the operator")

    def forgive(self, version: Version, reason: str) -> bool:
        """Take back that a version failed here; what is in the other slot gets its tries again.

        Returns:
            Whether there was anything to take back.
        """
        with self._exclusive(patience_s=PATIENCE_S):
            facts, now, tries = self.facts(), self._record.now(), self.config.tries
            if not trial.has_failed(facts, self.hints(), version):
                return False
            self._changes.apply(lambda hints: trial.forgive(facts, hints, version, tries=tries, reason=reason, now=now))
        return True

    def refresh(self) -> None:
        """Ask the update server for its newest metadata and verify them (a health check)."""
        with self._asking():
            pass

    def _channel(self, repository: Repository) -> Channel:
        if self.config.channel is None:
            raise UpdaterError("no channel is configured").with_hint("set `channel:` in /etc/twinhull/updater.yaml")
        return repository.channel(self.config.channel)

    def _decide_now(self, channel: Channel, options: UpdateOptions) -> Plan:
        return plan(
            self.facts(),
            self.hints(),
            channel,
            now=self.machine.clock.now(),
            host_id=self.machine.running().host_id,
            options=options,
        )

    @contextmanager
    def _asking(self) -> Iterator[Repository]:
        """The repository with its newest metadata; how asking for its documents ended is remembered."""
        with closing(self._server()) as server:
            repository = AnyPlace(server, self.machine.running())
            try:
                repository.refresh()
                yield repository
            finally:
                if repository.outcome is not None:
                    self._remember_poll(*repository.outcome)

    def _server(self) -> Server:
        if self.server is None:
            raise UpdaterError("no update server is configured").with_hint("set `url:` in /etc/twinhull/updater.yaml")
        return self.server

    def _check_room(self, release: Release) -> None:
        """Refuse what cannot be installed before it is downloaded."""
        with (
            self._target(self.facts(), release, writable=False) as target,
            target.boot.mounted(writable=False) as folder,
        ):
            check_target(target, release)
            check_space(target, folder, release)

    def _install(self, facts: HostFacts, release: Release, source: ArtifactSource, progress: Progress) -> Installation:
        with self._target(facts, release, writable=True) as target:
            return install(target, release, source, progress)

    @contextmanager
    def _target(self, facts: HostFacts, release: Release, *, writable: bool) -> Iterator[InstallTarget]:
        with self.machine.disk(writable=writable) as disk:
            yield InstallTarget(
                disk=disk,
                slot=disk_map(disk, release.architecture).slot(facts.slot.other),
                running=disk_map(disk, release.architecture).slot(facts.slot),
                boot=self.machine.boot,
                esp=self.machine.esp,
                facts=facts,
                tries=self.config.tries,
                free_uuid=uuid4,
                steady=self.machine.clock.steady,
                revoked=self._revoked(),
            )

    def _installed(self, hints: Hints, update: Update) -> Hints:
        postponed = hints.attempt(update.version).postponed
        kept = replace(
            hints.without_bad(update.version),
            attempts=(Attempt(update.version, 0, postponed=postponed),) if postponed else (),
            wish=update.version if update.downgrade else None,
        )
        return kept.with_event(
            EventKind.INSTALLED, f"staged in slot {update.slot.value}", self._record.now(), update.version
        )

    def _choose_once(self, version: Version) -> None:
        entry = self.facts().inactive_entry
        if entry is not None and entry.version == version:
            self.machine.set_one_shot(entry.loader_pattern)

    def _revoked(self) -> frozenset[bytes]:
        """The programs that the firmware does not start any more, by their Authenticode SHA-256."""
        if not self.machine.secure_boot():
            return frozenset()
        try:
            return hashes_of(parse_lists(self.machine.databases().read(BootVariable.DBX) or b""))
        except ValueError as error:
            _log.warning("what the firmware has revoked cannot be read: %s", error)
            return frozenset()

    def _require_startable(self, entry: BootEntry) -> None:
        """Refuse to choose what the firmware would not start: the machine would stand still until somebody comes.

        Raises:
            PolicyError: It is revoked.
        """
        revoked = self._revoked()
        if not revoked:
            return
        with self.machine.boot.mounted(writable=False) as folder:
            digest = folder.authenticode(entry.file_name)
        if digest in revoked:
            raise PolicyError(f"{entry.version} is revoked: the firmware of this host would not start it")

    def _wish(self, back: BootEntry) -> None:
        text = f"going back to {back.version}"
        self.store.change(
            lambda hints: replace(hints, wish=back.version).with_event(
                EventKind.ROLLBACK, text, self._record.now(), back.version
            ),
            self._record.now(),
        )
        try:
            self.machine.set_one_shot(back.loader_pattern)
        except TwinhullError:
            # A rollback request that is not carried out would block every update until the next boot.
            self._record.remember(lambda hints: replace(hints, wish=None))
            raise

    def _wishing(
        self, change: Callable[[Hints], Hints], kind: EventKind, text: str, version: Version | None = None
    ) -> Hints:
        now = self._record.now()
        return self.store.change(lambda hints: change(hints).with_event(kind, text, now, version), now)

    def _follow(self, verdict: trial.TrialVerdict, *, force: bool) -> trial.TrialVerdict:
        if verdict.reboot:
            self.machine.reboot(force=force)
        return verdict

    def _remember_poll(self, result: PollResult, reason: str) -> None:
        self._record.remember(lambda hints: hints.with_poll(result, reason, self._record.now()))

    @property
    def _record(self) -> Record:
        return Record(self.store, self.machine.clock)

    @property
    def _changes(self) -> EntryChanges:
        return EntryChanges(self.machine, self._record)

    def _exclusive(self, *, patience_s: float = 0.0) -> AbstractContextManager[None]:
        return exclusive(self.lock_path, self.machine.clock, patience_s=patience_s)
