"""How a machine's disk is attached: the controllers of hosts, as QEMU emulates them.  Pure."""

from __future__ import annotations

from enum import Enum


class DiskKind(Enum):
    """A controller and a disk on it."""

    VIRTIO_BLK = "virtio-blk"
    VIRTIO_SCSI = "virtio-scsi"
    NVME = "nvme"
    AHCI = "ahci"
    USB = "usb"
    UAS = "uas"
    MEGASAS = "megasas"
    PVSCSI = "pvscsi"

    @property
    def firmware_can_read(self) -> bool:
        """Whether Debian's OVMF has a driver for it; a real machine's firmware has, or the controller brings one."""
        return self in _READ_BY_FIRMWARE


_READ_BY_FIRMWARE = frozenset({DiskKind.VIRTIO_BLK, DiskKind.VIRTIO_SCSI, DiskKind.NVME, DiskKind.AHCI, DiskKind.USB})
# The controller, if it is a separate device, and the disk on it.  The board has its own AHCI (`ide.0`).
_DEVICES = {
    DiskKind.VIRTIO_BLK: (None, "virtio-blk-pci"),
    DiskKind.VIRTIO_SCSI: ("virtio-scsi-pci", "scsi-hd"),
    DiskKind.NVME: (None, "nvme,serial=twinhull"),
    DiskKind.AHCI: (None, "ide-hd,bus=ide.0"),
    DiskKind.USB: ("qemu-xhci", "usb-storage,bus=controller.0"),
    DiskKind.UAS: ("qemu-xhci", "scsi-hd,bus=uas.0"),
    DiskKind.MEGASAS: ("megasas-gen2", "scsi-hd"),
    DiskKind.PVSCSI: ("pvscsi", "scsi-hd"),
}


def disk_devices(kind: DiskKind, drive: str) -> list[str]:
    """QEMU's `-device` arguments that attach the drive of the id `drive`, the first one to be booted from."""
    controller, disk = _DEVICES[kind]
    words = [] if controller is None else ["-device", f"{controller},id=controller"]
    if kind is DiskKind.UAS:
        words += ["-device", "usb-uas,id=uas,bus=controller.0"]
    return [*words, "-device", f"{disk},drive={drive},bootindex=1"]
