"""`layout.json`: the sizes of the partitions that a release's disk was made with.

A layout is named by its own content, so the same sizes have the same name wherever they are recorded.
It grows by `bedrock.evolution`.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from bedrock import evolution, strict
from bedrock.digest import bytes_sha256
from updater.documents.release import Architecture, ArtifactBytes, Name

LAYOUT, LAYOUT_FILE = "layout", "layout.json"
FORMAT = 1
MAX_LAYOUT_BYTES = 1 << 16
_ID_DIGITS = 12
LayoutId = Annotated[str, strict.Pattern(rf"[0-9a-f]{{{_ID_DIGITS}}}", f"a layout's id of {_ID_DIGITS} digits")]


class BoundPartition(Enum):
    """A partition that bounds how large a release may be."""

    ROOT = "root"
    VERITY = "verity"
    BOOT = "boot"


@dataclass(frozen=True)
class Family:
    """The releases that follow each other on a host: those of one image and one architecture."""

    image: str
    architecture: Architecture

    def __str__(self) -> str:
        return f"{self.image} ({self.architecture.value})"


@dataclass(frozen=True)
class SlotLayout:
    """`layout.json`: the sizes in bytes of the partitions that a disk image was made with.

    Attributes:
        root_bytes: Each of the two root partitions.
        verity_bytes: Each of the two verity partitions.
        boot_bytes: The partition of the UKIs.
    """

    format: Annotated[int, strict.Range(FORMAT, FORMAT)]
    image: Name
    architecture: Architecture
    root_bytes: ArtifactBytes
    verity_bytes: ArtifactBytes
    boot_bytes: ArtifactBytes

    @property
    def id(self) -> str:
        """The layout's name: the first digits of a SHA-256 over the keys named here.

        A key that a later version adds belongs in it only where a layout has it, or the layouts of today change names.
        """
        named = ("format", "image", "architecture", "root_bytes", "verity_bytes", "boot_bytes")
        return bytes_sha256(strict.dump_json({key: getattr(self, key) for key in named}))[:_ID_DIGITS]

    @property
    def family(self) -> Family:
        """Whose disk it is."""
        return Family(self.image, self.architecture)

    def room(self, part: BoundPartition) -> int:
        """Bytes of a partition."""
        return {
            BoundPartition.ROOT: self.root_bytes,
            BoundPartition.VERITY: self.verity_bytes,
            BoundPartition.BOOT: self.boot_bytes,
        }[part]


def parse_layout(data: bytes, *, source: str) -> SlotLayout:
    """Read a layout.

    Raises:
        DocumentError: Not JSON, a critical key that is new here, wrong types, or values out of range.
    """
    return evolution.read_json(SlotLayout, data, source=source)
