"""The cost of each set of drivers in the initrd, with the kernel of an image.

Each set is compressed alone, without the modules of the sets before it, almost as the initrd is compressed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bedrock.progress import Progress
from imagebuild.definition.drivers import Drivers
from imagebuild.definition.initrd import load_content
from imagebuild.errors import BuildError
from imagebuild.inspection.costs import Cost, chunks
from imagebuild.steps.initrd.modules import KernelModules, choose_modules, read_modules
from updater.repository.objects import MAX_LEVEL, packed_bytes


@dataclass(frozen=True)
class DriverSet:
    """What a value of `drivers:` adds to the sets before it.

    Attributes:
        modules: How many kernel modules.
        cost: Bytes of those, and what they come to in the initrd.
        lacking: Kinds of disks of this set and the ones before it that the kernel has no driver for.
    """

    modules: int
    cost: Cost
    lacking: tuple[str, ...]


def driver_sets(root: Path, progress: Progress) -> dict[str, DriverSet]:
    """The sets of drivers by name, smallest first, for the one kernel of the unpacked root filesystem at `root`.

    Raises:
        BuildError: It holds no kernel, or several.
    """
    folders = [path for path in (root / "usr/lib/modules").glob("*") if path.is_dir()]
    if len(folders) != 1:
        raise BuildError(f"the image holds modules of {len(folders)} kernels")
    (folder,) = folders
    kernel, content = read_modules(folder), load_content()
    before = choose_modules(kernel, replace(content, disks={}), Drivers.CLOUD).modules
    found = {}
    for drivers in Drivers:
        choice = choose_modules(kernel, content, drivers)
        added = sorted(choice.modules - before)
        progress.step(f"pack the drivers of {drivers.value}", total=len(added))
        found[drivers.value] = DriverSet(len(added), _cost(folder, kernel, added, progress), choice.lacking)
        before |= choice.modules
    return found


def _cost(folder: Path, kernel: KernelModules, names: list[str], progress: Progress) -> Cost:
    paths = [folder / kernel.files[name] for name in names]

    def content() -> Iterator[bytes]:
        for path in paths:
            yield from chunks(path)
            progress.advance(1)

    raw = sum(path.stat().st_size for path in paths)
    return Cost(raw, packed_bytes(content(), size_bytes=raw, level=MAX_LEVEL) if raw else 0)
