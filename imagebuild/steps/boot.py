"""Makes the UKI, the signed boot loader, and the disk that holds them.

The unsigned parts are made first; `signing.py` signs them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bedrock import strict
from bedrock.digest import file_sha256
from imagebuild.definition import config
from imagebuild.errors import SpaceError
from imagebuild.paths import EPOCH
from imagebuild.steps.filesystems import seed_of, write_definitions
from imagebuild.steps.products import DiskImages, Initrd, PackageTree, RootImage, SignedBoot
from imagebuild.steps.workshop import Workshop
from keys.secureboot.pe import attach
from partitions.entries import BootEntry
from partitions.layout import boot_bytes_for
from updater.documents.release import ArtifactKind
from updater.documents.signatures import (
    FORMAT,
    LOADER,
    SIGNATURES_FILE,
    UKI,
    Detached,
    Signatures,
    dump_signatures,
)
from updater.documents.slot_layout import FORMAT as LAYOUT_FORMAT
from updater.documents.slot_layout import LAYOUT_FILE, SlotLayout

_TIMEOUT_S = 300
# Profiles of a UKI (ukify(1), Boot Loader Specification): the first boots when nobody chooses.
_MAIN_PROFILE = "ID=main"
_RESCUE_PROFILE = "ID=rescue\nTITLE=rescue: a root shell on the console"
_EFI_FOLDER = Path("usr/lib/systemd/boot/efi")
LOADER_PROGRAM = _EFI_FOLDER / "systemd-bootx64.efi"
STUB = _EFI_FOLDER / "linuxx64.efi.stub"
_PROFILE_STUB = _EFI_FOLDER / "addonx64.efi.stub"


def make_uki(shop: Workshop, tree: PackageTree, initrd: Initrd, root: RootImage) -> Path:
    """Let ukify join kernel, initrd, command line and os-release into one program; the unsigned file."""
    unsigned = shop.work / "unsigned.efi"
    arguments = config.kernel_arguments(shop.plan.definition, root.root_hash)
    (shop.config / "cmdline").write_text(arguments + "\n")
    _ukify(
        shop,
        f"--stub=/{STUB}",
        f"--linux={tree.kernel.file}",
        f"--initrd={initrd.archive}",
        f"--cmdline=@{shop.config / 'cmdline'}",
        f"--os-release=@{tree.root / 'usr/lib/os-release'}",
        f"--uname={tree.kernel.version}",
        *(_rescue_profile(shop, root.root_hash) if shop.plan.definition.rescue else ()),
        f"--output={unsigned}",
    )
    return unsigned


def _rescue_profile(shop: Workshop, root_hash: str) -> tuple[str, ...]:
    """Make the part of the UKI that is another entry of the boot menu (writes to the working folder).

    A separate file would be another version for the loader to choose and for the agent to count.
    """
    (shop.config / "cmdline.rescue").write_text(config.rescue_arguments(shop.plan.definition, root_hash) + "\n")
    profile = shop.work / "rescue.profile.efi"
    cmdline = f"--cmdline=@{shop.config / 'cmdline.rescue'}"
    _ukify(shop, f"--stub=/{_PROFILE_STUB}", f"--profile={_RESCUE_PROFILE}", cmdline, f"--output={profile}")
    return (f"--profile={_MAIN_PROFILE}", f"--join-profile={profile}")


def _ukify(shop: Workshop, *words: str) -> None:
    shop.tools.run(
        ["/usr/lib/systemd/ukify", "build", *words],
        shop.access,
        timeout_s=_TIMEOUT_S,
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        log=shop.log,
    )


def sign(shop: Workshop, uki: Path) -> SignedBoot:
    """Sign the UKI and systemd-boot, and put the signatures (`signatures.json`) and certificates next to the build."""
    source = shop.plan.signatures
    loader = shop.work / "loader.unsigned.efi"
    shutil.copyfile(shop.tools.root / LOADER_PROGRAM, loader)
    unsigned = {UKI: uki, LOADER: loader}
    made = source.detached(unsigned)
    signed_boot = SignedBoot(shop.artifact(ArtifactKind.UKI), shop.work / "loader.signed.efi")
    for name, signed in ((UKI, signed_boot.uki), (LOADER, signed_boot.loader)):
        attach(made[name], unsigned[name], signed)
    document = Signatures(
        format=FORMAT,
        certificates={role.value: text for role, text in source.certificates.items()},
        files={name: Detached.of(made[name], unsigned_sha256=file_sha256(path)) for name, path in unsigned.items()},
    )
    (shop.out / SIGNATURES_FILE).write_bytes(dump_signatures(document))
    certificates = shop.out / "certificates"
    certificates.mkdir()
    for name, text in document.certificates.items():
        (certificates / f"{name}.pem").write_text(text)
    return signed_boot


def make_disk(shop: Workshop, root: RootImage, boot: SignedBoot) -> DiskImages:
    """Let systemd-repart make `disk.raw` (sparse) with the release in slot A, and convert it to `disk.qcow2`.

    Raises:
        SpaceError: Two UKIs of this size do not fit into the boot partition.
        ProcessError: A tool failed.
    """
    definition, version = shop.plan.definition, shop.plan.version
    source = _stage(shop, root, boot)
    record_layout(shop)
    definitions = shop.config / "disk"
    write_definitions(definitions, config.disk_partitions(definition, version=version, root_hash=root.root_hash))
    disk = DiskImages(shop.out / "disk.raw", shop.out / "disk.qcow2")
    size = sum((definition.slots.esp, definition.slots.boot, 2 * definition.slots.root, 2 * definition.slots.verity))
    shop.tools.run(
        [
            "systemd-repart",
            "--empty=create",
            f"--size={size + definition.slots.var + (4 << 20)}",
            "--dry-run=no",
            "--offline=yes",
            f"--seed={seed_of(definition.id)}",
            f"--root={source}",
            f"--definitions={definitions}",
            f"--architecture={definition.architecture.value}",
            disk.raw,
        ],
        shop.access,
        timeout_s=_TIMEOUT_S,
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        log=shop.log,
    )
    shop.tools.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk.raw, disk.qcow2],
        shop.access,
        timeout_s=_TIMEOUT_S,
        log=shop.log,
    )
    return disk


def record_layout(shop: Workshop) -> None:
    """Write the partition sizes of hosts that are installed from this build's disk; later releases must fit them."""
    definition = shop.plan.definition
    slots = SlotLayout(
        format=LAYOUT_FORMAT,
        image=definition.id,
        architecture=definition.architecture,
        root_bytes=definition.slots.root,
        verity_bytes=definition.slots.verity,
        boot_bytes=definition.slots.boot,
    )
    (shop.out / LAYOUT_FILE).write_bytes(strict.dump_json(slots))


def _stage(shop: Workshop, root: RootImage, boot: SignedBoot) -> Path:
    """Lay out the files that systemd-repart copies to the disk; the first UKI is blessed, as it is the only one."""
    source = shop.work / "disk"
    (source / "esp/EFI/BOOT").mkdir(parents=True)
    (source / "esp/EFI/systemd").mkdir()
    (source / "esp/loader").mkdir()
    shutil.copy(boot.loader, source / "esp/EFI/BOOT/BOOTX64.EFI")
    shutil.copy(boot.loader, source / "esp/EFI/systemd/systemd-bootx64.efi")
    (source / "esp/loader/loader.conf").write_text(config.loader_conf())
    shutil.copytree(source / "esp/loader", shop.config / "esp/loader")
    entry = BootEntry(shop.plan.definition.id, shop.plan.version, None, None)
    uki = source / "xbootldr" / config.entry_path(entry.file_name)
    uki.parent.mkdir(parents=True)
    size = boot.uki.stat().st_size
    if boot_bytes_for(size) > shop.plan.definition.slots.boot:
        raise SpaceError(f"two UKIs of {size >> 20} MiB do not fit into slots.boot").with_hint("raise slots.boot")
    for path in (root.root, root.verity):
        (source / path.name).hardlink_to(path)
    shutil.copyfile(boot.uki, uki)
    # FAT keeps the times of copied files.
    for folder in (source / "esp", source / "xbootldr"):
        for path in (folder, *folder.rglob("*")):
            os.utime(path, (EPOCH, EPOCH))
    return source
