"""The configuration of a virtual machine: values only, no I/O."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from imagebuild.vm.disks import DiskKind

MIN_MEMORY_MIB = 512
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~@:-]{0,254}")
# An SMBIOS structure of strings must fit into one file of the kernel; far larger than any configuration.
_MAX_CREDENTIAL_BYTES = 48 * 1024
# QEMU's files for the firmware have names of at most 55 characters.
_FW_CFG_FOLDER = "opt/io.systemd.credentials"
_MAX_FW_CFG_NAME = 55
_MAX_PORT = 65535


class Accelerator(Enum):
    """What executes the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


class DiskFormat(Enum):
    """Disk image formats, in QEMU's spelling."""

    RAW = "raw"
    QCOW2 = "qcow2"


class DiskCache(Enum):
    """What happens to the guest's flushes; only UNSAFE drops them."""

    WRITEBACK = "writeback"
    NONE = "none"
    UNSAFE = "unsafe"


class Console(Enum):
    """Where the guest's serial console goes, besides the log file."""

    LOG = "log"
    TERMINAL = "terminal"


@dataclass(frozen=True)
class Forward:
    """A TCP port of this host's loopback that leads to a port of the guest; host port 0 means any free one."""

    host: int
    guest: int

    @classmethod
    def from_text(cls, text: str) -> Forward:
        """Read `HOST:GUEST`.

        Raises:
            ValueError: Not two port numbers.
        """
        match = re.fullmatch(r"(\d{1,5}):(\d{1,5})", text)
        if match is None or int(match[1]) > _MAX_PORT or not 0 < int(match[2]) <= _MAX_PORT:
            raise ValueError(f"{text!r} is not HOST:GUEST, two TCP ports such as 8080:80")
        return cls(int(match[1]), int(match[2]))


class Carrier(Enum):
    """What of the firmware hands a credential to the guest."""

    SMBIOS = "SMBIOS"
    FW_CFG = "fw_cfg"


@dataclass(frozen=True)
class Credential:
    """A systemd credential handed to the guest's PID 1 through the firmware; fw_cfg carries no zero bytes."""

    name: str
    value: bytes
    carrier: Carrier = Carrier.SMBIOS

    def __post_init__(self) -> None:
        if _CREDENTIAL_NAME.fullmatch(self.name) is None:
            raise ValueError(f"{self.name!r} is not a credential name")
        if len(self.value) > _MAX_CREDENTIAL_BYTES:
            raise ValueError(f"the credential {self.name} has {len(self.value)} bytes, {_MAX_CREDENTIAL_BYTES} fit")
        if self.carrier is Carrier.FW_CFG and (b"\0" in self.value or len(self.fw_cfg_name) > _MAX_FW_CFG_NAME):
            raise ValueError(f"the credential {self.name} has a name or a value that fw_cfg cannot carry")

    @classmethod
    def from_text(cls, text: str) -> Credential:
        """Read `NAME=VALUE`.

        Raises:
            ValueError: No `=`, or not a credential's name.
        """
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not NAME=VALUE")
        return cls(name, value.encode())

    @property
    def smbios_string(self) -> str:
        """The SMBIOS type 11 string systemd reads (systemd.system-credentials(7)); base64 holds no comma."""
        return f"io.systemd.credential.binary:{self.name}={base64.b64encode(self.value).decode()}"

    @property
    def fw_cfg_name(self) -> str:
        """The file of fw_cfg systemd reads (systemd.system-credentials(7))."""
        return f"{_FW_CFG_FOLDER}/{self.name}"


@dataclass(frozen=True)
class BootCertificates:
    """The certificates (PEM files) the firmware is to trust."""

    platform_key: Path
    key_exchange_key: Path
    signature_database: Path


@dataclass(frozen=True)
class VmConfig:
    """A virtual machine.

    Attributes:
        image: The disk, `.raw` or `.qcow2`.
        memory_mib: Memory in MiB.
        cpus: Virtual processors.
        forwards: Ports of this host's loopback that lead into the guest.
        credentials: systemd credentials for the guest.
        smbios_strings: Strings in the firmware's tables (SMBIOS type 11) besides those of the credentials.
        certificates: The certificates that Secure Boot trusts; None: Secure Boot is off and nothing is enrolled.
        tpm: Whether it has a TPM 2.0.
        snapshot: Write to an overlay next to the VM's state, never to `image`.
        disk_bytes: How large the disk appears (with `snapshot`); as large as the image when None.
        disk_cache: What happens to the guest's flushes.
        more_disks: Raw images of other disks, written in place; the guest's kernel finds them before its own.
        write_log: A file that every write and flush of the guest to its disk is noted in (dm-log-writes' format); it
            begins anew with every start.  Needs a raw `image` that is written.
        disk_kind: The controller the disk is attached to.
        uki: A UKI that the firmware starts instead of the disk, for disks that it cannot read.
        console: Where the serial console goes besides the log.
        guest_shell: Whether there is a channel for `GuestShell`.
        unplugged_card: Whether there is a second network card, which has no cable.
        guest_agent: Whether there is a channel for the package qemu-guest-agent, at `VmPaths.guest_agent`.
    """

    image: Path
    memory_mib: int = 2048
    cpus: int = 2
    forwards: tuple[Forward, ...] = ()
    credentials: tuple[Credential, ...] = ()
    smbios_strings: tuple[str, ...] = ()
    certificates: BootCertificates | None = None
    tpm: bool = False
    snapshot: bool = True
    disk_bytes: int | None = None
    disk_cache: DiskCache = DiskCache.WRITEBACK
    write_log: Path | None = None
    more_disks: tuple[Path, ...] = ()
    disk_kind: DiskKind = DiskKind.VIRTIO_BLK
    uki: Path | None = None
    console: Console = Console.LOG
    guest_shell: bool = False
    guest_agent: bool = False
    unplugged_card: bool = False

    def __post_init__(self) -> None:
        if self.memory_mib < MIN_MEMORY_MIB:
            raise ValueError(f"{self.memory_mib} MiB of memory are too few, {MIN_MEMORY_MIB} is the least")
        if self.cpus < 1:
            raise ValueError(f"{self.cpus} is not a number of processors")
        if self.disk_bytes is not None and not self.snapshot:
            raise ValueError("the disk can only be enlarged in an overlay: disk_bytes needs snapshot")
        if self.write_log is not None and (self.snapshot or self.image_format is not DiskFormat.RAW):
            raise ValueError("writes are only logged to a raw image that is written: write_log needs snapshot=False")
        if self.uki is None and not self.disk_kind.firmware_can_read:
            raise ValueError(
                f"the firmware has no driver for a {self.disk_kind.value} disk: it needs the UKI as a file"
            )
        names = [credential.name for credential in self.credentials]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"credentials given twice: {', '.join(sorted(twice))}")

    @property
    def image_format(self) -> DiskFormat:
        """The image's format, by its name."""
        return DiskFormat.QCOW2 if self.image.suffix == ".qcow2" else DiskFormat.RAW


@dataclass(frozen=True)
class VmPaths:
    """Where a machine keeps its files: `folder` outlives it, `sockets` does not and has a short name.

    A Unix socket's path may have 107 bytes, so the sockets are not below a folder whose name we do not choose.
    """

    folder: Path
    sockets: Path

    @property
    def console_log(self) -> Path:
        """Everything the guest wrote to its serial console."""
        return self.folder / "console.log"

    @property
    def qemu_log(self) -> Path:
        """What QEMU itself said."""
        return self.folder / "qemu.log"

    @property
    def nvram(self) -> Path:
        """The firmware's variables."""
        return self.folder / "nvram.fd"

    @property
    def overlay(self) -> Path:
        """The disk the guest writes to when the image is not written."""
        return self.folder / "overlay.qcow2"

    @property
    def tpm_state(self) -> Path:
        """The TPM's memory."""
        return self.folder / "tpm"

    @property
    def qmp(self) -> Path:
        """QEMU's control socket."""
        return self.sockets / "qmp"

    @property
    def console(self) -> Path:
        """The serial console's socket."""
        return self.sockets / "console"

    @property
    def guest(self) -> Path:
        """The guest shell's socket."""
        return self.sockets / "guest"

    @property
    def guest_agent(self) -> Path:
        """The socket of QEMU's guest agent."""
        return self.sockets / "agent"

    @property
    def tpm(self) -> Path:
        """The TPM's socket."""
        return self.sockets / "tpm"
