"""Finds an accelerator that works here, by starting the machine that will be used.

`/dev/kvm` may exist, open and answer, and still not run our guests: nested or paravirtual hosts lack processor
features, or System Management Mode, which Secure Boot needs.  So the probe boots our own firmware, on the same board
and processor that every VM gets, and relies only on the line that the firmware prints after all its phases.
The answer is cached per QEMU version and kernel release.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bedrock import strict
from bedrock.clock import SYSTEM_CLOCK, Clock
from bedrock.errors import DocumentError
from bedrock.persist import write_atomic
from bedrock.process import Running
from imagebuild.errors import VmError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.vm import firmware
from imagebuild.vm.arguments import QEMU, firmware_arguments, machine_arguments
from imagebuild.vm.config import Accelerator
from imagebuild.vm.waiting import wait_for

KVM_DEVICE = Path("/dev/kvm")
CACHE_FILE = "accelerator.json"
_PROBE_TIMEOUT_S = 20.0
_FIRMWARE_IS_DONE = b"BdsDxe:"
_PROBE_MEMORY_MIB = 512


@dataclass(frozen=True)
class AcceleratorChoice:
    """The accelerator to use, and why not a better one (empty when there is no better one)."""

    accelerator: Accelerator
    reason: str = ""

    @property
    def line(self) -> str:
        """One line for the user."""
        if self.accelerator is Accelerator.KVM:
            return "hardware acceleration: KVM"
        return f"no usable hardware acceleration ({self.reason}): software emulation"


@dataclass(frozen=True)
class CachedFinding:
    """The cache file: a result, and the QEMU and kernel it is valid for."""

    qemu: str
    kernel: str
    accelerator: Accelerator
    reason: str


def find_accelerator(tools: ToolsTree, *, cache: Path, clock: Clock = SYSTEM_CLOCK) -> AcceleratorChoice:
    """Find the accelerator to use; writes the result below `cache`."""
    obstacle = _obstacle(KVM_DEVICE)
    if obstacle is not None:
        return AcceleratorChoice(Accelerator.TCG, obstacle)
    qemu = _qemu_version(tools)
    known = read_cache(cache / CACHE_FILE, qemu=qemu, kernel=platform.release())
    if known is not None:
        return known
    finding = _probe(tools, clock)
    entry = CachedFinding(qemu, platform.release(), finding.accelerator, finding.reason)
    cache.mkdir(parents=True, exist_ok=True)
    write_atomic(cache / CACHE_FILE, strict.dump_json(entry))
    return finding


def read_cache(path: Path, *, qemu: str, kernel: str) -> AcceleratorChoice | None:
    """The earlier result with the same QEMU and kernel; None when there is no readable one."""
    try:
        entry = strict.read_json(CachedFinding, path.read_bytes(), source=str(path))
    except (OSError, DocumentError):
        return None
    if (entry.qemu, entry.kernel) != (qemu, kernel):
        return None
    return AcceleratorChoice(entry.accelerator, entry.reason)


def reason_of(output: str) -> str:
    """QEMU's own explanation, shortened to one clause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if not lines:
        return "the firmware did not start"
    return lines[0].removeprefix(f"{QEMU}: ").removeprefix("error: ").rstrip(".")


def _obstacle(device: Path) -> str | None:
    if not device.exists():
        return f"{device} does not exist"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} may not be opened by this user"
    return None


def _qemu_version(tools: ToolsTree) -> str:
    lines = tools.run([QEMU, "--version"], timeout_s=30).stdout.splitlines()
    return lines[0] if lines else "unknown"


def _probe(tools: ToolsTree, clock: Clock) -> AcceleratorChoice:
    folder = Path(tempfile.mkdtemp(prefix="twinhull-probe-"))
    try:
        return _boot_firmware(tools, folder, clock)
    finally:
        shutil.rmtree(folder)


def _boot_firmware(tools: ToolsTree, folder: Path, clock: Clock) -> AcceleratorChoice:
    serial, said = folder / "serial", folder / "qemu"
    firmware.ensure_nvram(folder / "nvram.fd", tools, None)
    words = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-m", str(_PROBE_MEMORY_MIB), "-smp", "2"]
    words += machine_arguments(Accelerator.KVM, secure=True)
    words += firmware_arguments(folder / "nvram.fd", secure=True)
    words += ["-serial", f"file:{serial}"]
    with said.open("wb") as sink:
        vm = tools.start(words, Access(write=(folder,)), stdout=sink)
    try:
        wait_for(lambda: _verdict(vm, serial), what="the firmware", timeout_s=_PROBE_TIMEOUT_S, clock=clock)
    except VmError:
        return AcceleratorChoice(Accelerator.TCG, f"the firmware did not start within {_PROBE_TIMEOUT_S:g} s")
    finally:
        vm.kill()
        vm.wait()
    if _firmware_is_done(serial):
        return AcceleratorChoice(Accelerator.KVM)
    return AcceleratorChoice(Accelerator.TCG, reason_of(said.read_text(errors="replace")))


def _verdict(vm: Running, serial: Path) -> bool | None:
    """True once the firmware is through or QEMU has ended; None while neither."""
    return True if _firmware_is_done(serial) or vm.poll() is not None else None


def _firmware_is_done(serial: Path) -> bool:
    return serial.exists() and _FIRMWARE_IS_DONE in serial.read_bytes()
