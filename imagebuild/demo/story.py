"""The steps of the demo, in order, and what it observes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedrock.persist import write_atomic
from bedrock.progress import LineProgress, Progress, Say, stamped
from imagebuild.demo.definitions import ADDED_PROGRAM, FIRST, IMAGE, SECOND, SICK, write_definition
from imagebuild.demo.report import DemoReport
from imagebuild.inputs.mirror import Mirrors
from imagebuild.inputs.tools import ToolsTree, cache_folder, ensure_tools
from imagebuild.rehearsal.guest import COMMAND_S, HOST, UPDATE_S, Guest
from imagebuild.rehearsal.host import host_config, run_host
from imagebuild.rehearsal.registry import RunningRegistry, run_registry
from imagebuild.rehearsal.stage import CHANNEL, Served, Stage, set_stage
from imagebuild.vm.accelerator import find_accelerator

_VERITY = "test \"$(findmnt -no SOURCE /)\" = /dev/mapper/root && grep -q '^CRYPT-VERITY-' /sys/block/dm-0/dm/uuid"


@dataclass
class Timeline:
    """Prints the steps as they happen, and records how long the named parts took."""

    print: Say
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def progress(self) -> Progress:
        """Steps within a part are set in."""
        return LineProgress(lambda line: self.print(f"  {line}"))

    def timed(self, name: str, since: float) -> None:
        """Record how long a part took."""
        self.seconds[name] = time.monotonic() - since


def run_demo(out: Path, *, mirrors: Mirrors, say: Say) -> DemoReport:
    """Run the demo below `out` and write `report.json`.

    Raises:
        TwinhullError: A part failed; the report of this run is then not written.
    """
    out = out.absolute()
    line = Timeline(stamped(say))
    write_to = out / "report.json"
    write_to.unlink(missing_ok=True)
    tools = _tools(line, mirrors)
    stage = set_stage(out, mirrors)
    line.print(f"keys and an empty repository in {out}")
    builds = {version: _build(stage, line, version) for version in (FIRST, SECOND, SICK)}
    stage.publish(FIRST, SECOND, progress=line.progress)
    stage.point(IMAGE, FIRST)
    line.print(f"{FIRST} and {SECOND} are published, channel {CHANNEL} names {FIRST}")
    with stage.serve() as served, run_registry(tools, out / "registry") as registry:
        report = _Story(stage, line, tools, served, registry, builds).run()
    write_atomic(write_to, report.to_bytes())
    line.print(f"{'all is well' if report.ok else 'NOT as it should be'}; report: {write_to}")
    say(report.to_bytes().decode().rstrip())
    return report


def _tools(line: Timeline, mirrors: Mirrors) -> ToolsTree:
    began = time.monotonic()
    line.print("tools tree")
    tools = ensure_tools(mirrors, cache=cache_folder())
    line.timed("tools_tree", began)
    return tools


def _build(stage: Stage, line: Timeline, version: str) -> dict[str, int]:
    began = time.monotonic()
    line.print(f"build {version}")
    folder = write_definition(stage.out / "definitions" / version, version)
    built = stage.build(folder, version, line.progress)
    line.timed(f"build_{version.replace('.', '_')}", began)
    line.print(f"{version} {'built' if built.fresh else 'was built before'}, root hash {built.summary.root_hash[:16]}…")
    return built.summary.size_bytes


@dataclass
class _Story:
    """The part with a machine in it."""

    stage: Stage
    line: Timeline
    tools: ToolsTree
    served: Served
    registry: RunningRegistry
    sizes: dict[str, dict[str, int]]

    def run(self) -> DemoReport:
        finding = find_accelerator(self.tools, cache=cache_folder())
        self.line.print(finding.line)
        config = host_config(self.stage, self.stage.out / "builds" / FIRST, self.served, poll_interval="10s")
        began = time.monotonic()
        with run_host(self.stage, config, tools=self.tools, accelerator=finding.accelerator) as machine:
            return self._live(Guest(machine.shell), finding.accelerator.value, began)

    def _live(self, guest: Guest, accelerator: str, began: float) -> DemoReport:
        self.line.print(f"switch on: {FIRST}, Secure Boot enforced")
        first = guest.wait_blessed(FIRST)
        self.line.timed("boot_first", began)
        secure, verity = bool(first["secure_boot"]), guest.succeeds(_VERITY)
        self.line.print(f"{FIRST} runs in slot {first['slot']}, blessed; verity {verity}, Secure Boot {secure}")
        ran_first = guest.first_container(self.registry.reference(HOST))
        self.line.print(f"the container ran on {FIRST}: {ran_first}")
        second, downloaded = self._update(guest)
        changed = guest.succeeds(f"test -x {ADDED_PROGRAM} && grep -qx {SECOND} /usr/share/demo/version")
        ran_second = guest.same_container()
        self.line.print(f"the same container ran on {SECOND}: {ran_second}")
        after = self._sick_update(guest)
        bad = next((bad for bad in after["bad"] if bad["version"] == SICK), None)
        stayed = self._stays(guest, str(after["version"]))
        return DemoReport(
            first=str(first["version"]),
            second=str(second["version"]),
            slots=(str(first["slot"]), str(second["slot"])),
            secure_boot=secure and bool(second["secure_boot"]),
            verity=verity and guest.succeeds(_VERITY),
            blessed=bool(second["blessed"]) and changed,
            rolled_back_from=str(bad["version"]) if bad else "",
            running_after_rollback=str(after["version"]),
            stayed=stayed,
            container_ran=(ran_first, ran_second),
            accelerator=accelerator,
            seconds=self.line.seconds,
            size_bytes={
                "uki": self.sizes[SECOND]["uki.efi"],
                "root": self.sizes[SECOND]["root.erofs"],
                "downloaded": downloaded,
            },
        )

    def _update(self, guest: Guest) -> tuple[dict[str, Any], int]:
        before = self.served.sent_bytes()
        began = time.monotonic()
        self.stage.point(IMAGE, SECOND)
        self.line.print(f"channel {CHANNEL} names {SECOND}; the agent finds it by itself")
        guest.shell.wait_reboot(timeout_s=UPDATE_S)
        self.line.timed("update", began)
        downloaded = self.served.sent_bytes() - before
        self.line.print(f"slot B is written ({downloaded / 1e6:.1f} MB downloaded), the host has rebooted")
        second = guest.wait_blessed(SECOND)
        self.line.timed("boot_second", began + self.line.seconds["update"])
        self.line.print(f"{SECOND} runs in slot {second['slot']}, healthy and blessed")
        return second, downloaded

    def _sick_update(self, guest: Guest) -> dict[str, Any]:
        began = time.monotonic()
        self.stage.publish(SICK, progress=self.line.progress)
        self.stage.point(IMAGE, SICK)
        self.line.print(f"channel {CHANNEL} names {SICK}, whose health check fails on purpose")
        trial = guest.wait_status(lambda status: status["version"] == SICK)
        self.line.print(f"{SICK} runs in slot {trial['slot']}, on trial")
        after = guest.wait_status(lambda status: status["version"] != SICK and bool(status["bad"]))
        self.line.timed("fall_back", began)
        self.line.print(f"back on {after['version']}: {after['bad'][0]['reason']}")
        return after

    def _stays(self, guest: Guest, version: str) -> bool:
        """Whether the agent, asked again, leaves the bad version alone."""
        before = self.served.sent_bytes()
        answer = guest.shell.run("updater check --json", timeout_s=COMMAND_S)
        asked = self.served.sent_bytes() > before
        stays = asked and answer.exit_code == 4 and guest.status()["version"] == version  # noqa: PLR2004 - nothing to do
        self.line.print(f"asked again, the agent stays on {version}: {stays}")
        return stays
