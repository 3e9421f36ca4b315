"""The common part of every benchmark's report: limits that are met or not, and the machine it ran on."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from bedrock.persist import write_atomic

# Above this load something else was at work on the machine when the benchmark began.
IDLE_LOAD = 0.3


@dataclass(frozen=True)
class Bar:
    """A figure and the most it may be."""

    name: str
    value: float
    most: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure stays within its bar."""
        return self.value <= self.most

    @property
    def line(self) -> str:
        """One line for people."""
        unit = f" {self.unit}" if self.unit else ""
        verdict = "met" if self.met else "MISSED"
        return f"{self.name:<34} {self.value:7.2f}{unit} (at most {self.most:g}{unit}: {verdict})"

    def values(self) -> dict[str, Any]:
        """The bar as a part of a JSON document."""
        return {**asdict(self), "met": self.met}


@dataclass(frozen=True)
class MachineFacts:
    """The machine a benchmark ran on, and how busy it was before."""

    load_before: float
    cores: int
    memory_mib: int
    system: str

    @property
    def line(self) -> str:
        """One line for people."""
        busy = "" if self.load_before < IDLE_LOAD else " (this machine has other work: the figures are too high)"
        machine = f"{self.cores} cores, {self.memory_mib} MiB, {self.system}"
        return f"{machine}; load before {self.load_before:.2f}{busy}"


def facts() -> MachineFacts:
    """This machine, and its current load."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = f"{platform.system()} {platform.release()}"
    return MachineFacts(os.getloadavg()[0], os.cpu_count() or 1, memory >> 20, system)


def median_of(rounds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds that have it, in the order in which the figures first appear."""
    figures: dict[str, list[float]] = {}
    for each in rounds:
        for name, value in each.items():
            figures.setdefault(name, []).append(value)
    return {name: round(statistics.median(values), 3) for name, values in figures.items()}


def table(columns: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Seconds by name, one column for each kind of run; a dash where a run has no such part."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    widths = {title: max(len(title), 8) for title in columns}
    lines = [f"{'seconds':<18}" + "".join(f"   {title:>{widths[title]}}" for title in columns)]
    for name in names:
        cells = (
            f"   {column[name]:>{widths[title]}.1f}" if name in column else f"   {'-':>{widths[title]}}"
            for title, column in columns.items()
        )
        lines.append(f"{name.replace('_', ' '):<18}" + "".join(cells))
    return lines


def write_document(path: Path, values: Mapping[str, Any]) -> str:
    """Write a benchmark's JSON document to the disk and return its text."""
    text = json.dumps(values, indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode())
    return text


def say(text: str, *, to: TextIO) -> None:
    """Write a line that is seen at once, also through a pipe."""
    to.write(f"{text}\n")
    to.flush()
