"""`summary.json`: the result of a build, for people and scripts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bedrock import strict
from imagebuild.definition.drivers import Drivers
from partitions.version import Version

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Summary:
    """The result of a build.

    Attributes:
        image: The image's id.
        version: Its version.
        root_hash: The root hash of its root filesystem.
        kernel: The kernel's version.
        packages: Number of Debian packages with a file in the image.
        size_bytes: Sizes by file; for sparse files the bytes they occupy.
        seconds: Seconds by step.
        notes: Lines for people.
        disabled_services: Units of packages that stay disabled and that the definition does not name, by package.
        drivers: Which disks the initrd has drivers for; None in a build of an earlier Twinhull.
    """

    image: str
    version: Version
    root_hash: str
    kernel: str
    packages: int
    size_bytes: dict[str, int]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    disabled_services: dict[str, tuple[str, ...]] = field(default_factory=dict)
    drivers: Drivers | None = None


def read_summary(out: Path) -> Summary:
    """The summary of a finished build.

    Raises:
        DocumentError: It was changed by hand.
        OSError: There is none.
    """
    path = out / SUMMARY_FILE
    return strict.read_json(Summary, path.read_bytes(), source=str(path))
