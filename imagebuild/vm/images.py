"""Finds an image by a user's path: a disk file, or the folder that a build wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagebuild.errors import VmError
from imagebuild.vm.config import BootCertificates
from keys.keyring import Keyring
from keys.roles import BootRole
from updater.documents.build_files import CERTIFICATES_FOLDER, SIGNING_REQUEST_FILE

DISK_NAMES = ("disk.raw", "disk.qcow2")

UKI_NAME = "uki.efi"


@dataclass(frozen=True)
class FoundImage:
    """A disk to boot, and the certificates and the UKI next to it; `unsigned`: its build waits for signatures."""

    disk: Path
    certificates: BootCertificates | None
    uki: Path | None = None
    unsigned: bool = False


def find_image(path: Path) -> FoundImage:
    """Find the disk and the certificates in a build's output folder, or next to a disk file.

    Raises:
        VmError: There is no disk.
    """
    folder = path if path.is_dir() else path.parent
    candidates = [folder / name for name in DISK_NAMES] if path.is_dir() else [path]
    disk = next((candidate for candidate in candidates if candidate.is_file()), None)
    if disk is None:
        raise VmError(f"there is no disk image at {path}").with_hint(
            "name a disk.raw or disk.qcow2, or the folder `twinhull build` wrote"
        )
    uki = folder / UKI_NAME
    return FoundImage(
        disk,
        _certificates(folder / CERTIFICATES_FOLDER),
        uki if uki.is_file() else None,
        unsigned=(folder / SIGNING_REQUEST_FILE).is_file(),
    )


def certificates_of(keyring: Keyring) -> BootCertificates:
    """The Secure Boot certificates of a keys folder.

    Raises:
        MissingKeyError: The keyring does not name one.
    """
    return BootCertificates(
        platform_key=keyring.boot_key(BootRole.PK).certificate,
        key_exchange_key=keyring.boot_key(BootRole.KEK).certificate,
        signature_database=keyring.boot_key(BootRole.DB).certificate,
    )


def _certificates(folder: Path) -> BootCertificates | None:
    platform_key, key_exchange_key, database = (folder / f"{role.value}.pem" for role in BootRole if role.enrolled)
    if not (platform_key.is_file() and key_exchange_key.is_file() and database.is_file()):
        return None
    return BootCertificates(platform_key, key_exchange_key, database)
