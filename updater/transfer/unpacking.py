"""Unpacks an object that the agent has checked: raw bytes in pieces of bounded size, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

import zstandard

from updater.transfer.failure import TransferError
from updater.transfer.messages import Failure, Unpack

MAX_WINDOW_BYTES = 8 << 20
READ_BYTES = 256 << 10
PIECE_BYTES = 1 << 20
# What was read is dropped from the page cache, which counts as this process's memory.
DROP_BYTES = 4 << 20


def unpack(wanted: Unpack, packed: BinaryIO, pass_on: Callable[[bytes], None]) -> None:
    """Pass on the raw bytes, at most one piece more than `raw_bytes`.

    Raises:
        TransferError: It is not zstd, is damaged, or needs more memory than allowed.
    """
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(
        packed, read_size=READ_BYTES, read_across_frames=True, closefd=False
    )
    left, dropped = wanted.raw_bytes, 0
    try:
        while left >= 0 and (piece := reader.read(PIECE_BYTES)):
            left -= len(piece)
            pass_on(piece)
            dropped = _drop(packed, dropped)
    except zstandard.ZstdError as error:
        raise TransferError(f"it cannot be unpacked: {error}", failure=Failure.DAMAGED, again=False) from error


def _drop(packed: BinaryIO, dropped: int) -> int:
    if not packed.seekable():
        return dropped
    here = packed.tell()
    if here - dropped < DROP_BYTES:
        return dropped
    os.posix_fadvise(packed.fileno(), dropped, here - dropped, os.POSIX_FADV_DONTNEED)
    return here
