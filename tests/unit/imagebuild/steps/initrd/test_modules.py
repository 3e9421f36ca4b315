"""Which kernel modules go into the initrd, by small indexes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imagebuild.definition.drivers import Disks, Drivers
from imagebuild.definition.initrd import InitrdContent, load_content
from imagebuild.errors import BuildError
from imagebuild.steps.initrd.modules import KernelModules, choose_modules, drivers_of, has_built_in, read_modules

DEP = """\
kernel/drivers/ata/ahci.ko: kernel/drivers/ata/libata.ko kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/ata/libata.ko: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/md/dm-verity.ko:
kernel/drivers/scsi/lpfc/lpfc.ko: kernel/drivers/scsi/scsi_transport_fc.ko kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/scsi/megaraid/megaraid_sas.ko: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/scsi/scsi_debug.ko: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/scsi/scsi_mod.ko:
kernel/drivers/scsi/scsi_transport_fc.ko: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/scsi/st.ko: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/watchdog/i6300esb.ko:
"""
ALIAS = """\
# Aliases extracted from modules themselves.
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v00001000d0000005Bsv*sd*bc*sc*i* megaraid-sas
alias pci:v000010DFd0000F100sv*sd*bc*sc*i* lpfc
alias scsi:t-0x01* st
alias pci:v00008086d000025ABsv*sd*bc*sc*i* i6300esb
"""
BUILT_IN = "kernel/fs/erofs/erofs.ko\nkernel/drivers/nvme/host/nvme.ko\n"
AHCI = Disks(Drivers.CLOUD, devices=("pci:v0000FFFEd0000FFFEsv0000FFFEsd0000FFFEbc01sc06i01",))
NVME = Disks(Drivers.CLOUD, devices=("pci:vXbc01sc08i02",), built_in=("drivers/nvme/host/nvme.ko",))
RAID = Disks(Drivers.SERVER, folders=("drivers/scsi/",), buses=("pci",), without=("scsi-transport-fc",))
FIBRE = Disks(Drivers.ALL, folders=("drivers/scsi/",), buses=("pci",))
USB = Disks(Drivers.SERVER, folders=("drivers/usb/storage/",), buses=("usb",))
CONTENT = InitrdContent(
    programs={},
    libraries=(),
    links={},
    applets=(),
    modules=("dm_verity", "erofs"),
    extras=("i6300esb", "virtio-rng"),
    disks={"AHCI": AHCI, "NVMe": NVME, "RAID": RAID, "USB": USB, "Fibre Channel": FIBRE},
)


@pytest.fixture
def kernel(tmp_path: Path) -> KernelModules:
    for name, text in (("dep", DEP), ("alias", ALIAS), ("builtin", BUILT_IN)):
        (tmp_path / f"modules.{name}").write_text(text)
    return read_modules(tmp_path)


def test_a_module_that_drives_a_device_of_the_class_is_found_by_no_name(kernel: KernelModules) -> None:
    assert drivers_of(kernel, AHCI) == {"ahci"}


def test_of_a_folder_only_what_drives_hardware_on_the_bus_is_taken(kernel: KernelModules) -> None:
    assert drivers_of(kernel, FIBRE) == {"megaraid_sas", "lpfc"}


def test_what_needs_a_transport_that_is_left_out_is_left_out(kernel: KernelModules) -> None:
    assert drivers_of(kernel, RAID) == {"megaraid_sas"}


def test_modules_of_a_folder_can_be_named_by_a_pattern(kernel: KernelModules) -> None:
    assert drivers_of(kernel, replace(FIBRE, folders=("drivers/scsi/*/lp*.ko",))) == {"lpfc"}


@pytest.mark.parametrize(
    ("drivers", "more"),
    [
        (Drivers.CLOUD, set()),
        (Drivers.SERVER, {"megaraid_sas"}),
        (Drivers.ALL, {"megaraid_sas", "lpfc", "scsi_transport_fc"}),
    ],
)
def test_each_set_holds_the_ones_before_it_and_all_that_they_need(
    kernel: KernelModules, drivers: Drivers, more: set[str]
) -> None:
    chosen = choose_modules(kernel, CONTENT, drivers).modules
    assert chosen == {"dm_verity", "i6300esb", "ahci", "libata", "scsi_mod"} | more


def test_kinds_without_any_driver_are_told_and_built_in_ones_are_not_among_them(kernel: KernelModules) -> None:
    assert choose_modules(kernel, CONTENT, Drivers.CLOUD).lacking == ()
    assert choose_modules(kernel, CONTENT, Drivers.SERVER).lacking == ("USB",)
    assert has_built_in(kernel, NVME)
    assert not has_built_in(kernel, USB)


def test_a_module_that_every_host_needs_must_be_there(kernel: KernelModules) -> None:
    with pytest.raises(BuildError, match="lacks: overlay") as caught:
        choose_modules(kernel, replace(CONTENT, modules=("dm-verity", "overlay")), Drivers.CLOUD)
    assert "drop_modules" in caught.value.hints[0]


def test_a_tree_without_an_index_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").touch()
    with pytest.raises(BuildError, match=r"modules\.alias"):
        read_modules(tmp_path)


def test_our_own_list_has_drivers_for_clouds_by_device_and_for_the_rest_by_folder() -> None:
    disks = load_content().disks
    assert {"virtio", "NVMe", "SATA (AHCI)", "VMware", "Hyper-V", "Xen"} <= {
        kind for kind, each in disks.items() if each.set is Drivers.CLOUD
    }
    assert {"SAS and RAID", "USB storage", "eMMC", "VMD"} <= {
        kind for kind, each in disks.items() if each.set is Drivers.SERVER
    }
