"""What a power cut between two flushes leaves: any of the writes in flight, in any order, the last ones torn.

A disk may write what it has not yet flushed in any order, and not at all.  It writes sectors of 512 bytes whole or not
at all.  Everything is drawn from a seed, so a state that is found bad can be made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from powercut_disk import Piece
from powercut_log import SECTOR, DiskRequest, RequestKind

_LEAST_FOR_REORDER = 2


class CutKind(Enum):
    """What happened to the writes in flight."""

    REORDERED = "reordered"
    TORN = "torn"


@dataclass(frozen=True)
class Cut:
    """A state between two flushes: the writes that reached the disk, in that order."""

    kind: CutKind
    pieces: tuple[Piece, ...]


def epochs(requests: Iterable[DiskRequest]) -> Iterator[tuple[list[DiskRequest], bool]]:
    """The writes between two flushes, and whether a flush ended them; an epoch may be empty."""
    current: list[DiskRequest] = []
    for request in requests:
        if request.kind is RequestKind.FLUSH:
            yield current, True
            current = []
        else:
            current.append(request)
    yield current, False


def cuts(writes: Sequence[Piece], random: Random, count: int) -> Iterator[Cut]:
    """Up to `count` different states of either kind that are not a beginning of the recorded order."""
    seen: set[int] = set()
    for _ in range(count):
        for kind, draw in ((CutKind.REORDERED, _reordered), (CutKind.TORN, _torn)):
            pieces = tuple(draw(writes, random))
            state = _state(pieces)
            if pieces and state not in seen:
                seen.add(state)
                yield Cut(kind, pieces)


def _state(pieces: Sequence[Piece]) -> int:
    """A hash of the sectors that are on the disk in the end, whatever the order was."""
    sectors: dict[int, bytes] = {}
    for piece in pieces:
        for at in range(0, len(piece.data), SECTOR):
            sectors[piece.offset + at] = piece.data[at : at + SECTOR]
    return hash(frozenset(sectors.items()))


def _reordered(writes: Sequence[Piece], random: Random) -> list[Piece]:
    """Some of the writes without one before them, mixed; empty when there are too few."""
    if len(writes) < _LEAST_FOR_REORDER:
        return []
    kept = [piece for piece in writes if random.random() < random.choice((0.1, 0.5, 0.9))]
    if not kept or kept == list(writes[: len(kept)]):
        # All or a beginning of them: leave out one that is not the last.
        place = random.randrange(len(writes) - 1)
        kept = [*writes[:place], *writes[place + 1 :]]
    random.shuffle(kept)
    return kept


def _torn(writes: Sequence[Piece], random: Random) -> list[Piece]:
    """Some of the writes, and a part of the sectors of one of them; empty when no write has two sectors."""
    candidates = [piece for piece in writes if len(piece.data) > SECTOR]
    if not candidates:
        return []
    victim = random.choice(candidates)
    others = [piece for piece in writes if piece is not victim and random.random() < random.choice((0.1, 0.5, 1.0))]
    return [*others, *_sectors(victim, random)]


def _sectors(piece: Piece, random: Random) -> Iterator[Piece]:
    """Some sectors of a write, at least one of them missing: its beginning, its end, or any."""
    count = -(-len(piece.data) // SECTOR)
    kind = random.randrange(3)
    if kind < 2:
        cut = random.randrange(1, count) * SECTOR
        data = piece.data[:cut] if kind == 0 else piece.data[cut:]
        yield Piece(piece.offset + (0 if kind == 0 else cut), data)
        return
    kept = random.sample(range(count), random.randrange(1, count))
    for number in sorted(kept):
        start = number * SECTOR
        yield Piece(piece.offset + start, piece.data[start : start + SECTOR])
