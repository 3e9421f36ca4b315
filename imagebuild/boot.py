"""What the firmware sees: the UKI, its signature, systemd-boot, and the disk that holds them.

The unsigned parts are made first; the Secure Boot key is open only while sbsign runs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bedrock import strict
from imagebuild import config
from imagebuild.errors import BuildError, SpaceError
from imagebuild.filesystems import SEED, write_definitions
from imagebuild.plan import EPOCH
from imagebuild.tools import Access
from imagebuild.workshop import Workshop
from keys.passphrase import PassphraseSource
from keys.roles import BootRole
from keys.signers import BootSigner, boot_signer
from partitions.entries import BootEntry
from partitions.layout import boot_bytes_for
from updater.repository.field.room import FORMAT, LAYOUT_FILE, SlotLayout

_TIMEOUT_S = 300
_EFI_FOLDER = Path("usr/lib/systemd/boot/efi")
LOADER = _EFI_FOLDER / "systemd-bootx64.efi"
STUB = _EFI_FOLDER / "linuxx64.efi.stub"


def make_uki(shop: Workshop) -> None:
    """Let ukify join kernel, initrd, command line and os-release into one program, still unsigned."""
    output = shop.folders.output
    root_hash = (shop.work / "root-hash").read_text()
    arguments = config.kernel_arguments(shop.plan.definition, root_hash)
    (shop.config / "cmdline").write_text(arguments + "\n")
    shop.tools.run(
        [
            "/usr/lib/systemd/ukify",
            "build",
            f"--linux={output / 'vmlinuz'}",
            f"--initrd={shop.work / 'initrd.cpio.zst'}",
            f"--cmdline=@{shop.config / 'cmdline'}",
            f"--os-release=@{output / 'tree/usr/lib/os-release'}",
            f"--uname={(output / 'kernel-version').read_text().strip()}",
            f"--stub=/{STUB}",
            f"--output={shop.work / 'unsigned.efi'}",
        ],
        shop.access,
        timeout_s=_TIMEOUT_S,
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        log=shop.log,
    )


def sign(shop: Workshop, passphrase: PassphraseSource) -> None:
    """Sign the UKI and systemd-boot with the db key, and lay the certificates beside the build."""
    shutil.copy(shop.tools.root / LOADER, shop.work / "loader.efi")
    with boot_signer(shop.plan.keyring, BootRole.DB, passphrase) as signer:
        _sbsign(shop, signer, shop.work / "unsigned.efi", shop.out / "uki.efi")
        _sbsign(shop, signer, shop.work / "loader.efi", shop.work / "loader.signed.efi")
    certificates = shop.out / "certificates"
    certificates.mkdir()
    for role in BootRole:
        shutil.copy(shop.plan.keyring.boot_key(role).certificate, certificates / f"{role.value}.pem")


def make_disk(shop: Workshop) -> None:
    """Let systemd-repart make `disk.raw` (sparse) with the release in slot A, and convert it to `disk.qcow2`."""
    definition, version = shop.plan.definition, shop.plan.version
    root_hash = (shop.work / "root-hash").read_text()
    source = _stage(shop)
    record_layout(shop)
    definitions = shop.config / "disk"
    write_definitions(definitions, config.disk_partitions(definition, version=version, root_hash=root_hash))
    disk = shop.out / "disk.raw"
    size = sum((definition.slots.esp, definition.slots.boot, 2 * definition.slots.root, 2 * definition.slots.verity))
    shop.tools.run(
        [
            "systemd-repart",
            "--empty=create",
            f"--size={size + definition.slots.var + (4 << 20)}",
            "--dry-run=no",
            "--offline=yes",
            f"--seed={SEED}",
            f"--root={source}",
            f"--definitions={definitions}",
            f"--architecture={definition.architecture.value}",
            disk,
        ],
        shop.access,
        timeout_s=_TIMEOUT_S,
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        log=shop.log,
    )
    shop.tools.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, shop.out / "disk.qcow2"],
        shop.access,
        timeout_s=_TIMEOUT_S,
        log=shop.log,
    )


def record_layout(shop: Workshop) -> None:
    """Write the sizes that hosts get which are installed from this build's disk: later releases must fit them."""
    definition = shop.plan.definition
    slots = SlotLayout(
        format=FORMAT,
        image=definition.id,
        architecture=definition.architecture,
        root_bytes=definition.slots.root,
        verity_bytes=definition.slots.verity,
        boot_bytes=definition.slots.boot,
    )
    (shop.out / LAYOUT_FILE).write_bytes(strict.dump_json(slots))


def _stage(shop: Workshop) -> Path:
    """Lay out what systemd-repart copies into the disk; the first UKI is blessed, for it is the only one."""
    source = shop.work / "disk"
    (source / "esp/EFI/BOOT").mkdir(parents=True)
    (source / "esp/EFI/systemd").mkdir()
    (source / "esp/loader").mkdir()
    loader = shop.work / "loader.signed.efi"
    shutil.copy(loader, source / "esp/EFI/BOOT/BOOTX64.EFI")
    shutil.copy(loader, source / "esp/EFI/systemd/systemd-bootx64.efi")
    (source / "esp/loader/loader.conf").write_text(config.loader_conf())
    shutil.copytree(source / "esp/loader", shop.config / "esp/loader")
    entry = BootEntry(shop.plan.definition.id, shop.plan.version, None, None)
    uki = source / "xbootldr" / config.entry_path(entry.file_name)
    uki.parent.mkdir(parents=True)
    size = (shop.out / "uki.efi").stat().st_size
    if boot_bytes_for(size) > shop.plan.definition.slots.boot:
        raise SpaceError(f"two UKIs of {size >> 20} MiB do not fit into slots.boot").with_hint("raise slots.boot")
    for name in ("root.erofs", "root.verity"):
        (source / name).hardlink_to(shop.out / name)
    uki.hardlink_to(shop.out / "uki.efi")
    return source


def _sbsign(shop: Workshop, signer: BootSigner, unsigned: Path, signed: Path) -> None:
    engine = ["--engine", signer.engine] if signer.engine else []
    read = (signer.certificate.parent, *(() if signer.engine else (Path(signer.key).parent,)))
    shop.tools.run(
        ["sbsign", *engine, "--key", signer.key, "--cert", signer.certificate, "--output", signed, unsigned],
        Access(read=tuple(dict.fromkeys(read)), write=(shop.work,)),
        timeout_s=_TIMEOUT_S,
        log=shop.log,
    )
    if not signed.is_file():
        raise BuildError(f"sbsign wrote no {signed.name}")
