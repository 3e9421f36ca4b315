"""A host in a virtual machine, and what the tests ask it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import OUT, Workbench, timed

from imagebuild.rehearsal import guest as rehearsal
from imagebuild.vm.config import Credential, VmConfig
from imagebuild.vm.guest import Answer
from imagebuild.vm.machine import VirtualMachine

# Everything here is some twenty times slower under software emulation on a busy machine than on hardware.
BOOT_TIMEOUT_S = 300.0
UPDATE_TIMEOUT_S = 600.0
COMMAND_TIMEOUT_S = 120.0


def machine_folder(name: str) -> Path:
    """A new folder for a machine's state and logs."""
    folder = OUT / "machines" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def updater_credential(url: str, **settings: Any) -> Credential:
    """The agent's settings for a test host: as in a rehearsal, and less patient."""
    return rehearsal.updater_credential(url, **{"poll_jitter": 0, "tries": 2, **settings})


def host_config(bench: Workbench, disk: Path, *credentials: Credential) -> VmConfig:
    """A machine with Secure Boot, the guest shell, and a disk that is not written."""
    return VmConfig(image=disk, certificates=bench.certificates, credentials=credentials, guest_shell=True)


@dataclass(frozen=True)
class Host:
    """A running host."""

    machine: VirtualMachine

    def run(self, command: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Run a shell command as root."""
        return self.machine.shell.run(command, timeout_s=timeout_s)

    def text(self, command: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """What a command that succeeds prints, without white space around it."""
        return self.machine.shell.check_run(command, timeout_s=timeout_s).strip()

    def status(self) -> dict[str, Any]:
        """`updater status --json`."""
        return rehearsal.Guest(self.machine.shell).status()

    def update(self, arguments: str = "--no-reboot") -> Answer:
        """`updater update`, by hand."""
        return self.run(f"updater update {arguments}", timeout_s=UPDATE_TIMEOUT_S)

    def wait_boot(self) -> str:
        """Wait until the host's shell is there; the id of this boot."""
        with timed("boot"):
            return self.machine.shell.wait_ready(timeout_s=BOOT_TIMEOUT_S)

    def wait_reboot(self, *, timeout_s: float = UPDATE_TIMEOUT_S) -> str:
        """Wait until the host runs in another boot."""
        with timed("until the next boot"):
            return self.machine.shell.wait_reboot(timeout_s=timeout_s)

    def wait_settled(self) -> dict[str, Any]:
        """Wait until systemd has nothing left to start and the running version is blessed; the status then."""
        with timed("until settled"):
            self.run("systemctl is-system-running --wait", timeout_s=BOOT_TIMEOUT_S)
            return self.wait_status(lambda status: bool(status["blessed"]), timeout_s=BOOT_TIMEOUT_S)

    def wait_status(self, wanted: Callable[[dict[str, Any]], bool], *, timeout_s: float) -> dict[str, Any]:
        """Wait, over reboots, until the status is as `wanted` says."""
        return rehearsal.Guest(self.machine.shell).wait_status(wanted, timeout_s=timeout_s)


def read_json(text: str) -> Any:
    """JSON that a program printed; the text is part of the error when it is not."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise AssertionError(f"not JSON: {text!r}") from error
