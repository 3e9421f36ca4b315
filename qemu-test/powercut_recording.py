"""Records every write of a host's disk over a good update to its blessing, and over a bad one to the fallback.

The first boot is not recorded: it makes the file systems that an update finds.  What is recorded begins when the
machine is switched on again, so the loader's and the firmware's own writes are in it, and ends when it is switched off.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hosts import UPDATE_TIMEOUT_S, Host, host_config, machine_folder, updater_credential
from powercut_log import PowercutError
from update_server import UpdateServer, running
from workbench import FIRST, SECOND, SICK, ScenarioRepository, Workbench, timed

from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.vm.config import VmConfig
from imagebuild.vm.machine import VirtualMachine

VERSIONS = (FIRST, SECOND, SICK)
LIFE_TIMEOUT_S = 900.0
_COPY_TIMEOUT_S = 300


@dataclass(frozen=True)
class Recording:
    """A disk before it was written to, the log of what was written to it, and the firmware's variables before."""

    before: Path
    log: Path
    nvram: Path


def copy_disk(source: Path, target: Path, tools: ToolsTree) -> Path:
    """Copy a disk without its holes (writes to the disk)."""
    target.unlink(missing_ok=True)
    words: list[str | Path] = ["cp", "--sparse=always", "--reflink=auto", source, target]
    tools.run(words, Access(read=(source,), write=(target.parent,)), timeout_s=_COPY_TIMEOUT_S)
    return target


def record(bench: Workbench) -> Recording:
    """Run the host through both updates; the machine's disk, logs and firmware variables are kept.

    Raises:
        PowercutError: The host did not do what was to be recorded.
    """
    folder = machine_folder("powercut")
    disk = folder / "disk.raw"
    copy_disk(bench.disk(FIRST), disk, bench.tools)
    repository = bench.repository("powercut", *VERSIONS)
    with running(UpdateServer(repository.base)) as server:
        credential = updater_credential(server.guest_url, enabled=False)
        config = replace(host_config(bench, disk, credential), snapshot=False)
        with timed("powercut: first boot"), _switched_on(bench, config, folder) as host:
            host.wait_settled()
            _switch_off(host)
        before = copy_disk(disk, folder / "before.raw", bench.tools)
        shutil.copyfile(folder / "nvram.fd", folder / "before-nvram.fd")
        log = folder / "writes.log"
        with timed("powercut: recording"), _switched_on(bench, replace(config, write_log=log), folder) as host:
            _live(host, repository)
            _switch_off(host)
    return Recording(before, log, folder / "before-nvram.fd")


def _live(host: Host, repository: ScenarioRepository) -> None:
    """A good update and a bad one."""
    host.wait_settled()
    repository.point(SECOND)
    _update(host)
    blessed = host.wait_status(lambda status: bool(status["blessed"]), timeout_s=LIFE_TIMEOUT_S)
    _require(blessed["version"] == SECOND, f"{blessed['version']} runs after the update to {SECOND}")
    repository.point(SICK)
    _update(host)
    back = host.wait_status(
        lambda status: status["version"] == SECOND and status["blessed"] and bool(status["bad"]),
        timeout_s=LIFE_TIMEOUT_S,
    )
    _require([bad["version"] for bad in back["bad"]] == [SICK], f"{SICK} was to fail, and {back['bad']} did")
    host.wait_settled()


def _update(host: Host) -> None:
    answer = host.update("--no-reboot")
    _require(answer.exit_code == 0, f"the update failed: {answer}")
    host.run("systemctl reboot --no-block")
    host.wait_reboot(timeout_s=UPDATE_TIMEOUT_S)


@contextmanager
def _switched_on(bench: Workbench, config: VmConfig, folder: Path) -> Iterator[Host]:
    machine = VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder)
    with machine:
        host = Host(machine)
        host.wait_boot()
        yield host


def _switch_off(host: Host) -> None:
    host.run("systemctl poweroff --no-block")
    host.machine.wait_exit(timeout_s=LIFE_TIMEOUT_S)


def _require(held: object, message: str) -> None:
    if not held:
        raise PowercutError(message)
