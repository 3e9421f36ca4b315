"""What the agent knows: facts read from this machine's disk, and the hints it keeps between boots.  Pure values.

The facts (`HostFacts`) are the truth; `Hints` is the content of `/var/lib/twinhull/state.json` and may be lost at any
time: everything that safety depends on (what is bootable, what is blessed, what runs) is derived from the disk.
The file grows by `bedrock.evolution`: after a fall back an older agent reads what a newer one wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated

from bedrock import evolution, strict
from partitions.entries import BootEntry, first_choice
from partitions.layout import Slot, SlotIdentity
from partitions.uki import UkiContent
from partitions.version import Version
from updater.documents.channel import Instant
from updater.documents.release import Sha256

FORMAT = 1
HISTORY_LIMIT = 200
REASON_LIMIT = 2000
EVIDENCE_LIMIT = 20


class SlotState(Enum):
    """The state of the inactive slot."""

    EMPTY = "empty"
    UNFINISHED = "unfinished"
    STAGED = "staged"
    TRIAL = "trial"
    BLESSED = "blessed"
    BAD = "bad"
    DEMOTED = "demoted"
    GIVEN_UP = "given-up"


class EventKind(Enum):
    """What an event in the history describes."""

    INSTALLED = "installed"
    BOOTED = "booted"
    BLESSED = "blessed"
    UNHEALTHY = "unhealthy"
    MARKED_BAD = "marked-bad"
    FELL_BACK = "fell-back"
    DEMOTED = "demoted"
    ROLLBACK = "rollback"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    HELD = "held"
    RELEASED = "released"
    FAILED = "failed"
    REBUILT = "rebuilt"
    POLL_REFUSED = "poll-refused"
    POLL_FAILED = "poll-failed"
    POLL_REMARK = "poll-remark"
    POLL_RECOVERED = "poll-recovered"
    FIRMWARE = "firmware"
    POSTPONED = "postponed"
    UNJUDGED = "unjudged"
    GIVEN_UP = "given-up"
    REPAIRED = "repaired"
    FORGIVEN = "forgiven"
    STORAGE = "storage"
    OLDER = "older"
    DISK = "disk"
    OVERRULED = "overruled"


@dataclass(frozen=True)
class SlotFacts:
    """One slot as the partition table describes it; only a slot with an identity can be found by an initrd.

    `identity` is what the partitions say that they hold; None when it was not read.
    """

    slot: Slot
    label: str
    has_identity: bool
    identity: SlotIdentity | None = None


@dataclass(frozen=True)
class Stray:
    """A file that the loader may start and that is not the entry of a slot under its own name.

    `content` is what it boots; None when it is not a UKI of a Twinhull image, for the reason in `problem`.
    """

    name: str
    size_bytes: int
    content: UkiContent | None
    problem: str = ""


@dataclass(frozen=True)
class HostFacts:
    """What this machine runs and what is on its disk.

    `entries` are the files that say in their name what they boot: a slot that is on the disk, by its root hash.  All
    others that the loader sees are `strays`, whatever they are called: a name alone says nothing.
    """

    image: str
    running_version: Version
    running_root_hash: str
    slot: Slot
    inactive: SlotFacts
    entries: tuple[BootEntry, ...]
    strays: tuple[Stray, ...] = ()

    @property
    def running_entries(self) -> tuple[BootEntry, ...]:
        """The entries of the running version (one, unless a rename was interrupted)."""
        return tuple(entry for entry in self.entries if self._runs(entry))

    @property
    def other_entries(self) -> tuple[BootEntry, ...]:
        """Every entry except the running version's."""
        return tuple(entry for entry in self.entries if not self._runs(entry))

    @property
    def blessed(self) -> bool:
        """Whether the running slot is proven, by the name of its boot entry."""
        return any(entry.blessed for entry in self.running_entries)

    @property
    def has_fallback(self) -> bool:
        """Whether there is another proven entry, which the loader starts once this one has no tries left."""
        return any(entry.blessed and not entry.exhausted for entry in self.other_entries)

    @property
    def newer_blessed(self) -> tuple[BootEntry, ...]:
        """Proven entries newer than the running version; the loader prefers them."""
        return tuple(
            e for e in self.other_entries if e.blessed and not e.exhausted and e.version > self.running_version
        )

    @property
    def inactive_entry(self) -> BootEntry | None:
        """The entry that boots the inactive slot, if there is one."""
        return first_choice(self.other_entries) if self.inactive.has_identity else None

    @property
    def inactive_state(self) -> SlotState:
        """The state of the inactive slot."""
        entry = self.inactive_entry
        if not self.inactive.has_identity:
            return SlotState.EMPTY
        if entry is None:
            return SlotState.UNFINISHED
        if entry.blessed:
            return SlotState.GIVEN_UP if entry.exhausted else SlotState.BLESSED
        if entry.trial:
            return SlotState.TRIAL if entry.tries_done else SlotState.STAGED
        return SlotState.BAD if entry.tries_done else SlotState.DEMOTED

    def _runs(self, entry: BootEntry) -> bool:
        return entry.image == self.image and entry.version == self.running_version


@dataclass(frozen=True)
class BadVersion:
    """A version that failed on this host, why, and when that was seen; `evidence` is what was seen of it, in words."""

    version: Version
    reason: str
    at: Instant
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pin:
    """The operator's wish to stay on exactly this version.

    `sha256` is that of its release document, from the first time that this host saw it; from then on nothing else
    counts as that version.
    """

    version: Version
    sha256: Sha256 | None = None


@dataclass(frozen=True)
class Hold:
    """The operator's request to take no update for now."""

    reason: str
    at: Instant


@dataclass(frozen=True)
class Attempt:
    """Boots of a version that is not proven yet, counted by the agent; `failure` is the problem of the last one.

    `passed_over` counts boots of a proven version while this one waited to be started; `postponed` counts trials that
    could not be judged; `waits_until_s`, in seconds since boot `boot_id`, is how long this one may go on.
    `given_up` counts how often the loader left it although it had been proven; `left` says that it still does.
    """

    version: Version
    boots: Annotated[int, strict.Range(0, 1000)]
    boot_id: str = ""
    failure: str = ""
    passed_over: Annotated[int, strict.Range(0, 1000)] = 0
    postponed: Annotated[int, strict.Range(0, 1000)] = 0
    waits_until_s: Annotated[float, strict.Range(0, 1e10)] = 0.0
    given_up: Annotated[int, strict.Range(0, 1000)] = 0
    left: bool = False


@dataclass(frozen=True)
class Event:
    """One line of the history."""

    at: Instant
    kind: EventKind
    text: str
    version: Version | None = None


class PollResult(Enum):
    """How asking the update server ended."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Poll:
    """The last time that the update server was asked; `since` is when it began to end like this, for this reason.

    A poll that is `OK` may have a reason, too: something that a person should know.
    """

    at: Instant
    result: PollResult
    reason: str
    since: Instant

    def __str__(self) -> str:
        if not self.reason:
            return f"{self.at} {self.result.value}"
        since = "" if self.since == self.at else f" since {self.since}"
        return f"{self.at} {self.result.value}{since}: {self.reason}"


_POLL_EVENTS = {
    PollResult.REFUSED: EventKind.POLL_REFUSED,
    PollResult.FAILED: EventKind.POLL_FAILED,
    PollResult.OK: EventKind.POLL_REMARK,
}


@dataclass(frozen=True)
class Hints:
    """What the agent remembers; every change returns a new value."""

    format: Annotated[int, strict.Range(FORMAT, FORMAT)] = FORMAT
    bad: tuple[BadVersion, ...] = ()
    pin: Pin | None = None
    hold: Hold | None = None
    wish: Version | None = None
    newest_blessed: Version | None = None
    attempts: tuple[Attempt, ...] = ()
    poll: Poll | None = None
    firmware: tuple[str, ...] = ()
    history: Annotated[tuple[Event, ...], strict.Alternatives(("kind",))] = field(default=())

    def bad_version(self, version: Version) -> BadVersion | None:
        """The record of the failure of `version` on this host, if there is one."""
        return next((bad for bad in self.bad if bad.version == version), None)

    def attempt(self, version: Version) -> Attempt:
        """The record of the unproven boots of `version`."""
        return next((a for a in self.attempts if a.version == version), Attempt(version, 0))

    def with_bad(self, version: Version, reason: str, at: Instant, evidence: Sequence[str] = ()) -> Hints:
        """Record that `version` failed; replaces an earlier record."""
        kept = tuple(bad for bad in self.bad if bad.version != version)
        seen = tuple(line[:REASON_LIMIT] for line in evidence[-EVIDENCE_LIMIT:])
        return replace(self, bad=(*kept, BadVersion(version, reason[:REASON_LIMIT], at, seen)))

    def without_bad(self, version: Version) -> Hints:
        """Forget that `version` failed."""
        return replace(self, bad=tuple(bad for bad in self.bad if bad.version != version))

    def with_attempt(self, attempt: Attempt) -> Hints:
        """Record the unproven boots of one version."""
        kept = tuple(a for a in self.attempts if a.version != attempt.version)
        return replace(self, attempts=(*kept, replace(attempt, failure=attempt.failure[:REASON_LIMIT])))

    def without_attempt(self, version: Version) -> Hints:
        """Forget the unproven boots of one version."""
        return replace(self, attempts=tuple(a for a in self.attempts if a.version != version))

    def with_pin_seen(self, version: Version, sha256: str) -> Hints:
        """Remember which bytes a pin means, if it is that version's and has not been seen yet."""
        if self.pin is None or self.pin.sha256 is not None or str(self.pin.version) != str(version):
            return self
        return replace(self, pin=replace(self.pin, sha256=sha256))

    def with_event(self, kind: EventKind, text: str, at: Instant, version: Version | None = None) -> Hints:
        """Add a line to the history; the oldest lines are dropped past the limit."""
        event = Event(at, kind, text[:REASON_LIMIT], version)
        return replace(self, history=(*self.history, event)[-HISTORY_LIMIT:])

    def with_poll(self, result: PollResult, reason: str, at: Instant) -> Hints:
        """Record a poll; the history gets a line when the result changes, not each time."""
        before = self.poll
        reason = reason[:REASON_LIMIT]
        # Reasons name moments and numbers that differ each time: what counts as the same is the result.
        same = before is not None and before.result is result and bool(before.reason) == bool(reason)
        since = before.since if same and before is not None else at
        polled = replace(self, poll=Poll(at, result, reason, since))
        if same:
            return polled
        if reason:
            return polled.with_event(_POLL_EVENTS[result], reason, at)
        was_bad = before is not None and before.result is not PollResult.OK
        return polled.with_event(EventKind.POLL_RECOVERED, "the update server answers", at) if was_bad else polled

    def with_firmware(self, appended: Sequence[str], problems: tuple[str, ...], at: Instant) -> Hints:
        """Record what the firmware's lists got, and what they did not; a problem gets its line once."""
        changed = replace(self, firmware=tuple(problem[:REASON_LIMIT] for problem in problems))
        for line in (
            *(f"appended: {reason}" for reason in appended),
            *(each for each in problems if each not in self.firmware),
        ):
            changed = changed.with_event(EventKind.FIRMWARE, line, at)
        return changed

    def newest_known(self, facts: HostFacts) -> Version | None:
        """The newest version proven here: the remembered one or a newer one the disk shows.

        An entry demoted by an operator's request was proven once; one that used up its tries never was.
        """
        seen = [e.version for e in facts.entries if e.blessed or (e.exhausted and not e.tries_done)]
        known = [*seen, *([self.newest_blessed] if self.newest_blessed else [])]
        return max(known, default=None)


def parse_hints(data: bytes, *, source: str) -> Hints:
    """Read the state file, which a newer agent may have written before this one came back.

    Raises:
        DocumentError: It is not a state file of this format.
    """
    return evolution.read_json(Hints, data, source=source)
