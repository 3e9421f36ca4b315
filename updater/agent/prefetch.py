"""Runs one stage of a pipeline ahead of the next, in a thread, with a small bounded queue between them.

Hashing, decompressing and writing release the interpreter lock, so stages really run in parallel.  Small chunks are
passed in batches, because each pass makes two threads wait for the lock; memory use is the queue's few batches.
An error in a stage reaches the consumer; a consumer that stops early stops the stage.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

# A batch is full with this many bytes or chunks, so that a server that sends single bytes does not fill the memory.
BATCH_BYTES = 1 << 20
BATCH_CHUNKS = 64
POLL_S = 0.2
JOIN_S = 120.0


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class _End:
    """Marks the end of the stream in the queue."""


_Batch = list[bytes]
_Item = _Batch | _Failed | _End


def ahead(chunks: Generator[bytes, None, None], *, depth: int, name: str) -> Iterator[bytes]:
    """Yield the chunks of `chunks`, which runs in a thread of its own, at most `depth` batches ahead."""
    lane: queue.Queue[_Item] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    worker = threading.Thread(target=_produce, args=(chunks, lane, stop), name=name, daemon=True)
    worker.start()
    try:
        while True:
            item = lane.get()
            if isinstance(item, _End):
                return
            if isinstance(item, _Failed):
                raise item.error
            yield from item
    finally:
        stop.set()
        worker.join(JOIN_S)


def _produce(chunks: Generator[bytes, None, None], lane: queue.Queue[_Item], stop: threading.Event) -> None:
    batch: _Batch = []
    last: _Failed | _End = _End()
    # The thread's boundary: every exception is raised again in the consumer's thread.
    try:
        with closing(chunks):
            for chunk in chunks:
                batch.append(chunk)
                if len(batch) < BATCH_CHUNKS and sum(map(len, batch)) < BATCH_BYTES:
                    continue
                if not _put(lane, batch, stop):
                    return
                batch = []
    except BaseException as error:  # noqa: BLE001 - handed over, not swallowed
        last = _Failed(error)
    # An empty batch is harmless; chunks from before the end or the error are passed on first.
    if _put(lane, batch, stop):
        _put(lane, last, stop)


def _put(lane: queue.Queue[_Item], item: _Item, stop: threading.Event) -> bool:
    """Queue an item; False when the consumer has stopped."""
    while not stop.is_set():
        try:
            lane.put(item, timeout=POLL_S)
        except queue.Full:
            continue
        return True
    return False
