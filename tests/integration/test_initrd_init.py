"""The initrd's first program, run by the busybox it has at a boot, in a root folder whose other programs are played.

The played programs write down how they are called and behave as a test wants.  Those that are names of busybox are put
in front of the script as functions, for busybox's shell takes its own before any file.  Nothing of the kernel is there:
what the script reads of `/proc`, `/sys` and `/dev` are plain files.
"""

from __future__ import annotations

import os
import shutil
import tty
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bedrock import strict
from imagebuild.definition.initrd import FILES
from imagebuild.inputs.tools import Access, ToolsTree
from partitions.layout import identity_of
from updater.provision.policy import Policy, Unsigned
from updater.provision.record import Record

ROOT_HASH = "0123456789abcdef00112233445566778899aabbccddeefffedcba9876543210"
SLOT = identity_of(ROOT_HASH)
DEAD_END = "twinhull: the initrd cannot go on, rebooting"
VERITYSETUP = "usr/lib/systemd/systemd-veritysetup"
OF_BUSYBOX = ("mount", "modprobe", "reboot", "dmesg")
OF_THEMSELVES = ("usr/sbin/blkid", "usr/bin/systemd-repart", "usr/sbin/e2fsck", "usr/sbin/resize2fs", VERITYSETUP)
# A reboot would end what hangs, so it ends with what is played for one, and at the latest after ten seconds.
HANGS = "left=100; until [ -e /rebooted ] || [ $left = 0 ]; do sleep 0.1; left=$((left - 1)); done; exit 8"
_TIMEOUT_S = 60


@dataclass
class Machine:
    """A root folder to boot in.

    Attributes:
        disk: The name of the disk that holds the slot.
        partition: What stands between that name and the number of a partition.
        plays: What a played program does after it wrote down its call, as a shell script, by its name.
        limits: Numbers of the script that a test wants otherwise, by name.
        policy: What the image says of credentials, as `dump_json` writes it.
        record: What the host recorded of its first boot.
        watchdog: A character device of this host that stands for the hardware's watchdog.
    """

    root: Path
    tools: ToolsTree
    disk: str = "vda"
    partition: str = ""
    plays: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    watchdog: Path | None = None
    policy: str | None = '{"unsigned": "always"}'
    record: str | None = None

    def device(self, number: int) -> str:
        return f"/dev/{self.disk}{self.partition}{number}"

    def make(self, cmdline: str) -> None:
        for name in ("usr/bin", "usr/sbin", "usr/lib/systemd", "played", "proc/self", "proc/sys/kernel", "dev", "sys"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name in ("run", "sysroot/var", "sysroot/etc", "sysroot/usr/lib/systemd"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for path, text in (
            ("sysroot/usr/lib/twinhull/provision.json", self.policy),
            ("sysroot/var/lib/twinhull/provision.json", self.record),
        ):
            if text is not None:
                (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                (self.root / path).write_text(text)
        shutil.copy(self.tools.root / "usr/bin/busybox", self.root / "usr/bin/busybox")
        (self.root / "bin").symlink_to("usr/bin")
        (self.root / "usr/bin/sh").symlink_to("busybox")
        # How busybox finds itself again.
        (self.root / "proc/self/exe").symlink_to("/usr/bin/busybox")
        (self.root / "proc/cmdline").write_text(cmdline + "\n")
        for name in ("proc/sys/kernel/printk_devkmsg", "dev/console", "dev/kmsg", "dev/null", "calls"):
            (self.root / name).touch()
        self.add_disk(self.disk, self.partition)
        self.add_device("pci", "0000:00:04.0", "pci:v00001AF4d00001042")

    def add_disk(self, disk: str, partition: str = "") -> None:
        place = self.root / "sys/devices/pci0000:00" / disk
        links = self.root / "sys/class/block"
        links.mkdir(parents=True, exist_ok=True)
        (links / disk).symlink_to(f"../../devices/pci0000:00/{disk}")
        for number in range(1, 8):
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
            "dmesg": "echo what the kernel said",
            "reboot": ":",
            "switch_root": ":",
            "blkid": self.finds({3: f"PARTUUID={SLOT.data_uuid}", 4: f"PARTUUID={SLOT.verity_uuid}"}),
            **self.plays,
        }
        for path in (*OF_THEMSELVES, *(f"played/{name}" for name in (*OF_BUSYBOX, "switch_root"))):
            name = path.rpartition("/")[2]
            program = self.root / path
            body = played.get(name, ":")
            if body != "missing":
                program.write_text(f'#!/bin/sh\necho "{name} $*" >>/calls\n{body}\n')
                program.chmod(0o755)

    def finds(self, tags: Mapping[int, str]) -> str:
        """A blkid that finds partitions by these tags, and the one of `/var` among the partitions it is given."""
        cases = "".join(f"*{tag}) echo {self.device(number)} ;;\n" for number, tag in tags.items())
        return f'case "$*" in\n{cases}*"PARTLABEL=var "*) echo {self.device(7)} ;;\n*) exit 2 ;;\nesac'

    def write_init(self) -> None:
        text = (FILES / "init").read_text()
        edits = {
            # Nobody reads this screen.
            "\n    sleep 5\n": "\n    sleep 0\n",
            # `exec` starts no function.
            "exec switch_root ": "exec /played/switch_root ",
            **{f"\n{name}={usual}\n": f"\n{name}={self.limits[name]}\n" for name, usual in limits_of(text).items()},
        }
        for old, new in edits.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        first, _, rest = text.partition("\n")
        functions = "".join(f'{name}() {{ /played/{name} "$@"; }}\n' for name in OF_BUSYBOX)
        (self.root / "init").write_text(f"{first}\n{functions}{rest}")
        (self.root / "init").chmod(0o755)

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


@pytest.fixture
def machine(tmp_path: Path, tools: ToolsTree) -> Machine:
    return Machine(tmp_path / "root", tools)


def assert_dead_end(machine: Machine) -> None:
    """It rebooted at once, said so last, and never handed over."""
    assert machine.calls[-2:] == ["dmesg ", "reboot -f"]
    assert machine.calls.count("reboot -f") == 1
    assert machine.console == f"{DEAD_END}\n"
    assert machine.calls_of("switch_root") == [] or "switch_root" in machine.plays


@pytest.mark.parametrize(("disk", "partition"), [("vda", ""), ("nvme0n1", "p")])
def test_a_good_boot_does_each_thing_once_and_in_order(machine: Machine, disk: str, partition: str) -> None:
    machine.disk, machine.partition = disk, partition
    machine.boot()
    data, tree, var = (machine.device(number) for number in (3, 4, 7))
    partitions = " ".join(machine.device(number) for number in range(1, 8))
    layers = "/sysroot/var/lib/twinhull/etc"
    changes = f"upperdir={layers}/upper,workdir={layers}/work"
    assert machine.calls == [
        "mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev",
        "mount -t proc -o nosuid,nodev,noexec proc /proc",
        "mount -t sysfs -o nosuid,nodev,noexec sysfs /sys",
        "mount -t tmpfs -o nosuid,nodev,noexec,mode=0755,size=20%,nr_inodes=800k tmpfs /run",
        "mount -t tmpfs -o nosuid,nodev,noexec,mode=1777 tmpfs /dev/shm",
        "modprobe -a -q sha256_ssse3 crc32c_intel",
        "modprobe -a dm_verity erofs ext4 overlay",
        "modprobe -a -b -q pci:v00001AF4d00001042",
        f"blkid -c /dev/null -l -o device -t PARTUUID={SLOT.data_uuid}",
        f"blkid -c /dev/null -l -o device -t PARTUUID={SLOT.verity_uuid}",
        f"systemd-veritysetup attach root {data} {tree} {ROOT_HASH}",
        "mount -t erofs -o ro,nosuid,nodev /dev/mapper/root /sysroot",
        f"systemd-repart --dry-run=no --pretty=no --definitions=/sysroot/usr/lib/repart.d /dev/{disk}",
        *(call for call in machine.calls if "PARTLABEL=var" in call),
        f"e2fsck -p {var}",
        f"mount -t ext4 -o nodev,nosuid {var} /sysroot/var",
        f"resize2fs {var}",
        f"mount -t overlay -o nosuid,nodev,lowerdir=/sysroot/etc,{changes} overlay /sysroot/etc",
        *(f"mount -o move /{name} /sysroot/{name}" for name in ("dev", "proc", "run", "sys")),
        "switch_root -c /dev/console /sysroot /usr/lib/systemd/systemd",
    ]
    (asked,) = (call for call in machine.calls if "PARTLABEL=var" in call)
    assert asked.endswith(f"-t PARTLABEL=var {partitions}")
    assert (machine.root / "sysroot/var/lib/twinhull/etc/work").is_dir()
    assert machine.said == []
    assert machine.console == ""
    assert machine.text("proc/sys/kernel/printk_devkmsg") == "ratelimit\n"


def mount_options(machine: Machine) -> dict[str, str]:
    """The options of each mount, by its place."""
    calls = (words.split() for words in machine.calls_of("mount") if words.startswith("-t "))
    return {words[-1]: words[3] for words in calls}


def test_an_image_with_setuid_programs_has_a_root_that_honours_them(machine: Machine) -> None:
    machine.boot(f"twinhull.mounts=setuid roothash={ROOT_HASH}")
    options = mount_options(machine)
    assert options["/sysroot"] == "ro,nodev"
    assert options["/sysroot/etc"].startswith("nosuid,nodev,lowerdir=")
    assert options["/dev/shm"] == "nosuid,nodev,noexec,mode=1777"  # noqa: S108 - the guest's


def test_mounts_are_as_systemd_makes_them_where_the_image_says_so(machine: Machine) -> None:
    machine.boot(f"roothash={ROOT_HASH} twinhull.mounts=plain")
    options = mount_options(machine)
    assert options["/sysroot"] == "ro"
    assert options["/sysroot/etc"].startswith("lowerdir=")
    assert options["/run"].startswith("nosuid,nodev,mode=")
    assert options["/dev/shm"] == "nosuid,nodev,mode=1777"  # noqa: S108 - the guest's
    assert options["/sysroot/var"] == "nodev,nosuid"


@pytest.mark.parametrize("before", [None, "", "ab" * 32], ids=["first boot", "spoiled record", "another image"])
def test_another_image_than_at_the_last_boot_is_updated_to_once(machine: Machine, before: str | None) -> None:
    record = machine.root / "sysroot/var/lib/twinhull/booted-image"
    marks = [machine.root / f"sysroot/{name}/.updated" for name in ("etc", "var")]
    record.parent.mkdir(parents=True)
    if before is not None:
        record.write_text(before)
    for mark in marks:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    machine.boot()
    assert not any(mark.exists() for mark in marks)
    assert record.read_text() == f"{ROOT_HASH}\n"
    assert "switch_root" in machine.calls[-1]


def test_the_same_image_is_not_updated_to_again(machine: Machine) -> None:
    record = machine.root / "sysroot/var/lib/twinhull/booted-image"
    record.parent.mkdir(parents=True)
    record.write_text(f"{ROOT_HASH}\n")
    marks = [machine.root / f"sysroot/{name}/.updated" for name in ("etc", "var")]
    for mark in marks:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    machine.boot()
    assert all(mark.exists() for mark in marks)


def test_a_var_that_takes_no_record_does_not_stop_a_boot(machine: Machine) -> None:
    (machine.root / "sysroot/var/lib/twinhull/booted-image").mkdir(parents=True)
    machine.boot()
    assert "twinhull: which image was booted could not be recorded" in machine.said
    assert "switch_root" in machine.calls[-1]


def test_partitions_are_named_by_the_halves_of_the_root_hash(machine: Machine) -> None:
    machine.boot()
    asked = [words.rpartition("PARTUUID=")[2] for words in machine.calls_of("blkid") if "PARTUUID" in words]
    assert asked == ["01234567-89ab-cdef-0011-223344556677", "8899aabb-ccdd-eeff-fedc-ba9876543210"]


def test_another_disk_with_the_same_labels_is_left_alone(machine: Machine) -> None:
    machine.add_disk("sda")
    machine.boot()
    touched = [call for call in machine.calls if "/dev/sda" in call]
    assert touched == []


def test_the_device_mapper_makes_its_own_nodes(machine: Machine) -> None:
    machine.plays["systemd-veritysetup"] = 'echo "$DM_DISABLE_UDEV" >/seen'
    machine.boot()
    assert machine.text("seen") == "1\n"


def test_the_last_root_hash_of_the_command_line_counts(machine: Machine) -> None:
    machine.boot(f"roothash={'ab' * 32} quiet roothash={ROOT_HASH}")
    assert machine.calls_of("systemd-veritysetup")[0].endswith(ROOT_HASH)
    assert "switch_root" in machine.calls[-1]


def test_drivers_are_loaded_for_devices_that_a_driver_brought(machine: Machine) -> None:
    machine.plays["modprobe"] = """
case "$*" in
*"pci:v00001AF4d00001042 virtio:d00000002v00001AF4") touch /disk ;;
*pci:v00001AF4d00001042)
    mkdir -p /sys/bus/virtio/devices/virtio0
    echo virtio:d00000002v00001AF4 >/sys/bus/virtio/devices/virtio0/modalias ;;
esac"""
    found = machine.finds({3: f"PARTUUID={SLOT.data_uuid}", 4: f"PARTUUID={SLOT.verity_uuid}"})
    machine.plays["blkid"] = f"[ -e /disk ] || exit 2\n{found}"
    machine.boot()
    assert machine.calls_of("modprobe")[2:] == [
        "-a -b -q pci:v00001AF4d00001042",
        "-a -b -q pci:v00001AF4d00001042 virtio:d00000002v00001AF4",
    ]
    assert "switch_root" in machine.calls[-1]


def test_devices_without_a_driver_are_no_reason_to_stop(machine: Machine) -> None:
    machine.plays["modprobe"] = 'case "$*" in *dm_verity*) ;; *) exit 1 ;; esac'
    machine.boot()
    assert "switch_root" in machine.calls[-1]


@pytest.mark.parametrize("code", [0, 1])
def test_a_var_that_was_right_or_was_repaired_is_used(machine: Machine, code: int) -> None:
    machine.plays["e2fsck"] = f"exit {code}"
    machine.boot()
    assert f"-t ext4 -o nodev,nosuid {machine.device(7)} /sysroot/var" in machine.calls_of("mount")
    assert "switch_root" in machine.calls[-1]


def test_a_var_that_cannot_grow_is_told_and_used(machine: Machine) -> None:
    machine.plays["resize2fs"] = "exit 1"
    machine.boot()
    assert "twinhull: /var could not be grown" in machine.said
    assert "switch_root" in machine.calls[-1]


@pytest.mark.parametrize("cmdline", ["", "quiet ro", "roothash=", "roothash=abc", f"roothash={ROOT_HASH}0"])
def test_a_command_line_without_a_root_hash_is_a_dead_end(machine: Machine, cmdline: str) -> None:
    machine.boot(cmdline)
    assert_dead_end(machine)
    assert machine.said[0] == "twinhull: the command line names no root hash"
    assert machine.calls_of("blkid") == []


@pytest.mark.parametrize("found", [(), (3,), (4,)], ids=["neither", "no tree", "no data"])
def test_a_slot_that_no_disk_holds_is_a_dead_end_once_the_limit_is_over(
    machine: Machine, found: tuple[int, ...]
) -> None:
    tags = {3: f"PARTUUID={SLOT.data_uuid}", 4: f"PARTUUID={SLOT.verity_uuid}"}
    machine.plays["blkid"] = machine.finds({number: tags[number] for number in found})
    machine.boot()
    assert_dead_end(machine)
    assert machine.said[0] == f"twinhull: no disk holds the slot of root hash {ROOT_HASH}"
    # Ten times a second, and once more.
    assert sum(str(SLOT.data_uuid) in words for words in machine.calls_of("blkid")) == 11


def test_a_disk_that_does_not_come_names_the_controllers_that_have_no_driver(machine: Machine) -> None:
    machine.add_controller("0000:01:00.0", "0x010400", driven=False)
    machine.add_controller("0000:02:00.0", "0x010802", driven=True)
    machine.add_controller("0000:03:00.0", "0x0c0330", driven=False)
    machine.add_controller("0000:04:00.0", "0x020000", driven=False)
    machine.plays["blkid"] = "exit 2"
    machine.boot()
    assert_dead_end(machine)
    assert machine.said[:4] == [
        "twinhull: no driver for the controller 0000:01:00.0, 0x1000:0x005b of class 0x010400",
        "twinhull: no driver for the controller 0000:03:00.0, 0x1000:0x005b of class 0x0c0330",
        "twinhull: set drivers: server (or all) and kernel: linux-image-amd64 in image.yaml",
        f"twinhull: no disk holds the slot of root hash {ROOT_HASH}",
    ]


def test_a_disk_that_is_found_at_once_is_no_reason_to_speak_of_drivers(machine: Machine) -> None:
    machine.add_controller("0000:01:00.0", "0x010400", driven=False)
    machine.boot()
    assert machine.said == []


@pytest.mark.parametrize(
    ("program", "play", "last"),
    [
        ("modprobe", 'case "$*" in *dm_verity*) exit 1 ;; esac', "modprobe -a dm_verity erofs ext4 overlay"),
        ("systemd-veritysetup", "exit 1", "systemd-veritysetup attach"),
        ("systemd-veritysetup", "missing", "blkid"),
        ("systemd-repart", "exit 1", "systemd-repart --dry-run=no"),
        ("e2fsck", "exit 2", "e2fsck -p"),
        ("e2fsck", "exit 4", "e2fsck -p"),
        ("e2fsck", "exit 8", "e2fsck -p"),
        ("e2fsck", "missing", "blkid"),
        ("switch_root", "missing", "mount -o move /sys /sysroot/sys"),
    ],
    ids=lambda value: value.replace('case "$*" in *dm_verity*) exit 1 ;; esac', "fails")[:20],
)
def test_a_program_that_fails_or_is_missing_is_a_dead_end(machine: Machine, program: str, play: str, last: str) -> None:
    machine.plays[program] = play
    machine.boot()
    assert_dead_end(machine)
    assert machine.calls[-3].startswith(last)


@pytest.mark.parametrize(
    "mounted",
    [
        "-t devtmpfs",
        "-t proc",
        "-t sysfs",
        "-t tmpfs",
        "-t erofs",
        "-t ext4",
        "-t overlay",
        "-o move /dev",
        "-o move /sys",
    ],
)
def test_a_mount_that_fails_is_a_dead_end(machine: Machine, mounted: str) -> None:
    machine.plays["mount"] = f'case "$*" in "{mounted} "*) exit 32 ;; esac'
    machine.boot()
    assert_dead_end(machine)
    assert machine.calls[-3].startswith(f"mount {mounted} ")


def test_no_var_on_the_disk_is_a_dead_end(machine: Machine) -> None:
    slot = machine.finds({3: f"PARTUUID={SLOT.data_uuid}", 4: f"PARTUUID={SLOT.verity_uuid}"})
    machine.plays["blkid"] = slot.replace("PARTLABEL=var", "PARTLABEL=other")
    machine.boot()
    assert_dead_end(machine)
    assert machine.calls_of("e2fsck") == []


def test_layers_that_cannot_be_made_are_a_dead_end(machine: Machine) -> None:
    machine.plays["mount"] = 'case "$*" in *ext4*) echo >/sysroot/var/lib ;; esac'
    machine.boot()
    assert_dead_end(machine)


def test_what_failed_is_in_the_kernels_log(machine: Machine) -> None:
    machine.plays["systemd-veritysetup"] = "echo the root hash is wrong >&2; exit 1"
    machine.boot()
    assert machine.said == ["the root hash is wrong", DEAD_END]


@pytest.mark.parametrize("program", ["systemd-repart", "e2fsck", "systemd-veritysetup"])
def test_a_program_that_never_ends_is_ended_by_a_reboot(machine: Machine, program: str) -> None:
    machine.limits["LIMIT_S"] = 2
    machine.plays[program] = HANGS
    machine.plays["reboot"] = "touch /rebooted"
    machine.boot()
    assert "twinhull: the initrd takes longer than 2 s" in machine.said
    assert machine.calls_of("reboot")[0] == "-f"
    assert machine.calls_of("switch_root") == []


def test_the_guard_ends_with_the_initrd(machine: Machine) -> None:
    machine.limits["LIMIT_S"] = 5
    machine.plays["switch_root"] = "sleep 7"
    machine.boot()
    assert machine.calls_of("reboot") == []
    assert machine.said == []


def test_a_watchdog_is_fed_as_long_as_the_initrd_works(machine: Machine) -> None:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    try:
        machine.watchdog = Path(os.ttyname(theirs))
        machine.plays["e2fsck"] = "sleep 2.5"
        machine.boot()
        fed = os.read(ours, 100)
    finally:
        os.close(ours)
        os.close(theirs)
    # Nothing else may be written: a letter V would switch it off before systemd takes it over.
    assert set(fed) == {ord("\n")}
    assert len(fed) >= 2
    assert "switch_root" in machine.calls[-1]


def test_a_watchdog_that_cannot_be_opened_costs_no_boot(machine: Machine) -> None:
    machine.watchdog = Path("/dev/tty")
    machine.plays["e2fsck"] = "sleep 1.5"
    machine.boot()
    assert "switch_root" in machine.calls[-1]
    assert machine.calls_of("reboot") == []


def test_a_hang_is_ended_where_the_watchdog_cannot_be_opened(machine: Machine) -> None:
    machine.watchdog = Path("/dev/tty")
    machine.limits["LIMIT_S"] = 2
    machine.plays["e2fsck"] = HANGS
    machine.plays["reboot"] = "touch /rebooted"
    machine.boot()
    assert "twinhull: the initrd takes longer than 2 s" in machine.said


# systemd itself takes what systemd-stub found only in an initrd of its own; here the agent judges it later.
KEPT = "run/twinhull/boot-credentials"


def with_credentials(machine: Machine, **found: dict[str, str]) -> None:
    for folder, files in found.items():
        place = machine.root / ".extra" / folder
        place.mkdir(parents=True)
        for name, text in files.items():
            (place / name).write_text(text)


def test_credentials_from_beside_the_kernel_are_kept_where_nobody_else_can_read_them(machine: Machine) -> None:
    with_credentials(machine, credentials={"one.cred": "1", "note.txt": "?"}, global_credentials={"two.cred": "2"})
    machine.boot()
    kept = machine.root / KEPT
    assert sorted(path.read_text() for path in kept.iterdir()) == ["1", "2"]
    assert kept.stat().st_mode & 0o777 == 0o700
    assert "switch_root" in machine.calls[-1]


def test_without_credentials_there_is_no_folder_for_them(machine: Machine) -> None:
    machine.boot()
    assert [path.name for path in (machine.root / "run").iterdir()] == ["systemd"]


def test_what_systemd_keeps_at_run_time_is_open_to_all(machine: Machine) -> None:
    machine.boot()
    assert (machine.root / "run/systemd").stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_of_credentials_is_no_reason_to_stop(machine: Machine) -> None:
    with_credentials(machine, credentials={}, global_credentials={"two.cred": "2"})
    machine.boot()
    assert "switch_root" in machine.calls[-1]


def test_credentials_go_by_their_name_without_the_ending(machine: Machine) -> None:
    # systemd's import-creds.c, import_credentials_boot(): ".cred" is for the ESP, and not part of the name.
    with_credentials(machine, credentials={"twinhull.updater.cred": "1"})
    machine.boot()
    assert [path.name for path in (machine.root / KEPT).iterdir()] == ["twinhull.updater"]


def test_a_credential_of_this_kernel_goes_before_one_of_all_kernels(machine: Machine) -> None:
    with_credentials(machine, credentials={"one.cred": "its own"}, global_credentials={"one.cred": "of all"})
    machine.boot()
    assert [path.read_text() for path in (machine.root / KEPT).iterdir()] == ["its own"]


# With this variable set, systemd imports nothing from the firmware (import-creds.c, import_credentials()).
CLOSED = "/run/credentials/@system"
FIRST_BOOT = strict.dump_json(Policy(unsigned=Unsigned.FIRST_BOOT)).decode()
OVER = strict.dump_json(Record(first_boot_over=True)).decode()
NOT_OVER = strict.dump_json(Record(first_boot_over=False)).decode()


@pytest.mark.parametrize(
    ("policy", "record", "told"),
    [
        (strict.dump_json(Policy(unsigned=Unsigned.ALWAYS)).decode(), OVER, ""),
        (strict.dump_json(Policy(unsigned=Unsigned.NEVER)).decode(), None, CLOSED),
        (FIRST_BOOT, None, ""),
        (FIRST_BOOT, NOT_OVER, ""),
        (FIRST_BOOT, OVER, CLOSED),
        (FIRST_BOOT, "{ torn", CLOSED),
        (FIRST_BOOT, "", CLOSED),
        (None, None, CLOSED),
        ("{}", NOT_OVER, CLOSED),
    ],
)
def test_systemd_takes_credentials_of_the_firmware_only_by_the_image_s_policy(
    machine: Machine, policy: str | None, record: str | None, told: str
) -> None:
    machine.policy, machine.record = policy, record
    machine.plays["switch_root"] = 'echo "$CREDENTIALS_DIRECTORY" >/told'
    machine.boot()
    assert machine.text("told").strip() == told
    assert (machine.root / "run/credentials/@system").is_dir() is bool(told)
