"""Where Twinhull's own files are, and the one moment that every file of an image gets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "data"
SOURCE_ROOT: Final = Path(__file__).parent.parent
EPOCH: Final = 1_700_000_000
"""Seconds since 1970: the time of files, so that two builds of the same content have the same bytes."""
