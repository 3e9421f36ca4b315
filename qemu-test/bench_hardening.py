"""What each kernel argument of the hardening costs: seconds of a boot, memory, and two loads that the argument slows.

`make bench-hardening` runs it.  It makes the reference image with none of them, whose command line is not sealed, and
boots it again and again in turns, each time with other arguments, which systemd-stub takes from an SMBIOS string.
The loads run once the system has settled, and their own processor time counts, not the clock:

- `pages`: 1 GiB of a memory file system is written and given back, in pieces of 64 MiB;
- `processes`: 300 programs are started and end.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_boot import CREDENTIALS, boot_machine
from bench_options import bench_options
from figures import MachineFacts, facts, median_of, say, write_document
from hosts import machine_folder
from workbench import BARE, SOURCE, Workbench, make_workbench

from imagebuild.definition.hardening import Hardening
from imagebuild.vm.config import VmConfig
from imagebuild.vm.guest import GuestShell
from imagebuild.vm.machine import VirtualMachine

DOCUMENT = SOURCE / "out" / "bench-hardening.json"
ROUNDS = 3
NONE, OTHERS, ALL = "none", "the others", "all"
LOAD_TIMEOUT_S = 300.0
EXTRA = "io.systemd.stub.kernel-cmdline-extra="
_LOADS = {
    "pages": "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do "
    "head -c 64M /dev/zero >/dev/shm/load; rm /dev/shm/load; done",
    "processes": "i=0; while [ $i -lt 300 ]; do /usr/bin/true; i=$((i + 1)); done",
}
# `times` says what the children took, user and system, on its second line: 0m1.230s 0m4.560s
_TIMED = "sh -c '{load}; times' | tail -n 1"


def kinds() -> dict[str, tuple[str, ...]]:
    """The arguments of each kind of boot: none, each that changes how memory is handled, the others, all."""
    memory = ("slab_nomerge", "init_on_free", "page_shuffle")
    others = ("lockdown", "mounted_disks", "debugfs")
    off: dict[str, Any] = dict.fromkeys((*memory, *others), False)
    found = {name: Hardening(**{**off, name: True}).arguments for name in memory}
    found[OTHERS] = Hardening(**{**off, **dict.fromkeys(others, True)}).arguments
    return {NONE: (), **found, ALL: tuple(word for words in found.values() for word in words)}


@dataclass(frozen=True)
class HardeningResult:
    """What was measured, on what; figures by round and kind of boot."""

    facts: MachineFacts
    accelerator: str
    cpus: int
    memory_mib: int
    arguments: Mapping[str, tuple[str, ...]]
    rounds: tuple[dict[str, dict[str, float]], ...]

    @property
    def medians(self) -> dict[str, dict[str, float]]:
        """The median of each figure over the rounds, by kind of boot."""
        return {kind: median_of(each[kind] for each in self.rounds) for kind in self.arguments}

    def values(self) -> dict[str, Any]:
        """Everything, as a JSON document."""
        return {**asdict(self), "medians": self.medians}

    def lines(self) -> list[str]:
        """A table for people."""
        medians = self.medians
        names = list(medians[NONE])
        return [
            self.facts.line,
            f"virtual machine: {self.accelerator}, {self.cpus} CPUs, {self.memory_mib} MiB; rounds: {len(self.rounds)}",
            "",
            f"{'':<14}" + "".join(f"{name:>20}" for name in names),
            *(f"{kind:<14}" + "".join(f"{row[name]:>20.2f}" for name in names) for kind, row in medians.items()),
        ]


def cpu_seconds(times: str) -> float:
    """Seconds of processor time in a line that the shell's `times` printed."""
    spans = [word.removesuffix("s").split("m") for word in times.split()]
    return sum(60 * float(minutes) + float(seconds) for minutes, seconds in spans)


def measure_boot(bench: Workbench, kind: str, arguments: tuple[str, ...], disk: Path) -> dict[str, float]:
    """Boot once with these arguments and measure."""
    strings = (EXTRA + " ".join(arguments),) if arguments else ()
    config = VmConfig(image=disk, credentials=CREDENTIALS, guest_shell=True, smbios_strings=strings)
    folder = machine_folder(f"hardening-{kind.replace(' ', '-')}")
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        measured = boot_machine(machine)
        shell = machine.shell
        given = shell.check_run("cat /proc/cmdline").split()
        assert set(arguments) <= set(given), f"the kernel was not given {arguments}: {given}"
        memory = dict(line.split()[:2] for line in shell.check_run("cat /proc/meminfo").splitlines())
        return {
            "kernel s": measured.seconds["kernel"],
            "until podman s": measured.seconds["total"],
            "available MiB": int(memory["MemAvailable:"]) / 1024,
            "slab MiB": int(memory["Slab:"]) / 1024,
            **{f"{name} cpu s": _load(shell, name) for name in _LOADS},
        }


def _load(shell: GuestShell, name: str) -> float:
    return cpu_seconds(shell.check_run(_TIMED.format(load=_LOADS[name]), timeout_s=LOAD_TIMEOUT_S))


def measure(rounds: int) -> HardeningResult:
    """Make what is needed, boot in turns and measure."""
    machine, bench = facts(), make_workbench()
    disk, arguments = bench.disk(BARE), kinds()
    measured = []
    for number in range(rounds):
        measured.append({kind: measure_boot(bench, kind, words, disk) for kind, words in arguments.items()})
        say(f"round {number + 1} of {rounds} done", to=sys.stderr)
    config = VmConfig(image=disk)
    return HardeningResult(
        machine, bench.finding.accelerator.value, config.cpus, config.memory_mib, arguments, tuple(measured)
    )


def main(words: Sequence[str]) -> int:
    """Measure, print, and write `out/bench-hardening.json`."""
    options = bench_options(
        words,
        prog="bench_hardening.py",
        description="The cost of each kernel argument.",
        rounds=ROUNDS,
        counted="how often each is booted",
    )
    result = measure(options.rounds)
    text = write_document(DOCUMENT, result.values())
    say(text.rstrip() if options.as_json else "\n".join(result.lines()), to=sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
