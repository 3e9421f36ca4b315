"""`summary.json`: what a build came to, for people and scripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedrock import strict
from partitions.version import Version

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Summary:
    """What a build came to: sizes in bytes (those that sparse files occupy), seconds per step, notes for people."""

    image: str
    version: Version
    root_hash: str
    kernel: str
    packages: int
    size_bytes: dict[str, int]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


def read_summary(out: Path) -> Summary:
    """The summary of a finished build.

    Raises:
        DocumentError: It was changed by hand.
        OSError: There is none.
    """
    path = out / SUMMARY_FILE
    return strict.read_json(Summary, path.read_bytes(), source=str(path))
