"""The report on one build: what it holds, what each part of it costs, raw and as a host downloads it.

Compressed sizes are measured, not guessed.  The artifacts are packed with the very parameters that publishing uses (a
minute for a root of 264 MB on two cores).  Parts are packed one by one (`costs.py`): there are two accounts of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bedrock.progress import Progress
from imagebuild.definition.drivers import Drivers
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import ToolsTree
from imagebuild.inspection.contents import Contents, EntryKind, ImageEntry
from imagebuild.inspection.costs import Cost, cost_of, unpacked_root
from imagebuild.inspection.drivers import DriverSet, driver_sets
from imagebuild.inspection.record import read_contents
from imagebuild.inspection.setuid import setuid_programs
from imagebuild.inspection.summary import SUMMARY_FILE, read_summary
from partitions.version import Version
from updater.repository.objects import packed_file_bytes

ARTIFACTS = ("uki.efi", "root.erofs", "root.verity")
_UNIT_FOLDER = "/usr/lib/systemd/system"
_PATH_FOLDERS = ("/usr/bin", "/usr/sbin")
_FOLDER_DEPTH = 3


@dataclass(frozen=True)
class PackageCost:
    """A package of the image, or what did not come in one; `why` leads from where it is asked for to itself."""

    name: str
    version: str | None
    files: int
    cost: Cost
    why: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """Everything that is reported about a build.

    `folders` are cut at a depth of three; `built_drivers` is the set of `drivers` that its initrd has, together with
    those before it, and None where an earlier Twinhull built it and did not say.
    """

    image: str
    version: Version
    wire_bytes: int
    uki_bytes: int
    initrd_bytes: int
    root_bytes: int
    packages: int
    artifacts: dict[str, Cost]
    brought: tuple[PackageCost, ...]
    trimmed: tuple[str, ...]
    folders: dict[str, Cost]
    executables: tuple[str, ...]
    setuid: tuple[str, ...]
    units: tuple[str, ...]
    enabled: tuple[str, ...]
    sockets: dict[str, tuple[str, ...]]
    modules: dict[str, int]
    drivers: dict[str, DriverSet]
    built_drivers: Drivers | None
    kernel_arguments: tuple[str, ...]


def inspect_build(build: Path, *, tools: ToolsTree, progress: Progress, drivers: bool = False) -> Inspection:
    """Look into a finished build; reads only, with a copy of the root filesystem in a temporary folder.

    Args:
        build: Its folder.
        tools: What unpacks it.
        progress: Hears of the steps.
        drivers: Also measure what each set of drivers costs in the initrd, which takes up to a minute.

    Raises:
        BuildError: It is not a finished build.
        DocumentError: One of its documents was changed by hand.
        ProcessError: The root filesystem cannot be read.
    """
    contents = read_contents(build)
    _require(build, (*ARTIFACTS, SUMMARY_FILE, "config/cmdline"))
    summary = read_summary(build)
    raw = {name: (build / name).stat().st_size for name in ARTIFACTS}
    progress.step("pack artifacts", total=sum(raw.values()))
    artifacts = {name: Cost(size, packed_file_bytes(build / name, progress=progress)) for name, size in raw.items()}
    progress.step("unpack the root filesystem")
    with unpacked_root(build, tools=tools) as root:
        files = [entry for entry in contents.entries if entry.kind is EntryKind.FILE]
        progress.step("pack by package", total=len(files))
        by_owner = _costs(root, files, lambda entry: entry.owner, progress)
        progress.step("pack by folder", total=len(files))
        by_folder = _costs(root, files, lambda entry: folder_of(entry.path), progress)
        sockets = dict(_sockets(root, contents))
        sets = driver_sets(root, progress) if drivers else {}
    return Inspection(
        image=contents.image,
        version=contents.version,
        wire_bytes=sum(cost.wire_bytes for cost in artifacts.values()),
        uki_bytes=artifacts["uki.efi"].raw_bytes,
        initrd_bytes=summary.size_bytes["initrd"],
        root_bytes=artifacts["root.erofs"].raw_bytes,
        packages=len(contents.shipped),
        artifacts=artifacts,
        brought=brought(contents, by_owner),
        trimmed=tuple(each.name for each in contents.packages if each not in contents.shipped),
        folders=dict(sorted(by_folder.items())),
        executables=_names(contents, _is_program),
        setuid=setuid_programs(contents),
        units=tuple(PurePosixPath(path).name for path in _names(contents, _is_unit)),
        enabled=tuple(sorted({PurePosixPath(path).name for path in _names(contents, _is_enabling)})),
        sockets=sockets,
        modules=_modules(contents),
        drivers=sets,
        built_drivers=summary.drivers,
        kernel_arguments=tuple((build / "config/cmdline").read_text().split()),
    )


def brought(contents: Contents, costs: dict[str, Cost]) -> tuple[PackageCost, ...]:
    """Who brought what, the largest first."""
    packages = {package.name: package for package in contents.packages}
    files: dict[str, int] = defaultdict(int)
    for entry in contents.entries:
        files[entry.owner] += entry.kind is not EntryKind.FOLDER
    found = (
        PackageCost(
            name=owner,
            version=packages[owner].version if owner in packages else None,
            files=count,
            cost=costs.get(owner, Cost(0, 0)),
            why=contents.reasons.get(owner, ()),
        )
        for owner, count in files.items()
        if count
    )
    return tuple(sorted(found, key=lambda each: (-each.cost.wire_bytes, each.name)))


def folder_of(path: str) -> str:
    """The folder a file is counted to: its own, or the one three steps below the root."""
    return "/" + "/".join(PurePosixPath(path).parts[1:-1][:_FOLDER_DEPTH])


def _costs(
    root: Path, files: Iterable[ImageEntry], key: Callable[[ImageEntry], str], progress: Progress
) -> dict[str, Cost]:
    groups: dict[str, list[ImageEntry]] = defaultdict(list)
    for entry in files:
        groups[key(entry)].append(entry)
    return {name: cost_of(root, group, progress) for name, group in groups.items()}


def _require(build: Path, names: Iterable[str]) -> None:
    if missing := [name for name in names if not (build / name).is_file()]:
        raise BuildError(f"{build} is not a finished build: it lacks {', '.join(missing)}")


def _names(contents: Contents, wanted: Callable[[ImageEntry], bool]) -> tuple[str, ...]:
    return tuple(entry.path for entry in contents.entries if wanted(entry))


def _is_program(entry: ImageEntry) -> bool:
    return str(PurePosixPath(entry.path).parent) in _PATH_FOLDERS and entry.kind is not EntryKind.FOLDER


def _is_unit(entry: ImageEntry) -> bool:
    return str(PurePosixPath(entry.path).parent) == _UNIT_FOLDER and entry.kind is not EntryKind.FOLDER


def _is_enabling(entry: ImageEntry) -> bool:
    parent = PurePosixPath(entry.path).parent
    return (
        "/systemd/system/" in f"{parent}" and parent.suffix in {".wants", ".requires"} and entry.kind is EntryKind.LINK
    )


def _sockets(root: Path, contents: Contents) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What systemd listens on, by unit."""
    for path in _names(contents, _is_unit):
        unit = root / path.lstrip("/")
        if unit.suffix == ".socket" and unit.is_file() and not unit.is_symlink():
            lines = (line.partition("=") for line in unit.read_text().splitlines() if line.startswith("Listen"))
            yield unit.name, tuple(value.strip() for _, _, value in lines)


def _modules(contents: Contents) -> dict[str, int]:
    """Bytes of kernel modules by their folder below `kernel/`."""
    found: dict[str, int] = defaultdict(int)
    for entry in contents.entries:
        if entry.path.endswith(".ko") and "/kernel/" in entry.path:
            found["/".join(entry.path.split("/kernel/", 1)[1].split("/")[:2])] += entry.size_bytes
    return dict(sorted(found.items()))
