"""The cost of sets of drivers, in a root filesystem with a handful of modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock.progress import Silent
from imagebuild.definition.initrd import load_content
from imagebuild.errors import BuildError
from imagebuild.inspection.drivers import driver_sets

PCI = "pci:v*d*sv*sd*"
DRIVERS = {
    "kernel/drivers/ata/ahci.ko": f"{PCI}bc01sc06i01*",
    "kernel/drivers/ata/sata_nv.ko": "pci:v000010DEd0000008Esv*",
    "kernel/drivers/scsi/mpt3sas.ko": "pci:v00001000d00000097sv*",
    "kernel/drivers/block/virtio_blk.ko": "virtio:d00000002v*",
}


def tree(folder: Path, *kernels: str) -> Path:
    for kernel in kernels:
        modules = folder / "usr/lib/modules" / kernel
        always = tuple(f"kernel/fs/{name}.ko" for name in load_content().modules)
        for name in (*always, *DRIVERS):
            (modules / name).parent.mkdir(parents=True, exist_ok=True)
            (modules / name).write_bytes(b"same " * 1000)
        (modules / "modules.dep").write_text("".join(f"{name}:\n" for name in (*always, *DRIVERS)))
        aliases = (f"alias {alias} {Path(name).stem}\n" for name, alias in DRIVERS.items())
        (modules / "modules.alias").write_text("".join(aliases))
        (modules / "modules.builtin").write_text("kernel/drivers/nvme/host/nvme.ko\n")
    return folder


def test_each_set_is_told_without_the_ones_before_it_and_without_what_every_host_has(tmp_path: Path) -> None:
    found = driver_sets(tree(tmp_path, "6.12"), Silent())
    assert {name: each.modules for name, each in found.items()} == {"cloud": 2, "server": 1, "all": 1}
    assert {name: each.cost.raw_bytes for name, each in found.items()} == {
        "cloud": 10_000,
        "server": 5_000,
        "all": 5_000,
    }
    assert all(0 < each.cost.wire_bytes < 1_000 for each in found.values())


def test_kinds_that_the_kernel_has_no_driver_for_are_named(tmp_path: Path) -> None:
    found = driver_sets(tree(tmp_path, "6.12"), Silent())
    assert "Hyper-V" in found["cloud"].lacking
    assert not {"NVMe", "virtio", "SATA (AHCI)"} & set(found["all"].lacking)
    assert "USB storage" in found["server"].lacking
    assert "USB storage" not in found["cloud"].lacking


def test_an_image_with_two_kernels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="2 kernels"):
        driver_sets(tree(tmp_path, "6.12", "6.13"), Silent())
