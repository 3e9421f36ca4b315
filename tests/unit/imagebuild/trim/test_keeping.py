"""What is kept whatever no test has touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.definition.image import Trim
from imagebuild.trim.keeping import KEEP_FILE, KeepFile, KeepList, load_keep_list

KEPT_PATHS = (
    "/etc/passwd",
    "/usr/lib/twinhull/updater/agent/boot_partition.py",
    "/usr/lib/systemd/systemd-shutdown",
    "/usr/lib/systemd/system/emergency.service",
    "/usr/sbin/e2fsck",
    "/usr/sbin/resize2fs",
    "/usr/sbin/fsck.fat",
    "/usr/bin/mount",
    "/usr/sbin/blkid",
    "/usr/bin/dmesg",
    "/usr/bin/journalctl",
    "/usr/bin/systemctl",
    "/usr/sbin/reboot",
    "/usr/share/zoneinfo/UTC",
    "/usr/share/ca-certificates/mozilla/x.crt",
    "/usr/lib/x86_64-linux-gnu/libnss_resolve.so.2",
    "/usr/lib/firmware/x.bin",
    "/usr/lib/x86_64-linux-gnu/security/pam_unix.so",
    "/usr/lib/locale/C.utf8/LC_CTYPE",
    "/usr/lib/modules/6.12/modules.dep",
    "/usr/lib64/ld-linux-x86-64.so.2",
    "/usr/lib/podman/netavark",
)
KEPT_MODULES = (
    "drivers/nvme/host/nvme.ko",
    "drivers/ata/ahci.ko",
    "drivers/scsi/megaraid/megaraid_sas.ko",
    "drivers/scsi/mpt3sas/mpt3sas.ko",
    "drivers/scsi/aacraid/aacraid.ko",
    "drivers/scsi/hpsa.ko",
    "drivers/scsi/smartpqi/smartpqi.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/block/xen-blkfront.ko",
    "drivers/scsi/hv_storvsc.ko",
    "drivers/md/dm-crypt.ko",
    "drivers/md/raid1.ko",
    "drivers/net/ethernet/intel/e1000e/e1000e.ko",
    "drivers/net/ethernet/intel/ice/ice.ko",
    "drivers/net/virtio_net.ko",
    "drivers/net/ethernet/mellanox/mlx5/core/mlx5_core.ko",
    "drivers/net/ethernet/amazon/ena/ena.ko",
    "drivers/net/ethernet/google/gve/gve.ko",
    "drivers/net/vmxnet3/vmxnet3.ko",
    "drivers/net/hyperv/hv_netvsc.ko",
    "drivers/net/ethernet/broadcom/tg3.ko",
    "drivers/net/ethernet/realtek/r8169.ko",
    "drivers/net/bonding/bonding.ko",
    "drivers/net/wireguard/wireguard.ko",
    "drivers/net/xen-netfront.ko",
    "net/8021q/8021q.ko",
    "net/bridge/bridge.ko",
    "net/netfilter/nf_tables.ko",
    "net/ipv4/netfilter/ip_tables.ko",
    "fs/ext4/ext4.ko",
    "fs/xfs/xfs.ko",
    "fs/nfs/nfs.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/watchdog/i6300esb.ko",
    "crypto/xts.ko",
)


@pytest.mark.parametrize("path", KEPT_PATHS)
def test_what_a_bad_day_needs_is_kept(path: str) -> None:
    assert load_keep_list().keeps(path)


@pytest.mark.parametrize("place", KEPT_MODULES)
def test_drivers_of_real_machines_are_kept(place: str) -> None:
    assert load_keep_list().keeps_module(place)


@pytest.mark.parametrize("path", ["/usr/bin/wdctl", "/usr/share/doc/x", "/usr/lib/x86_64-linux-gnu/libfoo.so.1"])
def test_what_nobody_names_is_not(path: str) -> None:
    assert not load_keep_list().keeps(path)


def test_every_section_says_why() -> None:
    sections = strict.load_yaml(KeepFile, KEEP_FILE).sections
    assert all(section.why and (section.paths or section.modules) for section in sections)
    assert len({section.name for section in sections}) == len(sections)


@pytest.mark.parametrize("name", ["dm-verity", "dm_verity", "erofs", "i6300esb", "sha256-ssse3"])
def test_the_modules_of_the_initrd_are_kept_by_name_in_both_spellings(name: str) -> None:
    assert load_keep_list().keeps_module(f"somewhere/else/{name}.ko")


def test_a_module_of_another_name_is_not() -> None:
    keep = KeepList(module_names=load_keep_list().module_names)
    assert not keep.keeps_module("somewhere/else/dm-crypt.ko")


def test_the_definition_keeps_its_own() -> None:
    own = KeepList().with_own(Trim(keep=("/usr/bin/less",), keep_modules=("drivers/isdn/",)))
    assert own.keeps("/usr/bin/less")
    assert own.keeps_module("drivers/isdn/core.ko")
    assert not KeepList().keeps("/usr/bin/less")


def test_errors_in_the_list_are_told_all_at_once(tmp_path: Path) -> None:
    wrong = tmp_path / "keep.yaml"
    wrong.write_text("sections:\n- {name: x, why: y, paths: [usr, '/a b'], modules: [nvme]}\n- {name: z}\n")
    with pytest.raises(DocumentError) as caught:
        load_keep_list(wrong)
    assert [problem.path for problem in caught.value.problems] == [
        "sections[0].paths[0]",
        "sections[0].paths[1]",
        "sections[0].modules[0]",
        "sections[1].why",
    ]
