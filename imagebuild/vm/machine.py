"""One running virtual machine: start, wait, talk, end.

A machine's folder keeps its firmware variables, overlay, TPM and console log, so starting a `VirtualMachine` in the
same folder again means switching on the same machine again.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bedrock.clock import SYSTEM_CLOCK, Clock
from bedrock.process import Running, StillRunningError
from imagebuild.errors import VmError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.vm import console, firmware
from imagebuild.vm.arguments import UNPLUGGED, qemu_arguments
from imagebuild.vm.config import Accelerator, Console, Forward, VmConfig, VmPaths
from imagebuild.vm.guest import GuestShell, guest_shell_credentials
from imagebuild.vm.qmp import Qmp
from imagebuild.vm.swtpm import start_tpm
from imagebuild.vm.waiting import wait_for

_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 30.0
_TOOL_TIMEOUT_S = 120.0
_AGENT_TIMEOUT_S = 60.0
_TYPING_TIMEOUT_S = 5.0
_MAX_AGENT_BYTES = 1 << 20


class VirtualMachine:
    """A virtual machine; use it as a context manager, leaving it ends the machine.

    Args:
        config: What machine.
        tools: Where QEMU comes from.
        accelerator: What executes it (`find_accelerator`).
        folder: Where its state and logs are; made when missing.
        clock: Time.

    It must be started in a thread that outlives it: QEMU is ended when the thread that started it does.
    """

    def __init__(
        self, config: VmConfig, *, tools: ToolsTree, accelerator: Accelerator, folder: Path, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.config = _completed(config)
        self._tools = tools
        self._accelerator = accelerator
        self._clock = clock
        self._folder = folder
        self._paths: VmPaths | None = None
        self._vm: Running | None = None
        self._tpm: Running | None = None
        self._qmp: Qmp | None = None
        self._shell: GuestShell | None = None
        self._boot_starts_at = 0
        self._powered_on_at = 0.0
        self.panics_are_fatal = True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"the console's log is {self.console_log}")
        self.close()

    @property
    def console_log(self) -> Path:
        """The file that holds everything the guest wrote to its serial console."""
        return VmPaths(self._folder, self._folder).console_log

    @property
    def powered_on_at(self) -> float:
        """When the machine was last switched on, on its clock."""
        return self._powered_on_at

    @property
    def shell(self) -> GuestShell:
        """The guest's shell (needs `config.guest_shell`).

        Raises:
            VmError: The machine was configured without one, or is not running.
        """
        if self._shell is None:
            raise VmError("this machine has no guest shell: it was not asked for, or the machine is not running")
        return self._shell

    def start(self) -> None:
        """Switch the machine on.

        Raises:
            VmError: QEMU did not start; the message holds what it said.
        """
        if self._vm is not None:
            raise VmError("this machine is already running")
        paths = self._prepare()
        self._boot_starts_at = len(self.console_text())
        try:
            if self.config.tpm:
                self._tpm = start_tpm(paths, self._tools, clock=self._clock)
            self._powered_on_at = self._clock.steady()
            self._vm = self._start_qemu(paths)
            self._qmp = wait_for(self._connect, what="QEMU", timeout_s=_START_TIMEOUT_S, clock=self._clock)
            if self.config.unplugged_card:
                self._qmp.execute("set_link", {"name": UNPLUGGED, "up": False})
            if self.config.guest_shell:
                self._shell = GuestShell(paths.guest, check=self.check_alive, clock=self._clock)
        except BaseException:
            self.close()
            raise

    def console_text(self) -> str:
        """The guest's output on its serial console so far, in all its boots, without control sequences."""
        return console.clean(self.console_log.read_bytes()) if self.console_log.exists() else ""

    def mark(self) -> int:
        """The console's current end, for the argument `since` of `wait_for_console`."""
        return len(self.console_text())

    def wait_for_console(
        self, marker: str | re.Pattern[str], *, timeout_s: float, since: int | None = None
    ) -> console.Hit:
        """Wait until a marker is on the console, from the last start on, or from `since`.

        Raises:
            VmError: It did not appear in time, the machine ended, or the guest is stuck.
        """
        expression = re.compile(marker) if isinstance(marker, str) else marker
        start = self._boot_starts_at if since is None else since

        def look() -> console.Hit | None:
            ended = self._ended
            hit = console.find(self.console_text(), expression, since=start)
            if hit is None:
                self.check_alive(since=start)
                if ended:
                    raise VmError(f"the machine ended before {expression.pattern!r} came\n{self._tail()}")
            return hit

        try:
            return wait_for(look, what=repr(expression.pattern), timeout_s=timeout_s, clock=self._clock)
        except VmError as error:
            raise self._told(error) from error

    def check_alive(self, *, since: int | None = None) -> None:
        """Check that the machine runs and is not stuck.

        Raises:
            VmError: QEMU ended, or the console shows a panic or an emergency shell.
        """
        if self.panics_are_fatal:
            line = console.fatal_line(self.console_text(), since=self._boot_starts_at if since is None else since)
            if line is not None:
                raise VmError(f"the guest is stuck: {line}\n{self._tail()}")
        if self._ended:
            raise VmError(f"the machine ended\n{self._tail()}")

    def send(self, line: str) -> None:
        """Type a line on the serial console.

        Raises:
            VmError: The machine is not running, or its console is this terminal.
        """
        with self.keyboard() as press:
            press(f"{line}\n")

    @contextmanager
    def keyboard(self) -> Iterator[Callable[[str], None]]:
        """Yields a function that types its argument on the serial console, unchanged.

        One connection for all of it: QEMU takes the next one only when the last one is gone, and a machine that starts
        reads nothing for a while.  What it shows meanwhile is in the log.  A key that it has not
        taken when the connection ends is lost.

        Raises:
            VmError: The machine is not running, or its console is this terminal.
        """
        if self._paths is None or self.config.console is not Console.LOG:
            raise VmError("nothing can be typed on this console")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TYPING_TIMEOUT_S)
            try:
                connection.connect(str(self._paths.console))
            except TimeoutError as error:
                raise VmError("the serial console is taken: somebody else is connected to it") from error

            # Whoever does not read what the machine shows holds it up, between two keys as well.
            reader = threading.Thread(target=_drain, args=(connection,), daemon=True)
            reader.start()

            def press(keys: str) -> None:
                with suppress(TimeoutError):
                    connection.sendall(keys.encode())

            try:
                yield press
            finally:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                reader.join()

    def ask_agent(self, command: str) -> object:
        """Run a command of QEMU's guest agent (`guest-ping`, `guest-info`, …) and return what it returned.

        Raises:
            VmError: The machine has no such channel, nobody answered in time, or the agent refused the command.
        """
        if self._paths is None or not self.config.guest_agent:
            raise VmError("this machine has no guest agent: it was not asked for, or the machine is not running")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_AGENT_TIMEOUT_S)
            connection.connect(str(self._paths.guest_agent))
            connection.sendall(json.dumps({"execute": command}).encode() + b"\n")
            try:
                line = connection.makefile("rb").readline(_MAX_AGENT_BYTES)
            except TimeoutError as error:
                raise VmError(f"the guest agent did not answer {command} in {_AGENT_TIMEOUT_S:g} s") from error
        answer = json.loads(line or b"{}")
        if "return" not in answer:
            raise VmError(f"the guest agent refused {command}: {line.decode(errors='replace').strip()}")
        return answer["return"]

    def wait_exit(self, *, timeout_s: float | None) -> int:
        """Wait until the guest powers off (or QEMU ends otherwise); return QEMU's exit code.

        Raises:
            VmError: It is still running after `timeout_s`.
        """
        if self._vm is None:
            raise VmError("this machine is not running")
        try:
            return self._vm.wait(timeout_s)
        except StillRunningError as error:
            raise self._told(VmError(f"the machine was still running after {timeout_s:g} s\n{self._tail()}")) from error

    def kill(self) -> None:
        """Kill QEMU: the machine stops between two instructions, as in a power cut."""
        if self._vm is not None:
            self._vm.kill()
            self._vm.wait()

    def close(self) -> None:
        """End the machine and release everything; its folder stays."""
        for channel in (self._shell, self._qmp):
            if channel is not None:
                channel.close()
        for process in (self._vm, self._tpm):
            if process is not None:
                _end(process)
        if self._paths is not None:
            shutil.rmtree(self._paths.sockets, ignore_errors=True)
        self._shell = self._qmp = self._vm = self._tpm = self._paths = None

    @property
    def _ended(self) -> bool:
        return self._vm is None or self._vm.poll() is not None

    def _prepare(self) -> VmPaths:
        """Make the folder, overlay and firmware variables of a new machine (writes to the disk)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        image = self.config.image
        if not image.is_file():
            raise VmError(f"there is no disk image at {image}")
        sockets = Path(tempfile.mkdtemp(prefix="twinhull-vm-"))
        self._paths = paths = VmPaths(self._folder.resolve(), sockets)
        try:
            if self.config.write_log is not None:
                self.config.write_log.write_bytes(b"")
            firmware.ensure_nvram(paths.nvram, self._tools, self.config.certificates)
            if self.config.snapshot and not paths.overlay.exists():
                words: list[str | Path] = [
                    "qemu-img",
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-b",
                    image,
                    "-F",
                    self.config.image_format.value,
                ]
                size = [str(self.config.disk_bytes)] if self.config.disk_bytes is not None else []
                access = Access(read=(image,), write=(paths.folder,))
                self._tools.run([*words, paths.overlay, *size], access, timeout_s=_TOOL_TIMEOUT_S)
        except BaseException:
            self.close()
            raise
        return paths

    def _start_qemu(self, paths: VmPaths) -> Running:
        config = self.config
        access = Access(
            read=tuple(path for path in (config.image if config.snapshot else None, config.uki) if path),
            write=(
                *(paths.folder, paths.sockets),
                *(
                    path
                    for path in (None if config.snapshot else config.image, config.write_log, *config.more_disks)
                    if path
                ),
            ),
            network=True,
        )
        # A machine never outlives the program that started it, however that ends.
        words = ["setpriv", "--pdeathsig", "TERM", "--", *qemu_arguments(config, paths, self._accelerator)]
        if config.console is Console.TERMINAL:
            return self._tools.start(words, access, stdin=None, stdout=None, stderr=None)
        with paths.qemu_log.open("ab") as sink:
            return self._tools.start(words, access, stdout=sink)

    def _connect(self) -> Qmp | None:
        if self._ended or self._paths is None:
            raise VmError(f"QEMU did not start\n{self._qemu_said()}")
        try:
            return Qmp.connect(self._paths.qmp)
        except OSError:
            return None

    def _qemu_said(self) -> str:
        if self._paths is None or not self._paths.qemu_log.exists():
            return ""
        return console.tail(self._paths.qemu_log.read_text(errors="replace"))

    def _tail(self) -> str:
        said = self._qemu_said()
        return "\n".join(part for part in (said, console.tail(self.console_text())) if part)

    def _told(self, error: VmError) -> VmError:
        failed = VmError(str(error))
        failed.add_note(f"the console's log is {self.console_log}")
        return failed


def free_port() -> int:
    """A free TCP port of the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return int(port)


def _completed(config: VmConfig) -> VmConfig:
    """The configuration with real ports, absolute paths and, if needed, the guest shell's credentials."""
    forwards = tuple(Forward(pair.host or free_port(), pair.guest) for pair in config.forwards)
    extra = guest_shell_credentials() if config.guest_shell else ()
    return dataclasses.replace(
        config,
        image=config.image.resolve(),
        uki=config.uki and config.uki.resolve(),
        write_log=config.write_log and config.write_log.resolve(),
        more_disks=tuple(path.resolve() for path in config.more_disks),
        forwards=forwards,
        credentials=(*config.credentials, *extra),
    )


def _end(process: Running) -> None:
    process.terminate()
    try:
        process.wait(_END_TIMEOUT_S)
    except StillRunningError:
        process.kill()
        process.wait()


def _drain(connection: socket.socket) -> None:
    """Read and discard all data until either side ends the connection."""
    while True:
        try:
            if not connection.recv(1 << 16):
                return
        except TimeoutError:
            continue
        except OSError:
            return
