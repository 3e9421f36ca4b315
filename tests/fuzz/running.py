"""Runs a target on damaged documents, each within bounds of processor time and memory, and collects what is wrong.

A document that is accepted after all, or refused in a way not seen before, is damaged further.
"""

from __future__ import annotations

import re
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.mutation import damaged
from tests.fuzz.target import FuzzTarget

MOST_SECONDS = 2.0
MOST_MEMORY_BYTES = 512 << 20
MOST_FINDINGS = 5
_MOST_SEEDS = 400
# How often a document that was accepted is damaged, and not one that was refused in a new way.
_SOUND = 0.8
_ACCEPTED = "accepted"
_DETAILS = re.compile(r"[0-9]+|'[^']*'|\"[^\"]*\"")


class TooSlow(BaseException):
    """A parser used more processor time than it may; no handler of exceptions takes it for its own."""


@dataclass(frozen=True)
class Finding:
    """An input, and what went wrong with it."""

    data: bytes
    error: str
    trace: str


@dataclass
class FuzzReport:
    """What came of one target."""

    target: str
    inputs: int = 0
    accepted: int = 0
    cpu_seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.target}: {self.inputs} inputs, {self.accepted} accepted, {self.cpu_seconds:.1f} CPU-seconds"
        return text + (f", {len(self.findings)} FINDINGS" if self.findings else "")


def fuzz(target: FuzzTarget, *, seed: int, inputs: int | None = None, seconds: float | None = None) -> FuzzReport:
    """Try a target on so many inputs, or for so many seconds of processor time; the same seed tries the same inputs."""
    random = Random(f"{seed} {target.name}")  # noqa: S311 - content, not secrets
    report = FuzzReport(target.name)
    sound, broken, seen = list(target.seeds), [b""], set[str]()
    begun = time.process_time()
    for data in target.seeds:
        _try(target, data, report)
    while not _over(report, begun, inputs, seconds):
        data = damaged(sound if random.random() < _SOUND else broken, random)
        answer = _try(target, data, report)
        if answer == _ACCEPTED and len(sound) < _MOST_SEEDS:
            sound.append(data)
        elif answer not in seen and len(seen) < _MOST_SEEDS:
            seen.add(answer)
            broken.append(data)
    report.cpu_seconds = time.process_time() - begun
    return report


def _over(report: FuzzReport, begun: float, inputs: int | None, seconds: float | None) -> bool:
    if len(report.findings) >= MOST_FINDINGS or (inputs is not None and report.inputs >= inputs):
        return True
    return seconds is not None and time.process_time() - begun >= seconds


def _try(target: FuzzTarget, data: bytes, report: FuzzReport) -> str:
    """Run a target on one input; the kind of answer that it gave."""
    report.inputs += 1
    try:
        with _bounded():
            target.run(data)
    except target.answers as error:
        return f"{type(error).__name__} {_DETAILS.sub('', str(error))[:200]}"
    except (Exception, TooSlow) as error:  # noqa: BLE001 - every other one is a finding
        what = f"{type(error).__name__}: {error}"[:300]
        kind = f"{type(error).__name__} {traceback.extract_tb(error.__traceback__)[-1]}"
        if all(kind not in found.trace for found in report.findings):
            report.findings.append(Finding(data, what, traceback.format_exc() + kind))
        return what
    report.accepted += 1
    return _ACCEPTED


@contextmanager
def _bounded() -> Iterator[None]:
    """Bounds on processor time and on new memory while the block runs."""
    before = signal.signal(signal.SIGPROF, _too_slow)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + MOST_MEMORY_BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        signal.signal(signal.SIGPROF, before)


def _data_bytes() -> int:
    """The private writable memory of this process, as the kernel counts it for the limit."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _too_slow(*_: object) -> None:
    raise TooSlow(f"more than {MOST_SECONDS} s of processor time")
