"""Makes the disk: systemd-repart puts boot loader, UKI and root file system into partitions.

The input of the tools is kept next to the build (`config/disk/`, `config/disk.json`), so that the disk of an unsigned
build can be made again when its signatures have arrived, from the build's folder alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from bedrock import strict
from bedrock.digest import file_sha256
from bedrock.process import Argument
from imagebuild.definition import config
from imagebuild.errors import BuildError, SpaceError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.paths import EPOCH
from imagebuild.steps.filesystems import seed_of, write_definitions
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.products import BootPrograms, DiskImages, RootImage
from imagebuild.steps.workshop import Workshop
from partitions import kept_uki
from partitions.blockio import CHUNK_BYTES, DeviceWindow, FileBlockDevice, StreamWriter
from partitions.disk import find_slots, read_table
from partitions.entries import BootEntry, parse_entry
from partitions.layout import STATE_BYTES, boot_bytes_for, root_types
from partitions.loader_conf import LOADER_CONF, REMOVABLE_LOADER, first_conf, second_conf
from partitions.uki import read_uki
from updater.documents.release import Architecture
from updater.documents.slot_layout import FORMAT as LAYOUT_FORMAT
from updater.documents.slot_layout import LAYOUT_FILE, SlotLayout

RAW, QCOW2 = "disk.raw", "disk.qcow2"
RECIPE_FILE = "disk.json"
_TIMEOUT_S = 300
_SLACK = 4 << 20


@dataclass(frozen=True)
class DiskRecipe:
    """What systemd-repart gets besides the definitions of the partitions.

    Attributes:
        seed: Decides the identifiers of the partitions.
        size_bytes: The size of the disk.
        boot_bytes: The size of the partition that holds the UKIs.
        root_bytes: The size of a slot's data partition.
        architecture: What it is for.
        entry: The name of the UKI's file.
    """

    seed: str
    size_bytes: Annotated[int, strict.Size()]
    boot_bytes: Annotated[int, strict.Size()]
    root_bytes: Annotated[int, strict.Size()]
    architecture: Architecture
    entry: Annotated[str, strict.Pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.efi", "the name of a UKI")]


@dataclass(frozen=True)
class DiskWorkplace:
    """Where a disk is made.

    Attributes:
        tools: The tools tree.
        config: The folder of the build's configuration.
        source: A new folder for the files that go to the disk, on the same file system as the root image.
        out: The folder for the disk.
        access: What the tools may see.
        log: What they say.
    """

    tools: ToolsTree
    config: Path
    source: Path
    out: Path
    access: Access
    log: Path


def recipe_of(plan: BuildPlan) -> DiskRecipe:
    """The recipe for the disk of a build."""
    definition = plan.definition
    slots = definition.slots
    return DiskRecipe(
        seed=str(seed_of(definition.id)),
        size_bytes=sum((slots.esp, slots.boot, 2 * slots.root, 2 * slots.verity, STATE_BYTES, slots.var, _SLACK)),
        boot_bytes=slots.boot,
        root_bytes=slots.root,
        architecture=definition.architecture,
        # The first UKI is blessed, as it is the only one.
        entry=BootEntry(definition.id, plan.version, None, None).file_name,
    )


def make_disk(shop: Workshop, root: RootImage, boot: BootPrograms) -> DiskImages:
    """Make `disk.raw` (sparse) with the release in slot A, and convert it to `disk.qcow2`.

    Raises:
        SpaceError: Two UKIs of this size do not fit into the boot partition.
        ProcessError: A tool failed.
    """
    definition, recipe = shop.plan.definition, recipe_of(shop.plan)
    record_layout(shop)
    loader = shop.config / "esp/loader"
    loader.mkdir(parents=True)
    (loader / "loader.conf").write_text(first_conf())
    write_definitions(
        shop.config / "disk",
        config.disk_partitions(definition, version=shop.plan.version, root_hash=root.root_hash),
    )
    (shop.config / RECIPE_FILE).write_bytes(strict.dump_json(recipe))
    place = DiskWorkplace(shop.tools, shop.config, shop.work / "disk", shop.out, shop.access, shop.log)
    return assemble(recipe, boot, (root.root, root.verity), place)


def assemble(recipe: DiskRecipe, boot: BootPrograms, slot: Sequence[Path], place: DiskWorkplace) -> DiskImages:
    """Let systemd-repart make the disk (writes to the disk).

    Args:
        recipe: What systemd-repart gets.
        boot: The boot loader and the UKI.
        slot: The root file system and its verity tree.
        place: Where it works.

    Raises:
        SpaceError: Two UKIs of this size do not fit into the boot partition.
        ProcessError: A tool failed.
    """
    _stage(recipe, boot, slot, place)
    disk = DiskImages(place.out / RAW, place.out / QCOW2)
    _run(
        place,
        "systemd-repart",
        "--empty=create",
        f"--size={recipe.size_bytes}",
        "--dry-run=no",
        "--offline=yes",
        f"--seed={recipe.seed}",
        f"--root={place.source}",
        f"--definitions={place.config / 'disk'}",
        f"--architecture={recipe.architecture.value}",
        disk.raw,
    )
    keep_uki(disk.raw, boot.uki, recipe.architecture)
    _run(place, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk.raw, disk.qcow2)
    return disk


def keep_uki(disk: Path, uki: Path, architecture: Architecture) -> None:
    """Write the copy that a slot keeps of its UKI to the disk, into the slot of the root hash that the UKI boots.

    Raises:
        SpaceError: It does not fit behind the root file system.
        BuildError: The disk has no such slot.
    """
    with uki.open("rb") as stream:
        root_hash = read_uki(stream, source=str(uki)).root_hash
    with FileBlockDevice.open(disk, writable=True) as device:
        found = find_slots(read_table(device), root_types(architecture.value))
        slot = found.slot_booted_from(root_hash)
        if slot is None:
            raise BuildError(f"{disk} has no slot of root hash {root_hash}")
        part = found.slot(slot).data
        partition = DeviceWindow(device, part.offset_bytes, part.size_bytes)
        size, sha256 = uki.stat().st_size, file_sha256(uki)
        kept = kept_uki.place(part.size_bytes, uki_bytes=size, sha256=sha256, root_hash=root_hash)
        writer = StreamWriter(DeviceWindow(partition, kept.offset_bytes, part.size_bytes - kept.offset_bytes))
        with uki.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                writer.write(chunk)
        writer.finish()
        kept_uki.write_record(partition, kept)


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


def _stage(recipe: DiskRecipe, boot: BootPrograms, slot: Sequence[Path], place: DiskWorkplace) -> None:
    """Lay out the files that systemd-repart copies to the disk."""
    size = boot.uki.stat().st_size
    if boot_bytes_for(size) > recipe.boot_bytes:
        raise SpaceError(f"two UKIs of {size >> 20} MiB do not fit into slots.boot").with_hint("raise slots.boot")
    root_bytes = slot[0].stat().st_size
    if kept_uki.bytes_with_copy(root_bytes=root_bytes, uki_bytes=size) > recipe.root_bytes:
        raise SpaceError(
            f"the root file system ({root_bytes >> 20} MiB) and a copy of the UKI ({size >> 20} MiB) do not fit into "
            "slots.root"
        ).with_hint("raise slots.root")
    esp, xbootldr = place.source / "esp", place.source / "xbootldr"
    for loader in (esp / REMOVABLE_LOADER, esp / "EFI/systemd/systemd-bootx64.efi", xbootldr / REMOVABLE_LOADER):
        loader.parent.mkdir(parents=True)
        shutil.copy(boot.loader, loader)
    shutil.copytree(place.config / "esp/loader", esp / "loader")
    entry = parse_entry(recipe.entry)
    if entry is None:
        raise BuildError(f"{place.config / RECIPE_FILE}: {recipe.entry} is not the name of a boot entry")
    (xbootldr / LOADER_CONF).parent.mkdir()
    (xbootldr / LOADER_CONF).write_bytes(second_conf(entry))
    # The one on the ESP is a spare, for when the other partition is lost.
    for uki in (xbootldr / config.entry_path(recipe.entry), esp / config.entry_path(recipe.entry)):
        uki.parent.mkdir(parents=True)
        shutil.copyfile(boot.uki, uki)
    for path in slot:
        (place.source / path.name).hardlink_to(path)
    # FAT keeps the times of copied files.
    for folder in (esp, xbootldr):
        for path in (folder, *folder.rglob("*")):
            os.utime(path, (EPOCH, EPOCH))


def _run(place: DiskWorkplace, *words: Argument) -> None:
    environment = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    place.tools.run(words, place.access, timeout_s=_TIMEOUT_S, env=environment, log=place.log)
