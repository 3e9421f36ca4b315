"""Runs commands inside a running guest, without ssh and without a change to the image.

The image stays the production image.  A small unit and its script are passed to the guest's PID 1 as systemd
credentials (`systemd.extra-unit.…`, `systemd.unit-dropin.…`, systemd.system-credentials(7)); the script talks over a
virtio serial port.  This is not a vulnerability of the image: whoever controls a machine's SMBIOS strings is its
hypervisor and controls the machine anyway.  An image that drops `systemd-debug-generator` has no such channel, but that
alone does not make a hostile hypervisor harmless.

One line each way per command: `<id> <timeout> <base64 of the command>` in, `end <id> <exit code> <base64 of the
output>` out.  Every boot announces itself with `ready <boot id>`.
"""

from __future__ import annotations

import base64
import binascii
import re
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bedrock.clock import SYSTEM_CLOCK, Clock
from imagebuild.errors import VmError
from imagebuild.vm.arguments import GUEST_PORT
from imagebuild.vm.config import Credential

MAX_OUTPUT_BYTES = 8 << 20
_GRACE_S = 30.0
_SLICE_S = 0.5
_UNIT = "hypervisor-shell.service"
_SCRIPT = "twinhull.guest-shell"
_PORT = f"/dev/virtio-ports/{GUEST_PORT}"

_UNIT_TEXT = f"""[Unit]
Description=Commands from the hypervisor's side
[Service]
ImportCredential={_SCRIPT}
ExecStart=/bin/sh %d/{_SCRIPT}
RuntimeDirectory=twinhull-guest
Restart=always
RestartSec=1
StandardInput=null
"""
_DROPIN_TEXT = f"""[Unit]
Wants={_UNIT}
"""
# Reading a port that is not open on the other side ends at once, so the loop pauses and tries again.
_SCRIPT_TEXT = f"""set -u
unset CREDENTIALS_DIRECTORY INVOCATION_ID
until [ -e {_PORT} ]; do sleep 0.2; done
exec 3<>{_PORT}
cd /
printf '\\nready %s\\n' "$(cat /proc/sys/kernel/random/boot_id)" >&3
while :; do
    if ! IFS=' ' read -r id limit command <&3; then sleep 0.2; continue; fi
    [ -n "$command" ] || continue
    printf '%s' "$command" | base64 -d >"$RUNTIME_DIRECTORY/command"
    timeout "$limit" /bin/sh "$RUNTIME_DIRECTORY/command" >"$RUNTIME_DIRECTORY/output" 2>&1 </dev/null 3>&-
    code=$?
    printf 'end %s %s %s\\n' "$id" "$code" "$(tail -c {MAX_OUTPUT_BYTES} "$RUNTIME_DIRECTORY/output" | base64 -w0)" >&3
done
"""


class GuestRebootedError(VmError):
    """The guest rebooted while a command ran in it."""


@dataclass(frozen=True)
class Answer:
    """How a command in the guest ended, and what it printed (stdout and stderr together)."""

    exit_code: int
    output: str


@dataclass(frozen=True)
class Ready:
    """The guest's shell is ready, in the boot with this id."""

    boot_id: str


@dataclass(frozen=True)
class End:
    """A command has ended."""

    request: str
    answer: Answer


def guest_shell_credentials() -> tuple[Credential, ...]:
    """The credentials that bring the guest's side of the channel."""
    return (
        Credential(f"systemd.extra-unit.{_UNIT}", _UNIT_TEXT.encode()),
        Credential("systemd.unit-dropin.multi-user.target", _DROPIN_TEXT.encode()),
        Credential(_SCRIPT, _SCRIPT_TEXT.encode()),
    )


def provisioned_shell() -> dict[str, list[dict[str, str]]]:
    """The guest's side of the channel as parts of a provisioning document, for hosts that accept no credentials.

    If credentials bring the shell too, that one gets the port.
    """
    script = "/etc/guest-shell"
    unit = _UNIT_TEXT.replace("[Service]", f"ConditionCredential=!{_SCRIPT}\n[Service]")
    unit = unit.replace(f"ImportCredential={_SCRIPT}\n", "").replace(f"%d/{_SCRIPT}", script)
    return {
        "files": [{"path": script, "content": _SCRIPT_TEXT}],
        "units": [{"name": "guest-shell.service", "content": f"{unit}[Install]\nWantedBy=multi-user.target\n"}],
    }


def parse_line(line: bytes) -> Ready | End | None:
    """Parse one line from the guest; None for anything that is not part of the protocol."""
    words = line.decode("ascii", errors="replace").split()
    match words:
        case ["ready", boot_id]:
            return Ready(boot_id)
        case ["end", request, code, *rest] if re.fullmatch(r"\d{1,3}", code) and len(rest) <= 1:
            try:
                output = base64.b64decode("".join(rest), validate=True)
            except binascii.Error:
                return None
            return End(request, Answer(int(code), output.decode(errors="replace")))
    return None


class GuestShell:
    """Runs shell commands as root in the guest, one at a time; it works again after every reboot.

    Args:
        port: The channel's socket.
        check: Called while waiting; raises when waiting is pointless (the machine ended or panicked).
        clock: Time.
    """

    def __init__(self, port: Path, *, check: Callable[[], None], clock: Clock = SYSTEM_CLOCK) -> None:
        self._check = check
        self._clock = clock
        self._requests = 0
        self._boot_id: str | None = None
        self._buffer = b""
        self._lines: deque[bytes] = deque()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_SLICE_S)
        try:
            self._socket.connect(str(port))
        except OSError as error:
            self._socket.close()
            raise VmError(f"the guest's port {port} cannot be opened: {error.strerror}") from error

    @property
    def boot_id(self) -> str | None:
        """The id of the boot in which the shell was last ready."""
        return self._boot_id

    def wait_ready(self, *, timeout_s: float) -> str:
        """Wait until the shell is ready and return the id of this boot.

        Raises:
            VmError: It did not come, or the machine ended.
        """
        if self._boot_id is not None:
            return self._boot_id
        return self._await_ready(timeout_s, "the guest's shell")

    def wait_reboot(self, *, timeout_s: float) -> str:
        """Wait until the guest's shell is ready in a new boot; return that boot's id.

        Raises:
            VmError: It did not come, or the machine ended.
        """
        return self._await_ready(timeout_s, "the guest's shell after a reboot")

    def run(self, command: str, *, timeout_s: float = 60) -> Answer:
        """Run a shell command to its end; past `timeout_s` it is ended in the guest (exit code 124).

        Raises:
            GuestRebootedError: The guest restarted meanwhile.
            VmError: No answer, or the machine ended.
        """
        self.wait_ready(timeout_s=timeout_s)
        self._requests += 1
        request = f"r{self._requests}"
        payload = base64.b64encode(command.encode()).decode()
        self._send(f"{request} {timeout_s:g} {payload}\n".encode())
        deadline = self._clock.steady() + timeout_s + _GRACE_S
        while True:
            message = self._next(deadline, f"an answer to {command!r}")
            if isinstance(message, Ready):
                self._boot_id = message.boot_id
                raise GuestRebootedError(f"the guest rebooted while it ran {command!r}")
            if message.request == request:
                return message.answer

    def check_run(self, command: str, *, timeout_s: float = 60) -> str:
        """Run a shell command that must succeed; return what it printed.

        Raises:
            VmError: It failed; the message holds its output.
        """
        answer = self.run(command, timeout_s=timeout_s)
        if answer.exit_code:
            raise VmError(f"in the guest, {command!r} failed with exit code {answer.exit_code}\n{answer.output}")
        return answer.output

    def reboot(self, *, timeout_s: float) -> str:
        """Reboot the guest and wait until its shell is ready again; return the new boot's id.

        Raises:
            VmError: It did not come back.
        """
        self.wait_ready(timeout_s=timeout_s)
        try:
            self.run("systemctl reboot", timeout_s=timeout_s)
        except GuestRebootedError as error:
            if self._boot_id is None:
                raise VmError("the guest rebooted without an id") from error
            return self._boot_id
        return self.wait_reboot(timeout_s=timeout_s)

    def close(self) -> None:
        """Close the channel."""
        self._socket.close()

    def _await_ready(self, timeout_s: float, what: str) -> str:
        deadline = self._clock.steady() + timeout_s
        while True:
            message = self._next(deadline, what)
            if isinstance(message, Ready) and message.boot_id != self._boot_id:
                self._boot_id = message.boot_id
                return message.boot_id

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            self._check()
            raise VmError(f"the guest's port does not take a command: {error}") from error

    def _next(self, deadline: float, what: str) -> Ready | End:
        while True:
            while self._lines:
                message = parse_line(self._lines.popleft())
                if message is not None:
                    return message
            self._receive()
            self._check()
            if not self._lines and self._clock.steady() >= deadline:
                raise VmError(f"{what} did not come in time")

    def _receive(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return
        except OSError as error:
            raise VmError(f"the guest's port failed: {error}") from error
        if not data:
            # QEMU closed its end: `check` can say why.
            self._clock.sleep(_SLICE_S)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > 2 * MAX_OUTPUT_BYTES:
            raise VmError("the guest sends a line without an end")
        self._lines.extend(lines)
