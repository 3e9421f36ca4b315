"""`twinhull vm`: boot an image in a virtual machine."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from bedrock.cli import FromText
from imagebuild.errors import VmError
from imagebuild.inputs.mirror import find_mirrors
from imagebuild.inputs.tools import cache_folder, ensure_tools
from imagebuild.vm.accelerator import find_accelerator
from imagebuild.vm.config import BootCertificates, Console, Credential, Forward, VmConfig
from imagebuild.vm.disks import DiskKind
from imagebuild.vm.images import FoundImage, certificates_of, find_image
from imagebuild.vm.machine import VirtualMachine
from keys.keyring import Keyring
from updater.documents.build_files import SIGNING_REQUEST_FILE

Parsed = TypeVar("Parsed")


@click.group()
def vm() -> None:
    """Boot images in virtual machines."""


@vm.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--memory", type=click.IntRange(min=512), default=2048, show_default=True, help="Memory in MiB.")
@click.option("--cpus", type=click.IntRange(min=1), default=2, show_default=True, help="Virtual processors.")
@click.option(
    "--forward",
    "forwards",
    type=FromText("HOST:GUEST", Forward.from_text),
    multiple=True,
    help="Forward a TCP port of this host's loopback to the guest; HOST 0 takes a free one.",
)
@click.option(
    "--credential",
    "credentials",
    type=FromText("NAME=VALUE", Credential.from_text),
    multiple=True,
    help="A systemd credential for the guest, for example updater settings.",
)
@click.option(
    "--secure-boot/--no-secure-boot", default=True, show_default=True, help="Whether the firmware checks signatures."
)
@click.option(
    "--keys", "keys_folder", type=click.Path(path_type=Path), help="Keys folder with the certificates to enrol."
)
@click.option("--tpm/--no-tpm", default=False, show_default=True, help="Whether the guest has a TPM 2.0.")
@click.option(
    "--disk",
    "disk_kind",
    type=click.Choice([kind.value for kind in DiskKind]),
    default=DiskKind.VIRTIO_BLK.value,
    show_default=True,
    help="The disk's controller.",
)
@click.option(
    "--snapshot/--no-snapshot",
    default=True,
    show_default=True,
    help="Whether writes are discarded at the end, so the image stays as it is.",
)
@click.option(
    "--console/--no-console",
    default=True,
    show_default=True,
    help="Whether this terminal is the serial console (Ctrl-a x ends the machine).",
)
def run(
    *,
    image: Path,
    memory: int,
    cpus: int,
    forwards: tuple[Forward, ...],
    credentials: tuple[Credential, ...],
    secure_boot: bool,
    keys_folder: Path | None,
    tpm: bool,
    disk_kind: str,
    snapshot: bool,
    console: bool,
) -> int:
    """Boot IMAGE, a disk.raw or disk.qcow2 or the folder `twinhull build` wrote.

    The firmware gets only the certificates of the image's keys, so it boots this image and refuses any
    other.  Hardware acceleration is used if it works.

    \b
    Example:
      twinhull vm run out/my-host/1.0.0 --forward 8080:80
      twinhull vm run out/my-host/1.0.0 --credential 'twinhull.updater=url: http://10.0.2.2:8080'

    10.0.2.2 is this host's loopback, seen from the guest.
    """
    found = find_image(image)
    config = _checked(
        lambda: VmConfig(
            image=found.disk,
            memory_mib=memory,
            cpus=cpus,
            forwards=forwards,
            credentials=credentials,
            certificates=_certificates(found, keys_folder) if secure_boot else None,
            tpm=tpm,
            disk_kind=DiskKind(disk_kind),
            uki=_uki(found, DiskKind(disk_kind)),
            snapshot=snapshot,
            console=Console.TERMINAL if console else Console.LOG,
        )
    )
    tools = ensure_tools(find_mirrors, cache=cache_folder())
    finding = find_accelerator(tools, cache=cache_folder())
    _say(finding.line)
    folder = Path(tempfile.mkdtemp(prefix="twinhull-vm-state-", dir="/var/tmp"))
    try:
        return _run_to_the_end(VirtualMachine(config, tools=tools, accelerator=finding.accelerator, folder=folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _certificates(found: FoundImage, keys_folder: Path | None) -> BootCertificates:
    if found.unsigned:
        raise VmError(f"{found.disk.parent} is unsigned, and firmware with Secure Boot does not start it").with_hint(
            f"sign it (twinhull sign {found.disk.parent / SIGNING_REQUEST_FILE}) and finish it "
            f"(twinhull finish {found.disk.parent}), or switch Secure Boot off with --no-secure-boot"
        )
    if keys_folder is not None:
        return certificates_of(Keyring.load(keys_folder))
    if found.certificates is None:
        raise VmError(f"{found.disk.parent} holds no certificates to enrol for Secure Boot").with_hint(
            "name the folder of the image's keys with --keys, or switch Secure Boot off with --no-secure-boot"
        )
    return found.certificates


def _uki(found: FoundImage, kind: DiskKind) -> Path | None:
    """What the firmware is to start where it cannot read the disk."""
    if kind.firmware_can_read:
        return None
    if found.uki is None:
        lacking = (
            f"the firmware has no driver for a {kind.value} disk, and {found.disk.parent} holds no uki.efi to start"
        )
        raise VmError(lacking).with_hint("name the folder that `twinhull build` wrote")
    return found.uki


def _run_to_the_end(machine: VirtualMachine) -> int:
    config = machine.config
    for pair in config.forwards:
        _say(f"127.0.0.1:{pair.host} leads to port {pair.guest} of the guest")
    _say("what the guest writes is dropped at the end" if config.snapshot else f"the guest writes to {config.image}")
    if config.console is Console.TERMINAL:
        _say("Ctrl-a x ends the machine, Ctrl-a h lists more keys, Ctrl-a Ctrl-a types Ctrl-a")
    else:
        _say(f"the console goes to {machine.console_log}; Ctrl-C ends the machine")
    sys.stdout.flush()
    with machine:
        return machine.wait_exit(timeout_s=None)


def _checked(make: Callable[[], Parsed]) -> Parsed:
    try:
        return make()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _say(line: str) -> None:
    click.echo(line, err=True)
