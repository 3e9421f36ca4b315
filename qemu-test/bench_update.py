"""How fast an update writes its slot, compared with `dd` on the same disk of the same machine, and its peak memory.

`make bench-update` runs it.  It makes what it needs (keys, two builds, a repository, a channel, a server on the
loopback), boots the first build and then, in turns, so that both meet the same weather on the machine below:

- `dd bs=1M conv=fsync` writes the running root filesystem's bytes, held in memory, to the inactive slot's data
  partition: nothing but the disk is measured;
- `updater update --no-reboot` writes the second build to the same partition: the download, which is kept on `/var` and
  hashed, and then decompressing, writing and syncing are measured, by the agent's own clock.

Every run ends with the inactive slot's boot entry removed, in the order an update itself keeps.  The first run of each
kind is not counted: it makes the disk image's file grow.
Memory is the kernel's figure: the peaks of the control groups that the update and its network side run in, added up
(page cache and kernel memory included), and the process's own peak of resident memory (VmHWM, file mappings included);
the larger one counts.

The daemon is disabled by configuration, so nothing else writes.

The update needs the processor and `dd` hardly does, so on a machine that has other work, or whose cores the emulation
shares, the ratio falls.  The load before anything is made is given with the result; measure on an idle machine.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench_options import bench_options
from disks import map_of
from figures import say
from hosts import UPDATE_TIMEOUT_S, Host, host_config, machine_folder, read_json, updater_credential
from update_server import UpdateServer, running
from workbench import FIRST, IMAGE, SECOND, make_workbench

from imagebuild.vm.machine import VirtualMachine
from partitions.disk import DiskMap
from updater.documents.release import parse_release

ROUNDS = 5
WARM_UPS = 1
LEAST_RATIO = 0.5
# Above this load something else is at work on the machine below.
BUSY_LOAD = 1.0
MIB = 1 << 20
MOST_MEMORY_BYTES = 96 * MIB
DISK = "/dev/vda"
SCRATCH = "/run/twinhull-bench"
DD_TIMEOUT_S = 300.0
UNIT = "twinhull-bench"
_GROUP = f"/sys/fs/cgroup/system.slice/{UNIT}.service"
# The slice of the network side's workers, which is gone with the last of them.
_NETWORK_SIDE = r"/sys/fs/cgroup/system.slice/system-twinhull\x2dtransfer.slice"
_DD_SECONDS = re.compile(r"copied, ([0-9.e-]+) s")

# VmHWM only grows and its peak is before the update's last steps, so a look every half second catches it; the largest
# figure counts, as the group's first process is a shell's once the update has ended.
_UPDATE = f"""
rm -f {SCRATCH}/report.json {SCRATCH}/update.log {SCRATCH}/hwm {SCRATCH}/network
sync; echo 3 > /proc/sys/vm/drop_caches
systemd-run --quiet --collect --wait --unit={UNIT} -p MemoryAccounting=yes -p ImportCredential=twinhull.updater \\
    -p StandardOutput=append:{SCRATCH}/report.json -p StandardError=append:{SCRATCH}/update.log \\
    -p ExecStopPost='/bin/sh -c "cat {_GROUP}/memory.peak > {SCRATCH}/peak"' \\
    updater update --no-reboot --json &
waiter=$!
while kill -0 $waiter 2>/dev/null; do
    if read -r pid < {_GROUP}/cgroup.procs; then
        grep VmHWM /proc/$pid/status >> {SCRATCH}/hwm
    fi
    cat '{_NETWORK_SIDE}/memory.peak' >> {SCRATCH}/network
    sleep 0.5
done 2>/dev/null
wait $waiter || {{ code=$?; cat {SCRATCH}/update.log; exit $code; }}
"""


@dataclass(frozen=True)
class Round:
    """One run of `dd` and one of the update; speeds in 10^6 bytes per second."""

    dd_mb_per_s: float
    write_mb_per_s: float
    download_s: float
    write_s: float
    verify_s: float
    group_peak_bytes: int
    resident_peak_bytes: int

    @property
    def ratio(self) -> float:
        """The update's speed as a part of the peer's."""
        return self.write_mb_per_s / self.dd_mb_per_s

    def line(self, number: int) -> str:
        """A row of the table."""
        speeds = f"{self.dd_mb_per_s:8.1f} MB/s   {self.write_mb_per_s:9.1f} MB/s   {self.ratio:5.2f}"
        times = f"{self.download_s:5.1f} s    {self.write_s:5.1f} s  {self.verify_s:5.1f} s"
        memory = f"{self.group_peak_bytes / MIB:7.1f} MiB  {self.resident_peak_bytes / MIB:5.1f} MiB"
        return f"{number:5}   {speeds} {times}  {memory}"


@dataclass(frozen=True)
class UpdateResult:
    """What was measured, on what, and whether the bars are met: medians of speed, the worst of memory."""

    load_before: float
    accelerator: str
    cpus: int
    memory_mib: int
    written_bytes: int
    downloaded_bytes: int
    rounds: tuple[Round, ...]

    @property
    def dd_mb_per_s(self) -> float:
        """The peer's speed."""
        return statistics.median(each.dd_mb_per_s for each in self.rounds)

    @property
    def write_mb_per_s(self) -> float:
        """The update's speed."""
        return statistics.median(each.write_mb_per_s for each in self.rounds)

    @property
    def ratio(self) -> float:
        """The update's speed as a part of the peer's: the median of the rounds, whose two runs are side by side."""
        return statistics.median(each.ratio for each in self.rounds)

    @property
    def peak_bytes(self) -> int:
        """The agent's peak memory, whichever way of counting gives more."""
        return max(max(each.group_peak_bytes, each.resident_peak_bytes) for each in self.rounds)

    @property
    def fast_enough(self) -> bool:
        """Whether the speed bar is met."""
        return self.ratio >= LEAST_RATIO

    @property
    def small_enough(self) -> bool:
        """Whether the memory bar is met."""
        return self.peak_bytes <= MOST_MEMORY_BYTES

    def values(self) -> dict[str, Any]:
        """Everything, as a JSON document."""
        names = ("dd_mb_per_s", "write_mb_per_s", "ratio", "peak_bytes", "fast_enough", "small_enough")
        bars = {"least_ratio": LEAST_RATIO, "most_memory_bytes": MOST_MEMORY_BYTES}
        return {**asdict(self), **{name: getattr(self, name) for name in names}, **bars}

    def lines(self) -> list[str]:
        """A table for people."""
        most = MOST_MEMORY_BYTES // MIB
        lines = [
            f"update of {IMAGE}: {self.written_bytes / 1e6:.1f} MB written, {self.downloaded_bytes / 1e6:.1f} MB sent",
            f"virtual machine: {self.accelerator}, {self.cpus} CPUs, {self.memory_mib} MiB",
            "",
            "round   dd conv=fsync   updater update   ratio   download   write   verify   groups' peak   VmHWM",
        ]
        lines += [each.line(number) for number, each in enumerate(self.rounds, 1)]
        verdict = {True: "met", False: "MISSED"}
        busy = " (this machine has other work: the ratio is too low)" if self.load_before > BUSY_LOAD else ""
        return [
            *lines,
            "",
            f"load before        {self.load_before:.1f}{busy}",
            f"median of dd       {self.dd_mb_per_s:.1f} MB/s",
            f"median of updater  {self.write_mb_per_s:.1f} MB/s",
            f"median ratio       {self.ratio:.2f} (at least {LEAST_RATIO:.2f}: {verdict[self.fast_enough]})",
            f"peak memory        {self.peak_bytes / MIB:.1f} MiB (at most {most}: {verdict[self.small_enough]})",
        ]


@dataclass(frozen=True)
class UpdateCourse:
    """Where on the guest's disk the runs take place."""

    host: Host
    data_size_bytes: int
    source: str
    target: str
    boot: str

    @classmethod
    def of(cls, host: Host, where: DiskMap, data_size_bytes: int) -> UpdateCourse:
        """The course on a host that runs slot A."""
        a, b = (f"{DISK}{slot.data_index + 1}" for slot in (where.a, where.b))
        # Its identity is not the build's any more.
        boot = host.text(f"lsblk -rno PATH,PARTLABEL {DISK} | grep ' xbootldr$'").split()[0]
        return cls(host, data_size_bytes, a, b, boot)

    def prepare(self) -> None:
        """Hold the running root filesystem's bytes in memory, so that reading them is not measured."""
        self.host.text(
            f"mkdir -p {SCRATCH} && mount -t tmpfs -o size={self.data_size_bytes + 16 * MIB} tmpfs {SCRATCH} && "
            f"dd if={self.source} of={SCRATCH}/data bs=1M count={self.data_size_bytes} iflag=count_bytes status=none",
            timeout_s=DD_TIMEOUT_S,
        )

    def dd(self) -> float:
        """Write the inactive slot's data partition with dd; 10^6 bytes per second, sync included."""
        said = self.host.text(
            f"sync; echo 3 > /proc/sys/vm/drop_caches; updater open-disk; blockdev --setrw {self.target}; "
            f"LC_ALL=C dd if={SCRATCH}/data of={self.target} bs=1M conv=fsync,notrunc 2>&1",
            timeout_s=DD_TIMEOUT_S,
        )
        found = _DD_SECONDS.search(said)
        assert found is not None, said
        return self.data_size_bytes / 1e6 / float(found[1])

    def update(self) -> tuple[dict[str, Any], int, int]:
        """Write the slot with the agent; its report, the group's peak and the process's peak in bytes."""
        self.host.text(_UPDATE, timeout_s=UPDATE_TIMEOUT_S)
        report = read_json(self.host.text(f"cat {SCRATCH}/report.json"))["report"]
        assert report is not None, self.host.text(f"cat {SCRATCH}/update.log")
        group = int(self.host.text(f"cat {SCRATCH}/peak"))
        group += max(map(int, self.host.text(f"cat {SCRATCH}/network").split()))
        looks = self.host.text(f"cat {SCRATCH}/hwm").splitlines()
        resident = max(int(line.split()[1]) for line in looks) << 10
        return report, group, resident

    def reset(self) -> None:
        """Remove the staged version's boot entry from the disk, so that the slot may be written again."""
        at = f"{SCRATCH}-boot"
        self.host.text(
            f"mkdir -p {at} && mount -t vfat {self.boot} {at} && "
            f"rm {at}/EFI/Linux/{IMAGE}_{SECOND}+*.efi && umount {at} && sync"
        )


def measure(rounds: int) -> UpdateResult:
    """Make what is needed, boot the first build and measure."""
    load_before = os.getloadavg()[0]
    bench = make_workbench()
    repository = bench.repository("bench", FIRST, SECOND)
    repository.point(SECOND)
    release = parse_release((bench.build(SECOND) / "release.json").read_bytes(), source="release.json")
    disk = bench.disk(FIRST)
    with running(UpdateServer(repository.base)) as server:
        config = host_config(bench, disk, updater_credential(server.guest_url, enabled=False))
        accelerator = bench.finding.accelerator
        machine = VirtualMachine(config, tools=bench.tools, accelerator=accelerator, folder=machine_folder("bench"))
        with machine:
            host = Host(machine)
            host.wait_boot()
            host.wait_settled()
            course = UpdateCourse.of(host, map_of(disk), release.artifacts.root.size_bytes)
            course.prepare()
            measured = [_round(course) for _ in range(WARM_UPS + rounds)][WARM_UPS:]
    reports = [report for report, _ in measured]
    return UpdateResult(
        load_before,
        accelerator.value,
        config.cpus,
        config.memory_mib,
        reports[0]["written_bytes"],
        reports[0]["downloaded_bytes"],
        tuple(each for _, each in measured),
    )


def _round(course: UpdateCourse) -> tuple[dict[str, Any], Round]:
    dd = course.dd()
    report, group, resident = course.update()
    course.reset()
    speed = report["written_bytes"] / 1e6 / (report["download_s"] + report["write_s"])
    done = Round(dd, speed, report["download_s"], report["write_s"], report["verify_s"], group, resident)
    say(f"dd {dd:.1f} MB/s, updater {speed:.1f} MB/s", to=sys.stderr)
    return report, done


def main(words: Sequence[str]) -> int:
    """Measure and print; 1 when a bar is missed."""
    options = bench_options(
        words,
        prog="bench_update.py",
        description="Speed and memory of an update, compared with dd.",
        rounds=ROUNDS,
        counted="counted rounds",
    )
    result = measure(options.rounds)
    say(json.dumps(result.values(), indent=2) if options.as_json else "\n".join(result.lines()), to=sys.stdout)
    return 0 if result.fast_enough and result.small_enough else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
