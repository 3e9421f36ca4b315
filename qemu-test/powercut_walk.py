"""Walks over every state that a power cut can leave of a recorded life, and judges each.

All beginnings of the recording are judged; where writes between two flushes touch what booting rests on, so are some
of their other orders, and torn ones.  States to be booted for real are drawn while walking, of every kind that occurs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from powercut_disk import Piece, ReplayedDisk
from powercut_judge import Judge, Problem, Verdict
from powercut_log import DiskRequest, WriteLog
from powercut_orders import Cut, CutKind, cuts, epochs


@dataclass(frozen=True)
class State:
    """A state of the disk: so many requests of the log in order, then the writes of a cut, if it is one."""

    requests: int
    cut: tuple[Piece, ...]
    kind: CutKind | None
    verdict: Verdict


@dataclass
class Findings:
    """What the walk found."""

    writes: int = 0
    flushes: int = 0
    prefixes: int = 0
    cuts: Counter[CutKind] = field(default_factory=Counter)
    problems: Counter[Problem] = field(default_factory=Counter)
    first_bad: dict[Problem, State] = field(default_factory=dict)
    fell_back: int = 0
    second_way: int = 0
    backup_table: int = 0
    flaws: Counter[str] = field(default_factory=Counter)
    kinds: dict[object, list[State]] = field(default_factory=dict)
    _seen: Counter[object] = field(default_factory=Counter)

    @property
    def states(self) -> int:
        """All states that were judged."""
        return self.prefixes + self.cuts.total()

    def note(self, state: State, random: Random, most_per_kind: int) -> None:
        """Count a state and keep it, perhaps, as one to be booted."""
        verdict = state.verdict
        if state.kind is not None:
            self.cuts[state.kind] += 1
        else:
            self.prefixes += 1
        for problem in verdict.problems:
            self.problems[problem] += 1
            self.first_bad.setdefault(problem, state)
        self.fell_back += verdict.fell_back
        self.second_way += verdict.second is not None and verdict.second != verdict.first
        self.backup_table += verdict.backup_table
        self.flaws.update(flaw.name for flaw in verdict.flaws)
        kind = _kind_of(state)
        kept = self.kinds.setdefault(kind, [])
        self._seen[kind] += 1
        if len(kept) < most_per_kind:
            kept.append(state)
        elif (place := random.randrange(self._seen[kind])) < most_per_kind:
            # Each state of a kind has the same chance to be among those kept.
            kept[place] = state

    def sample(self, count: int, seed: int) -> list[State]:
        """States to be booted: one of each kind in turn, until there are enough; in the order of the recording."""
        rounds: list[State] = []
        left = [list(states) for states in self.kinds.values()]
        # When fewer are booted than there are kinds, these are not the first ones of the recording.
        Random(seed).shuffle(left)  # noqa: S311 - choices, not secrets
        while any(left) and len(rounds) < count:
            for states in left:
                if states and len(rounds) < count:
                    rounds.append(states.pop())
        return sorted(rounds, key=lambda state: state.requests)


@dataclass(frozen=True)
class WalkOptions:
    """How much is looked at.

    Attributes:
        seed: Where the choices come from.
        cuts_per_epoch: States of either kind of cut between two flushes.
        most_per_kind: How many states of a kind are kept as those that may be booted.
        most_cut_bytes: How much is written in a cut.
    """

    seed: int = 1
    cuts_per_epoch: int = 8
    most_per_kind: int = 4
    most_cut_bytes: int = 8 << 20


def walk(
    disk: ReplayedDisk,
    judge: Judge,
    log: WriteLog,
    options: WalkOptions,
    *,
    look: Callable[[State], None] = lambda _: None,
) -> Findings:
    """Judge every state; `look` sees each, while the disk is in it."""
    random = Random(options.seed)  # noqa: S311 - choices, not secrets
    found = Findings()

    def judged(requests: int, cut: tuple[Piece, ...] = (), kind: CutKind | None = None) -> None:
        state = State(requests, cut, kind, judge.verdict())
        found.note(state, random, options.most_per_kind)
        look(state)

    judged(0)
    at = 0
    for epoch, flushed in epochs(log.requests()):
        for cut in _cuts_of(epoch, log, judge, random, options):
            with disk.trial(cut.pieces):
                judged(at, cut.pieces, cut.kind)
        for request in epoch:
            disk.apply(request.offset, log.data(request))
            at += 1
            found.writes += 1
            judged(at)
        at += flushed
        found.flushes += flushed
    return found


def _cuts_of(
    epoch: list[DiskRequest], log: WriteLog, judge: Judge, random: Random, options: WalkOptions
) -> Iterator[Cut]:
    """Other orders of an epoch; none where nothing in it matters to the judge."""
    if not any(judge.touches(request.offset, request.length) for request in epoch):
        return
    left = options.most_cut_bytes
    chosen = []
    # Of an epoch that writes a whole slot, some writes: that the others are missing is a cut as well.
    for place in random.sample(range(len(epoch)), len(epoch)):
        left -= epoch[place].length
        if left >= 0:
            chosen.append(place)
    writes = [Piece(request.offset, log.data(request)) for request in (epoch[place] for place in sorted(chosen))]
    yield from cuts(writes, random, options.cuts_per_epoch)


def _kind_of(state: State) -> object:
    """What makes a state another one to boot: what comes up by which way, and how it came to be."""
    verdict = state.verdict
    return verdict.first, verdict.second, verdict.boots, verdict.starts, verdict.problems, state.kind
