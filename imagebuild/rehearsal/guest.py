"""Commands to the host that runs in the machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import yaml

from bedrock.clock import SYSTEM_CLOCK, Clock
from imagebuild.errors import VmError
from imagebuild.rehearsal.stage import CHANNEL
from imagebuild.vm.config import Credential
from imagebuild.vm.guest import Answer, GuestRebootedError
from imagebuild.vm.waiting import wait_for

# This host's loopback, as the guest sees it.
HOST = "10.0.2.2"
BOOT_S = 300.0
UPDATE_S = 900.0
COMMAND_S = 180.0
CONTAINER = "demo"


STATUS: Final = "updater status --json 2>/dev/null"


def updater_credential(url: str, **more: Any) -> Credential:
    """The agent's settings: the update server, and short intervals."""
    settings = {
        "url": url,
        "channel": CHANNEL,
        "health": {"settle": "2s", "patience": "5s", "retry_interval": "1s"},
        **more,
    }
    return Credential("twinhull.updater", yaml.safe_dump(settings).encode())


class Shell(Protocol):
    """A shell in the host (`imagebuild.vm.guest.GuestShell`)."""

    def run(self, command: str, *, timeout_s: float = 60) -> Answer:
        """Run a shell command to its end."""

    def check_run(self, command: str, *, timeout_s: float = 60) -> str:
        """Run a shell command that must succeed; what it printed."""

    def wait_ready(self, *, timeout_s: float) -> str:
        """Wait until the shell is there; the id of this boot."""

    def wait_reboot(self, *, timeout_s: float) -> str:
        """Wait until the shell is there in another boot; its id."""

    def reboot(self, *, timeout_s: float) -> str:
        """Reboot the host and wait until the shell is there again; the id of the new boot."""


@dataclass(frozen=True)
class Guest:
    """The host in the machine."""

    shell: Shell
    clock: Clock = SYSTEM_CLOCK

    def succeeds(self, command: str) -> bool:
        """Whether a shell command ends well."""
        return self.shell.run(command, timeout_s=COMMAND_S).exit_code == 0

    def status(self) -> dict[str, Any]:
        """`updater status --json`."""
        found: dict[str, Any] = json.loads(self.shell.check_run(STATUS, timeout_s=COMMAND_S))
        return found

    def wait_blessed(self, version: str) -> dict[str, Any]:
        """Wait until a version runs and was found healthy; the status then.

        Raises:
            VmError: It was not, in time.
        """
        self.shell.wait_ready(timeout_s=BOOT_S)
        return self.wait_status(
            lambda status: status["version"] == version and bool(status["blessed"]),
            what=f"a host that runs {version} and has blessed it",
        )

    def wait_status(
        self,
        wanted: Callable[[dict[str, Any]], bool],
        *,
        what: str = "the host's status",
        timeout_s: float = UPDATE_S,
    ) -> dict[str, Any]:
        """Wait, over reboots, until the host's status is as wanted.

        Raises:
            VmError: It was not, in time.
        """

        def look() -> dict[str, Any] | None:
            try:
                answer = self.shell.run(STATUS, timeout_s=COMMAND_S)
            except GuestRebootedError:
                return None
            if answer.exit_code != 0:
                return None
            try:
                status: dict[str, Any] = json.loads(answer.output)
            except ValueError as error:
                raise VmError(f"`updater status --json` printed no JSON: {answer.output[:200]!r}") from error
            return status if wanted(status) else None

        return wait_for(look, what=what, timeout_s=timeout_s, clock=self.clock)

    def first_container(self, reference: str) -> bool:
        """Pull the image and run a container that says its kernel's name."""
        self.shell.check_run(f"podman pull --quiet --tls-verify=false {reference}", timeout_s=COMMAND_S)
        self.shell.check_run(
            f"podman create --name {CONTAINER} {reference} echo hello from $(uname -r)", timeout_s=COMMAND_S
        )
        return self.same_container()

    def same_container(self) -> bool:
        """Start the container that was made on the first version."""
        answer = self.shell.run(f"podman start --attach {CONTAINER}", timeout_s=COMMAND_S)
        return answer.exit_code == 0 and "hello from" in answer.output
