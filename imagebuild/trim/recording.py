"""Records what a host touches over a whole life: first boot, containers, an update, the boot after it.

A reboot empties the page cache, so it is read at the end of each boot; files that a shutdown reads cannot be recorded,
so `data/keep.yaml` keeps them.  The record is checked in the running host: listing all files must not make any of them
look touched, and reading one must.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from bedrock.progress import Progress
from imagebuild.errors import TrimError
from imagebuild.inspection.contents import Contents, EntryKind, ImageEntry
from imagebuild.rehearsal.guest import Shell
from imagebuild.trim.keeping import KeepList
from imagebuild.trim.page_cache import SAMPLE_SCRIPT, Sample, delivery, read_sample, union
from imagebuild.trim.workload import WorkloadStep

_SAMPLE_S = 300.0
_STEP_S = 900.0
# A size that fits into an inode, and one that certainly does not.
_SMALL_BYTES, _LARGE_BYTES, _LARGEST_BYTES = 2048, 64 << 10, 64 << 20


@dataclass
class Recorder:
    """Runs the workload in the host and records what it touched; `fincore` is the program that lists it."""

    shell: Shell
    fincore: bytes
    progress: Progress
    samples: list[Sample] = field(default_factory=list)

    @property
    def touched(self) -> Sample:
        """Everything recorded so far."""
        return union(self.samples)

    def do(self, *steps: WorkloadStep) -> None:
        """Run steps of the workload.

        Raises:
            TrimError: One failed; the message holds the end of what it printed.
        """
        for step in steps:
            self.progress.step(step.name)
            answer = self.shell.run(step.script, timeout_s=_STEP_S)
            if answer.exit_code:
                tail = "\n".join(answer.output.strip().splitlines()[-10:])
                how = "did not end in time" if answer.exit_code == 124 else f"failed with exit code {answer.exit_code}"  # noqa: PLR2004 - timeout(1)
                raise TrimError(f"in the guest, {step.name!r} {how}\n{tail}")

    def sample(self) -> Sample:
        """Record what was touched since the boot.

        Raises:
            TrimError: The record cannot be trusted.
        """
        for command in delivery(self.fincore):
            self._ask(command)
        self.samples.append(read_sample(self._ask(SAMPLE_SCRIPT)))
        return self.samples[-1]

    def prove(self, contents: Contents, keep: KeepList) -> None:
        """Check in the running host that recording touches nothing and that reading a file is recorded.

        Raises:
            TrimError: The check failed, so the record would be worthless.
        """
        self.progress.step("prove the record")
        probes = choose_probes(contents, keep, self.sample())
        again = self.sample().files
        if seen := sorted(again.intersection(probes)):
            raise TrimError(f"recording itself touched {', '.join(seen)}, so the record is worthless")
        words = " ".join(map(shlex.quote, probes))
        self.do(WorkloadStep("read the probes", f"cat {words} >/dev/null"))
        if unseen := sorted(set(probes) - self.sample().files):
            raise TrimError(f"{', '.join(unseen)} was read but not recorded as touched, so the record is worthless")

    def _ask(self, command: str) -> str:
        answer = self.shell.run(command, timeout_s=_SAMPLE_S)
        if answer.exit_code:
            said = f"exit code {answer.exit_code}\n{answer.output[-500:]}"
            raise TrimError(f"the guest cannot be asked what it touched: {said}")
        return answer.output


def choose_probes(contents: Contents, keep: KeepList, sample: Sample) -> tuple[str, ...]:
    """A small and a large untouched file; kept ones if possible, because a file that is read cannot be proposed.

    Raises:
        TrimError: Everything was touched already.
    """
    untouched = [e for e in contents.entries if _is_readable(e) and e.path not in sample.files]
    sizes = (range(1, _SMALL_BYTES), range(_LARGE_BYTES, _LARGEST_BYTES))
    fitting = ([entry for entry in untouched if entry.size_bytes in size] for size in sizes)
    probes = tuple(min(some, key=lambda entry: not keep.keeps(entry.path)).path for some in fitting if some)
    if not probes:
        raise TrimError("the host seems to have touched every file of the image, so the record cannot be checked")
    return probes


def _is_readable(entry: ImageEntry) -> bool:
    # /etc is an overlay in the running host, with other files.
    return entry.kind is EntryKind.FILE and entry.path.startswith("/usr/")
