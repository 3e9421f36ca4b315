"""How long our image needs from power on until podman answers, compared with a plain mkosi image of the same packages.

`make bench-boot` runs it.  It makes the reference image and the peer (`plain_mkosi.py`: mkosi's default initrd, the
same kernel) unless they are there, and boots them in turns, so that both meet the same weather on the machine below, in
the same virtual machine: firmware without Secure Boot, memory, processors, accelerator, and an unwritten disk.
So each boot is a first boot: ours makes `/var` on the disk meanwhile, the peer's is a tmpfs.

A unit handed to both as a systemd credential starts as soon as the system is up (`basic.target`), asks podman until it
answers and says so on the serial console.  The total is the host's clock from power on to that line; `boot_times.py`
tells how the parts are told apart.  A part of `userspace` is the unit itself.
What systemd-analyze says once everything has settled (`time`, `blame`, `critical-chain`) is in the document, for ours
and for the peer.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_build import make_peer
from bench_options import bench_options
from boot_times import read_blame, read_init, read_startup, split
from figures import Bar, MachineFacts, facts, median_of, say, table, write_document
from hosts import BOOT_TIMEOUT_S, machine_folder
from workbench import FIRST, SOURCE, Workbench, make_workbench

from imagebuild.vm.config import Credential, VmConfig
from imagebuild.vm.machine import VirtualMachine

DOCUMENT = SOURCE / "out" / "bench-boot.json"
ROUNDS = 3
MOST_OF_PEER = 0.6
OURS, PEER = "twinhull", "plain mkosi"
_BLAME_LINES = 15
_FIRMWARE_ENDS = r"BdsDxe: starting [^\n]*"
_ANSWER = re.compile(r"twinhull-bench: podman answers (\d+\.\d+) s after the kernel's start")
_SCRIPT_NAME = "twinhull.bench-podman"
_UNIT = "bench-podman.service"
_UNIT_TEXT = f"""[Unit]
Description=Ask podman until it answers
[Service]
Type=oneshot
ImportCredential={_SCRIPT_NAME}
ExecStart=/bin/sh %d/{_SCRIPT_NAME}
"""
_SCRIPT = """until podman info >/dev/null 2>/run/twinhull-bench.log; do sleep 0.2; done
read -r up rest </proc/uptime
echo "twinhull-bench: podman answers $up s after the kernel's start" >/dev/console
"""
_DROPIN = f"[Unit]\nWants={_UNIT}\n"
CREDENTIALS = (
    Credential(f"systemd.extra-unit.{_UNIT}", _UNIT_TEXT.encode()),
    Credential("systemd.unit-dropin.basic.target", _DROPIN.encode()),
    Credential(_SCRIPT_NAME, _SCRIPT.encode()),
)


@dataclass(frozen=True)
class MeasuredBoot:
    """One boot: seconds per part, and what systemd-analyze says."""

    kernel: str
    seconds: dict[str, float]
    startup: dict[str, float]
    time: str
    blame: list[str]
    critical_chain: list[str]


@dataclass(frozen=True)
class BootResult:
    """What was measured, on what; the boots by round and image."""

    facts: MachineFacts
    accelerator: str
    cpus: int
    memory_mib: int
    mkosi: str
    rounds: tuple[dict[str, MeasuredBoot], ...]

    @property
    def medians(self) -> dict[str, dict[str, float]]:
        """Seconds per image and part, the median over the rounds."""
        return {image: median_of(each[image].seconds for each in self.rounds) for image in (OURS, PEER)}

    @property
    def ratio(self) -> float:
        """Our time as a part of the peer's: the median of the rounds, whose two boots are side by side."""
        return statistics.median(each[OURS].seconds["total"] / each[PEER].seconds["total"] for each in self.rounds)

    @property
    def bar(self) -> Bar:
        """What was to be reached."""
        return Bar("boot compared with plain mkosi", self.ratio, MOST_OF_PEER)

    def values(self) -> dict[str, Any]:
        """Everything, as a JSON document."""
        return {
            **asdict(self),
            "medians": self.medians,
            "ratio": round(self.ratio, 3),
            "bars": [self.bar.values()],
            "met": self.bar.met,
        }

    def lines(self) -> list[str]:
        """A table for people."""
        return [
            self.facts.line,
            f"virtual machine: {self.accelerator}, {self.cpus} CPUs, {self.memory_mib} MiB",
            f"kernel {self.rounds[0][OURS].kernel}; peer: {self.mkosi}; rounds: {len(self.rounds)}",
            "",
            *table(self.medians),
            "",
            self.bar.line,
        ]


def boot(bench: Workbench, name: str, disk: Path) -> MeasuredBoot:
    """Boot an image from a disk nothing was written to and measure."""
    config = VmConfig(image=disk, credentials=CREDENTIALS, guest_shell=True)
    folder = machine_folder(f"boot-{name}")
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        return boot_machine(machine)


def boot_machine(machine: VirtualMachine) -> MeasuredBoot:
    """Measure the boot of a machine that was just switched on."""
    machine.wait_for_console(_FIRMWARE_ENDS, timeout_s=BOOT_TIMEOUT_S)
    firmware_s = time.monotonic() - machine.powered_on_at
    answer = machine.wait_for_console(_ANSWER, timeout_s=BOOT_TIMEOUT_S)
    podman_s = time.monotonic() - machine.powered_on_at
    match = _ANSWER.search(answer.text)
    assert match is not None
    shell = machine.shell
    # Degraded is not a reason to stop: which units failed is a matter of the image's own tests.
    shell.run("systemctl is-system-running --wait", timeout_s=BOOT_TIMEOUT_S)
    said = {
        verb: shell.check_run(f"systemd-analyze --no-pager {verb}", timeout_s=BOOT_TIMEOUT_S)
        for verb in ("time", "blame", "critical-chain")
    }
    startup = read_startup(said["time"])
    init_s = read_init(shell.check_run("dmesg", timeout_s=BOOT_TIMEOUT_S))
    return MeasuredBoot(
        shell.check_run("uname -r").strip(),
        split(startup, init_s=init_s, firmware_s=firmware_s, podman_s=podman_s, uptime_s=float(match[1])),
        startup,
        said["time"].splitlines()[0],
        read_blame(said["blame"])[:_BLAME_LINES],
        said["critical-chain"].splitlines(),
    )


def measure(rounds: int) -> BootResult:
    """Make what is needed, boot both in turns and measure."""
    machine = facts()
    bench = make_workbench()
    peer, archive_state = make_peer(bench)
    disks = {OURS: bench.disk(FIRST), PEER: peer.ensure(archive_state)}
    measured = []
    for _ in range(rounds):
        boots = {image: boot(bench, image.split()[0], disk) for image, disk in disks.items()}
        assert boots[OURS].kernel == boots[PEER].kernel, "the two images have different kernels"
        say(", ".join(f"{image} {each.seconds['total']:.1f} s" for image, each in boots.items()), to=sys.stderr)
        measured.append(boots)
    config = VmConfig(image=disks[OURS])
    accelerator = bench.finding.accelerator.value
    return BootResult(machine, accelerator, config.cpus, config.memory_mib, peer.version(), tuple(measured))


def main(words: Sequence[str]) -> int:
    """Measure, print, and write `out/bench-boot.json`; 1 when the bar is missed."""
    options = bench_options(
        words,
        prog="bench_boot.py",
        description="Seconds of a boot, compared with plain mkosi's.",
        rounds=ROUNDS,
        counted="how often each is booted",
    )
    result = measure(options.rounds)
    text = write_document(DOCUMENT, result.values())
    say(text.rstrip() if options.as_json else "\n".join(result.lines()), to=sys.stdout)
    return 0 if result.bar.met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
