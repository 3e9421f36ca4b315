"""The initrd's first program, run by the busybox it has at a boot, in a root folder whose other programs are played.

The played programs write down how they are called and behave as a test wants.  Those that are names of busybox are put
in front of the script as functions, for busybox's shell takes its own before any file.  Nothing of the kernel is there:
what the script reads of `/proc`, `/sys` and `/dev` are plain files.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from imagebuild.definition.initrd import FILES
from imagebuild.inputs.tools import Access, ToolsTree
from partitions.layout import identity_of
from updater.agent.efi import LOADER
from updater.etc_policy import EtcPolicy

ROOT_HASH = "0123456789abcdef00112233445566778899aabbccddeefffedcba9876543210"
SLOT = identity_of(ROOT_HASH)
# The numbers of these partitions.
STATE, VAR = 7, 8
VERITYSETUP = "usr/lib/systemd/systemd-veritysetup"
GROWFS = "usr/lib/systemd/systemd-growfs"
OF_BUSYBOX = ("blockdev", "mount", "modprobe", "reboot", "dmesg", "sync", "umount")
OF_THEMSELVES = (
    "usr/sbin/blkid",
    "usr/bin/systemd-repart",
    "usr/bin/chattr",
    "usr/sbin/e2fsck",
    "usr/sbin/mkfs.ext4",
    GROWFS,
    VERITYSETUP,
)
# What a partition is for, by its number.
KINDS = {1: "esp", 2: "xbootldr", 3: "root", 4: "verity", 5: "root", 6: "verity", STATE: "state", VAR: "var"}
# A played program of busybox that ends with this ends the script as well, wherever it is.
CUT = 99
_TIMEOUT_S = 60


@dataclass
class PlayedInitrd:
    """A root folder to boot in.

    Attributes:
        disk: The name of the disk that holds the slot.
        partition: What stands between that name and the number of a partition.
        plays: What a played program does after it wrote down its call, as a shell script, by its name.
        limits: Numbers of the script that a test wants otherwise, by name.
        elsewhere: Partitions by device, besides those of the slot.
        origin: The partition that the firmware says it started from.
        labels: The labels of partitions, by number.
        policy: What the image says of credentials, as `dump_json` writes it.
        storage: What the image says of a damaged `/var`, as `dump_json` writes it.
        record: What the host recorded of its first boot.
        etc: What the image says of the host's edits of `/etc`.
        watchdog: A character device of this host that stands for the hardware's watchdog.
    """

    root: Path
    tools: ToolsTree
    disk: str = "vda"
    partition: str = ""
    plays: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    watchdog: Path | None = None
    elsewhere: dict[str, UUID] = field(default_factory=dict)
    origin: UUID | None = None
    labels: dict[int, str] = field(default_factory=lambda: {2: "xbootldr", STATE: "state", VAR: "var"})
    policy: str | None = '{"unsigned": "always"}'
    record: str | None = None
    storage: str = '{"on_damage": "repair"}'
    etc: str | None = field(default_factory=lambda: EtcPolicy().text())

    def device(self, number: int) -> str:
        return f"/dev/{self.disk}{self.partition}{number}"

    def make(self, cmdline: str) -> None:
        for name in ("usr/bin", "usr/sbin", "usr/lib/systemd", "played", "proc/self", "proc/sys/kernel", "dev", "sys"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name in ("run", "sysroot/var", "sysroot/etc", "sysroot/usr/lib/systemd"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for path, text in (
            ("sysroot/usr/lib/twinhull/provision.json", self.policy),
            ("sysroot/usr/lib/twinhull/storage.json", self.storage),
            ("sysroot/usr/lib/twinhull/etc-policy", self.etc),
            ("sysroot/var/lib/twinhull/provision.json", self.record),
        ):
            if text is not None:
                (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                (self.root / path).write_text(text)
        shutil.copytree(FILES / "usr", self.root / "usr", dirs_exist_ok=True)
        shutil.copy(self.tools.root / "usr/bin/busybox", self.root / "usr/bin/busybox")
        (self.root / "bin").symlink_to("usr/bin")
        (self.root / "usr/bin/sh").symlink_to("busybox")
        # How busybox finds itself again.
        (self.root / "proc/self/exe").symlink_to("/usr/bin/busybox")
        (self.root / "proc/cmdline").write_text(cmdline + "\n")
        (self.root / "proc/uptime").write_text("7.21 10.02\n")
        for name in ("proc/sys/kernel/printk_devkmsg", "dev/console", "dev/kmsg", "dev/null", "calls"):
            (self.root / name).touch()
        if self.origin is not None:
            variables = self.root / "sys/firmware/efi/efivars"
            variables.mkdir(parents=True, exist_ok=True)
            value = f"{self.origin}\0".upper().encode("utf-16-le")
            (variables / f"LoaderDevicePartUUID-{LOADER}").write_bytes(b"\6\0\0\0" + value)
        self.add_disk(self.disk, self.partition)
        self.add_device("pci", "0000:00:04.0", "pci:v00001AF4d00001042")

    def add_disk(self, disk: str, partition: str = "") -> None:
        place = self.root / "sys/devices/pci0000:00" / disk
        links = self.root / "sys/class/block"
        links.mkdir(parents=True, exist_ok=True)
        (links / disk).symlink_to(f"../../devices/pci0000:00/{disk}")
        for number in range(1, 9):
            name = f"{disk}{partition}{number}"
            (place / name).mkdir(parents=True)
            (links / name).symlink_to(f"../../devices/pci0000:00/{disk}/{name}")

    def add_device(self, bus: str, name: str, alias: str) -> None:
        folder = self.root / f"sys/bus/{bus}/devices/{name}"
        folder.mkdir(parents=True)
        (folder / "modalias").write_text(f"{alias}\n")

    def add_controller(self, name: str, device_class: str, *, driven: bool) -> None:
        self.add_device("pci", name, "pci:v00001000d0000005B")
        folder = self.root / f"sys/bus/pci/devices/{name}"
        for key, value in (("vendor", "0x1000"), ("device", "0x005b"), ("class", device_class)):
            (folder / key).write_text(f"{value}\n")
        if driven:
            (folder / "driver").mkdir()

    def write_programs(self) -> None:
        played = {
            "mount": ":",
            "modprobe": ":",
            "blockdev": ":",
            "dmesg": "echo what the kernel said",
            "reboot": ":",
            "switch_root": ":",
            "blkid": self.finds_slot(),
            **self.plays,
        }
        for path in (*OF_THEMSELVES, *(f"played/{name}" for name in (*OF_BUSYBOX, "switch_root"))):
            name = path.rpartition("/")[2]
            program = self.root / path
            body = played.get(name, ":")
            if body != "missing":
                program.write_text(f'#!/bin/sh\necho "{name} $*" >>/calls\n{body}\n')
                program.chmod(0o755)

    def finds_slot(self) -> str:
        """A blkid that finds the slot, and what else a test has put somewhere."""
        return self.finds({3: SLOT.data_uuid, 4: SLOT.verity_uuid})

    def finds(self, slot: Mapping[int, UUID]) -> str:
        """A blkid that finds these partitions of our disk, `elsewhere`, and the labels of those it is given."""
        uuids = {self.device(number): uuid for number, uuid in slot.items()} | self.elsewhere
        # The slot that is opened is asked for first.
        probed = "".join(f'{self.device(number)}: PART_ENTRY_TYPE="{KINDS[number]}"\n' for number in (3, 4, *KINDS))
        found = "".join(f'{device}: PARTUUID="{uuid}"\n' for device, uuid in uuids.items())
        lines = "".join(f'{self.device(number)}: PARTLABEL="{label}"\n' for number, label in self.labels.items())
        answers = {"-s PART_ENTRY_TYPE": probed, "-s PARTUUID": found, "-s PARTLABEL": lines}
        cases = "".join(f"*'{asked}'*) printf %s '{answer}' ;;\n" for asked, answer in answers.items())
        return f'case "$*" in\n{cases}*) exit 2 ;;\nesac'

    def write_init(self) -> None:
        text = (FILES / "init").read_text()
        edits = {
            # Nobody reads this screen.
            "\n    sleep 5\n": "\n    sleep 0\n",
            # `exec` starts no function.
            "exec switch_root ": "exec /played/switch_root ",
        }
        for old, new in edits.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        text = self.limited(text)
        for path in (self.root / "usr/lib/twinhull").glob("*.sh"):
            path.write_text(self.limited(path.read_text()))
        first, _, rest = text.partition("\n")
        functions = "".join(
            f'{name}() {{ /played/{name} "$@" && return 0; set -- $?; [ $1 -ne {CUT} ] || exit; return $1; }}\n'
            for name in OF_BUSYBOX
        )
        (self.root / "init").write_text(f"{first}\n{functions}{rest}")
        (self.root / "init").chmod(0o755)

    def limited(self, text: str) -> str:
        """A script with the limits that a test wants."""
        for name, usual in limits_of(text).items():
            text = text.replace(f"\n{name}={usual}\n", f"\n{name}={self.limits.get(name, usual)}\n")
        return text

    def boot(self, cmdline: str = f"quiet roothash={ROOT_HASH} ro") -> None:
        self.make(cmdline)
        self.write_programs()
        self.limits = {"DISK_LIMIT_S": 1, "DRIVER_LIMIT_S": 0, "LIMIT_S": 600, **self.limits}
        self.write_init()
        words: list[str | Path] = ["chroot", self.root, "/init"]
        if self.watchdog:
            place = self.root / "dev/watchdog0"
            place.touch()
            # In a session of its own, for one device is there only in sessions with a terminal.
            script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
            words = ["setsid", "--wait", "sh", "-c", script, "sh", self.watchdog, place, *words]
        self.tools.run(words, Access(write=(self.root,)), timeout_s=_TIMEOUT_S, check=False)

    @property
    def calls(self) -> list[str]:
        """How the played programs were called, in order."""
        return (self.root / "calls").read_text().splitlines()

    def calls_of(self, name: str) -> list[str]:
        return [line.partition(" ")[2] for line in self.calls if line.partition(" ")[0] == name]

    @property
    def said(self) -> list[str]:
        """What went into the kernel's log."""
        return (self.root / "dev/kmsg").read_text().splitlines()

    @property
    def console(self) -> str:
        """What was written to the console last; each message replaces the one before, for it is a file here."""
        return (self.root / "dev/console").read_text()

    def text(self, path: str) -> str:
        return (self.root / path).read_text()


def limits_of(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in lines if name.endswith("LIMIT_S") and name.isupper()}
