"""`drivers:` of `image.yaml`, and how drivers that lead to a disk are found in a kernel's modules.

A kind of disk is described by what the kernel itself knows: the names that devices go by when it looks for a driver,
and the folders of its modules.  So a newer kernel's drivers are included, and no list of them has to be maintained.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from bedrock import strict

# The kernel with the drivers that the one for clouds was built without.
GENERIC_KERNEL = "linux-image-amd64"

Modalias = Annotated[str, strict.Pattern(r"[a-z]+:[!-~]+", "the name of a device as in its file modalias")]
Bus = Annotated[str, strict.Pattern(r"[a-z0-9_]+", "the name of a bus as aliases of modules begin with it")]
ModuleName = Annotated[str, strict.Pattern(r"[A-Za-z0-9_-]+", "the name of a kernel module")]
ModuleFolder = Annotated[
    str,
    strict.Pattern(r"([a-z0-9_-]+/)+([A-Za-z0-9_*-]+\.ko)?", "a folder below kernel/ such as drivers/ata/, or modules"),
]


class Drivers(Enum):
    """Which disks the initrd has drivers for; each set holds the ones before it."""

    CLOUD = "cloud"
    SERVER = "server"
    ALL = "all"

    def __contains__(self, other: Drivers) -> bool:
        """Whether a host with these drivers has those of `other`."""
        order = list(Drivers)
        return order.index(other) <= order.index(self)


@dataclass(frozen=True)
class Disks:
    """Disks of one kind, and how the modules that lead to them are found.

    Attributes:
        set: The smallest set of drivers they belong to.
        devices: Names of their devices; a module that drives one of them is taken.
        folders: Where modules are taken from that drive a device on one of `buses`.
        buses: What the aliases of such modules begin with.
        without: Modules; what needs one of them is not taken from `folders`.
        built_in: Where their drivers are among what the kernel itself holds: its index of that names no devices.
    """

    set: Drivers
    devices: tuple[Modalias, ...] = ()
    folders: tuple[ModuleFolder, ...] = ()
    buses: tuple[Bus, ...] = ()
    without: tuple[ModuleName, ...] = ()
    built_in: tuple[ModuleFolder, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.folders) != bool(self.buses):
            raise ValueError("folders and buses are given together")
        if not (self.devices or self.folders):
            raise ValueError("give devices or folders")
