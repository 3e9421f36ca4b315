"""Boots that go well: what the initrd's first program does, in which order, and what it does not mind."""

from __future__ import annotations

import pytest

from tests.fakes.played_initrd import ROOT_HASH, STATE, VAR, PlayedInitrd


@pytest.mark.parametrize(("disk", "partition"), [("vda", ""), ("nvme0n1", "p")])
def test_a_good_boot_does_each_thing_once_and_in_order(machine: PlayedInitrd, disk: str, partition: str) -> None:
    machine.disk, machine.partition = disk, partition
    machine.boot()
    data, tree, state, var = (machine.device(number) for number in (3, 4, STATE, VAR))
    partitions = " ".join(machine.device(number) for number in range(1, 9))
    layers = "/sysroot/var/lib/twinhull/etc"
    changes = f"lowerdir=/sysroot/etc,upperdir={layers}/upper,workdir={layers}/work"
    assert machine.calls == [
        "mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev",
        "mount -t proc -o nosuid,nodev,noexec proc /proc",
        "mount -t sysfs -o nosuid,nodev,noexec sysfs /sys",
        "mount -t tmpfs -o nosuid,nodev,noexec,mode=0755,size=20%,nr_inodes=800k tmpfs /run",
        "mount -t tmpfs -o nosuid,nodev,noexec,mode=1777 tmpfs /dev/shm",
        "modprobe -a -q sha256_ssse3 crc32c_intel",
        "modprobe -a dm_verity erofs ext4 overlay",
        "modprobe -a -b -q pci:v00001AF4d00001042",
        "blkid -c /dev/null -s PARTUUID",
        f"systemd-veritysetup attach root {data} {tree} {ROOT_HASH}",
        "mount -t erofs -o ro,nosuid,nodev /dev/mapper/root /sysroot",
        "modprobe -q softdog",
        f"blkid -p -s PART_ENTRY_TYPE {data} {tree} {partitions}",
        *(f"blockdev --setro {machine.device(number)}" for number in (3, 4, 3, 4, 5, 6)),
        f"blkid -c /dev/null -s PARTLABEL {partitions}",
        f"systemd-repart --dry-run=no --pretty=no --seed=random --definitions=/sysroot/usr/lib/repart.d /dev/{disk}",
        f"e2fsck -p {var}",
        f"mount -t ext4 -o nodev,nosuid {var} /sysroot/var",
        "systemd-growfs /sysroot/var",
        f"e2fsck -p {state}",
        f"mount -t ext4 -o nodev,nosuid {state} /sysroot/var/lib/twinhull",
        "sync ",
        f"mount -t overlay -o nosuid,nodev,redirect_dir=nofollow,metacopy=off,{changes} overlay /sysroot/etc",
        *(f"mount -o move /{name} /sysroot/{name}" for name in ("dev", "proc", "run", "sys")),
        "switch_root -c /dev/console /sysroot /usr/lib/systemd/systemd",
    ]
    assert (machine.root / "sysroot/var/lib/twinhull/etc/work").is_dir()
    assert machine.said == []
    assert machine.console == ""
    assert machine.text("proc/sys/kernel/printk_devkmsg") == "ratelimit\n"


def mount_options(machine: PlayedInitrd) -> dict[str, str]:
    """The options of each mount, by its place."""
    calls = (words.split() for words in machine.calls_of("mount") if words.startswith("-t "))
    return {words[-1]: words[3] for words in calls}


def test_an_image_with_setuid_programs_has_a_root_that_honours_them(machine: PlayedInitrd) -> None:
    machine.boot(f"twinhull.mounts=setuid roothash={ROOT_HASH}")
    options = mount_options(machine)
    assert options["/sysroot"] == "ro,nodev"
    assert options["/sysroot/etc"].startswith("nosuid,nodev,redirect_dir=")
    assert options["/dev/shm"] == "nosuid,nodev,noexec,mode=1777"  # noqa: S108 - the guest's


def test_mounts_are_as_systemd_makes_them_where_the_image_says_so(machine: PlayedInitrd) -> None:
    machine.boot(f"roothash={ROOT_HASH} twinhull.mounts=plain")
    options = mount_options(machine)
    assert options["/sysroot"] == "ro"
    assert options["/sysroot/etc"].startswith("redirect_dir=")
    assert options["/run"].startswith("nosuid,nodev,mode=")
    assert options["/dev/shm"] == "nosuid,nodev,mode=1777"  # noqa: S108 - the guest's
    assert options["/sysroot/var"] == "nodev,nosuid"


@pytest.mark.parametrize("before", [None, "", "ab" * 32], ids=["first boot", "spoiled record", "another image"])
def test_another_image_than_at_the_last_boot_is_updated_to_once(machine: PlayedInitrd, before: str | None) -> None:
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


def test_the_same_image_is_not_updated_to_again(machine: PlayedInitrd) -> None:
    record = machine.root / "sysroot/var/lib/twinhull/booted-image"
    record.parent.mkdir(parents=True)
    record.write_text(f"{ROOT_HASH}\n")
    marks = [machine.root / f"sysroot/{name}/.updated" for name in ("etc", "var")]
    for mark in marks:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    machine.boot()
    assert all(mark.exists() for mark in marks)


def test_a_record_that_is_a_link_leads_nowhere(machine: PlayedInitrd) -> None:
    record = machine.root / "sysroot/var/lib/twinhull/booted-image"
    record.parent.mkdir(parents=True)
    record.symlink_to("/elsewhere")
    machine.boot()
    assert record.read_text() == f"{ROOT_HASH}\n"
    assert not record.is_symlink()
    assert not (machine.root / "elsewhere").exists()


def test_a_var_that_takes_no_record_does_not_stop_a_boot(machine: PlayedInitrd) -> None:
    (machine.root / "sysroot/var/lib/twinhull/booted-image").mkdir(parents=True)
    machine.boot()
    assert "twinhull: which image was booted could not be recorded" in machine.said
    assert "switch_root" in machine.calls[-1]


def test_another_disk_with_the_same_labels_is_left_alone(machine: PlayedInitrd) -> None:
    machine.add_disk("sda")
    machine.boot()
    touched = [call for call in machine.calls if "/dev/sda" in call]
    assert touched == []


def test_the_device_mapper_makes_its_own_nodes(machine: PlayedInitrd) -> None:
    machine.plays["systemd-veritysetup"] = 'echo "$DM_DISABLE_UDEV" >/seen'
    machine.boot()
    assert machine.text("seen") == "1\n"


def test_words_after_the_end_of_the_images_own_line_have_no_effect(machine: PlayedInitrd) -> None:
    machine.boot(f"roothash={ROOT_HASH} quiet -- roothash={'ab' * 32} twinhull.mounts=plain *")
    assert machine.calls_of("systemd-veritysetup")[0].endswith(ROOT_HASH)
    assert mount_options(machine)["/sysroot"] == "ro,nosuid,nodev"
    foreign = f" roothash={'ab' * 32} twinhull.mounts=plain *"
    assert machine.said == [
        f"twinhull: these kernel arguments are not the image's and have no effect:{foreign}",
    ]
    assert machine.text("run/twinhull/foreign-arguments") == f"{foreign}\n"
    assert machine.text("run/twinhull/own-arguments") == f" roothash={ROOT_HASH} quiet\n"
    assert "mount -o bind /run/twinhull/own-arguments /proc/cmdline" in machine.calls
    assert "switch_root" in machine.calls[-1]


def test_a_line_that_nothing_was_added_to_is_left_as_it_is(machine: PlayedInitrd) -> None:
    machine.boot(f"roothash={ROOT_HASH} quiet --")
    assert machine.said == []
    assert not [call for call in machine.calls if "/proc/cmdline" in call]
    assert "switch_root" in machine.calls[-1]


def test_a_slot_of_which_nothing_can_be_found_out_does_not_stop_a_boot(machine: PlayedInitrd) -> None:
    machine.plays["blkid"] = 'case "$*" in -p*) exit 8 ;; esac\n' + machine.finds_slot()
    machine.boot()
    assert machine.calls_of("blockdev") == []
    assert "switch_root" in machine.calls[-1]


def test_a_partition_that_cannot_be_made_read_only_is_named(machine: PlayedInitrd) -> None:
    machine.plays["blockdev"] = 'case "$*" in *5) exit 1 ;; esac'
    machine.boot()
    assert machine.said == [f"twinhull: {machine.device(5)} could not be made read-only"]
    assert "switch_root" in machine.calls[-1]


def test_what_the_stub_found_of_signed_measurements_is_kept(machine: PlayedInitrd) -> None:
    (machine.root / ".extra").mkdir(parents=True)
    (machine.root / ".extra/tpm2-pcr-signature.json").write_text("{}")
    machine.boot()
    assert machine.text("run/systemd/tpm2-pcr-signature.json") == "{}"
    assert not (machine.root / "run/systemd/tpm2-pcr-public-key.pem").exists()


def test_drivers_are_loaded_for_devices_that_a_driver_brought(machine: PlayedInitrd) -> None:
    machine.plays["modprobe"] = """
case "$*" in
*"pci:v00001AF4d00001042 virtio:d00000002v00001AF4") touch /disk ;;
*pci:v00001AF4d00001042)
    mkdir -p /sys/bus/virtio/devices/virtio0
    echo virtio:d00000002v00001AF4 >/sys/bus/virtio/devices/virtio0/modalias ;;
esac"""
    found = machine.finds_slot()
    machine.plays["blkid"] = f"[ -e /disk ] || exit 2\n{found}"
    machine.boot()
    assert machine.calls_of("modprobe")[2:-1] == [
        "-a -b -q pci:v00001AF4d00001042",
        "-a -b -q pci:v00001AF4d00001042 virtio:d00000002v00001AF4",
    ]
    assert "switch_root" in machine.calls[-1]


def test_devices_without_a_driver_are_no_reason_to_stop(machine: PlayedInitrd) -> None:
    machine.plays["modprobe"] = 'case "$*" in *dm_verity*) ;; *) exit 1 ;; esac'
    machine.boot()
    assert "switch_root" in machine.calls[-1]
