"""Everything a build was put together from: Debian packages, wheels, our own code, and which parts hold them.

Gathered from the working folder of a build, read only.
"""

from __future__ import annotations

import enum
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.parser import BytesParser
from importlib.metadata import version as version_of
from pathlib import Path

from bedrock.digest import file_sha256
from imagebuild.attest.archive import PackageId, package_archives, package_hashes
from imagebuild.attest.licences import Licences, debian_licences, wheel_licences
from imagebuild.attest.linked import Linked, linked_by_owner
from imagebuild.attest.owners import interpreter_owners, owners_of, wheel_is_shipped
from imagebuild.definition.sources import DEBIAN
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import RELEASE as TOOLS_RELEASE
from imagebuild.inputs.wheels import agent_wheels
from imagebuild.inspection.contents import AGENT, BUILD, DEFINITION, Contents
from imagebuild.steps.boot import LOADER_PROGRAM, STUB
from imagebuild.steps.dpkg import InstalledPackage, read_database
from imagebuild.steps.products import Initrd, PackageTree
from imagebuild.steps.workshop import Workshop


class ReleasePart(enum.Enum):
    """A part of a release that a component went into."""

    ROOT = "root file system"
    KERNEL = "kernel"
    INITRD = "initrd"
    AGENT = "agent"
    INTERPRETER = "agent's interpreter"
    LOADER = "boot loader"
    STUB = "UKI stub"


@dataclass(frozen=True)
class DebianPackage:
    """A binary package.

    Attributes:
        parts: The parts of the release that hold some of it; empty when it was only installed for the build.
        built_using: Statically linked source packages and their versions, according to its maintainers.
        linked: Statically linked components, according to its programs.
        archive: `debian`, or the source or `local` folder it came from.
    """

    id: PackageId
    source: str
    source_version: str
    release: str
    summary: str
    licences: Licences
    sha256: str | None
    parts: tuple[ReleasePart, ...]
    built_using: tuple[tuple[str, str], ...] = ()
    linked: frozenset[Linked] = frozenset()
    archive: str = DEBIAN


@dataclass(frozen=True)
class Wheel:
    """A Python package of the agent; `shipped` is false when nothing of it is left after trimming."""

    name: str
    version: str
    summary: str
    licences: Licences
    sha256: str
    shipped: bool


@dataclass(frozen=True)
class Own:
    """Twinhull itself: its version, and the hash of its files that decide the image's bytes."""

    version: str
    source_sha256: str


@dataclass(frozen=True)
class Materials:
    """What a build was made from: packages by name, wheels by name; `linked` is in programs that came in no package."""

    packages: tuple[DebianPackage, ...]
    wheels: tuple[Wheel, ...]
    own: Own
    linked: frozenset[Linked] = frozenset()


@dataclass(frozen=True)
class InstalledTree:
    """A tree of installed packages: dpkg's record, copyright files, what of it went where, what is linked into it."""

    installed: tuple[InstalledPackage, ...]
    copyright: Path
    release: str
    parts: Mapping[ReleasePart, frozenset[str]]
    nested: bool = False
    linked: Mapping[str, frozenset[Linked]] = field(default_factory=dict)

    def licences(self, name: str) -> Licences:
        """What a package of the tree declares."""
        return debian_licences(self.copyright / name / "copyright" if self.nested else self.copyright / name)


def gather(shop: Workshop, contents: Contents, tree: PackageTree, in_initrd: Initrd) -> Materials:
    """Read what the steps of a build made, and the caches they used.

    Raises:
        BuildError: A record is missing, or a wheel cannot be read.
    """
    agent = frozenset(entry.path for entry in contents.entries if entry.owner == AGENT)
    shipped = frozenset(package.name for package in contents.shipped)
    image, initrd, tools = trees_of(shop, tree, in_initrd, agent=agent, shipped=shipped)
    wanted = {_id(package) for each in (image, initrd) for package in each.installed}
    wanted |= {_id(package) for package in _used(tools)}
    hashes = package_hashes(wanted, shop.plan.supply)
    wheels = agent_wheels(shop.tools, shop.plan.cache)
    linked = linked_by_owner(tree.root, contents.entries)
    archives = package_archives(shop.plan.supply)
    packages = merge((replace(image, linked=linked), initrd, tools), hashes)
    return Materials(
        packages=tuple(replace(each, archive=archives.get(each.id, DEBIAN)) for each in packages),
        wheels=tuple(sorted((read_wheel(path, agent) for path in wheels), key=lambda wheel: wheel.name)),
        own=Own(version_of("twinhull"), shop.plan.program_sha256),
        linked=linked.get(DEFINITION, frozenset()) | linked.get(BUILD, frozenset()),
    )


def trees_of(
    shop: Workshop, packages: PackageTree, in_initrd: Initrd, *, agent: frozenset[str], shipped: frozenset[str]
) -> tuple[InstalledTree, InstalledTree, InstalledTree]:
    """The image's, the initrd's and the tools tree.

    Args:
        shop: The build.
        packages: The package tree.
        in_initrd: The initrd.
        agent: Paths of the agent's files in the image.
        shipped: The packages of which the root file system holds something.

    Raises:
        BuildError: A record is missing.
    """
    release = shop.plan.definition.release
    installed, unpacked = read_database(packages.record), read_database(in_initrd.record)
    tools = read_database(shop.tools.root / "var/lib/dpkg")
    kernel, names = packages.kernel.version, in_initrd.names
    kernels = owners_of((f"/boot/vmlinuz-{kernel}", f"/usr/lib/modules/{kernel}/vmlinuz"), installed)
    # Modules, firmware and microcode in the initrd are the image's own.
    modules = owners_of(
        (name for name in names if name.startswith(("/usr/lib/modules/", "/usr/lib/firmware/"))), installed
    )
    image = InstalledTree(
        installed,
        packages.record / "copyright",
        release,
        {ReleasePart.ROOT: shipped, ReleasePart.KERNEL: kernels, ReleasePart.INITRD: modules},
    )
    initrd = InstalledTree(
        unpacked, in_initrd.record / "copyright", release, {ReleasePart.INITRD: owners_of(names, unpacked)}
    )
    used = {
        ReleasePart.INTERPRETER: interpreter_owners(agent, tools),
        ReleasePart.LOADER: owners_of((f"/{LOADER_PROGRAM}",), tools),
        ReleasePart.STUB: owners_of((f"/{STUB}",), tools),
    }
    return image, initrd, InstalledTree(tools, shop.tools.root / "usr/share/doc", TOOLS_RELEASE, used, nested=True)


def merge(trees: Iterable[InstalledTree], hashes: Mapping[PackageId, str]) -> tuple[DebianPackage, ...]:
    """One entry for each package of the trees, with all its parts; of the tools tree only what is shipped."""
    found: dict[PackageId, DebianPackage] = {}
    for tree in trees:
        for package in _used(tree) if tree.nested else tree.installed:
            key = _id(package)
            parts = {part for part, names in tree.parts.items() if package.name in names}
            if key in found:
                parts |= set(found[key].parts)
            found[key] = DebianPackage(
                id=key,
                source=package.source,
                source_version=package.source_version,
                release=tree.release,
                summary=package.summary,
                licences=found[key].licences if key in found else tree.licences(package.name),
                sha256=hashes.get(key),
                parts=tuple(part for part in ReleasePart if part in parts),
                built_using=package.built_using,
                linked=tree.linked.get(package.name, frozenset())
                | (found[key].linked if key in found else frozenset()),
            )
    return tuple(found[key] for key in sorted(found))


def read_wheel(path: Path, agent: Iterable[str]) -> Wheel:
    """A wheel's metadata, and whether the agent's files hold something of it.

    Raises:
        BuildError: It is no wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            name = next((name for name in members if name.endswith(".dist-info/METADATA") and name.count("/") == 1), "")
            metadata = BytesParser().parsebytes(archive.read(name) if name else b"", headersonly=True)
    except (OSError, zipfile.BadZipFile) as error:
        raise BuildError(f"{path} cannot be read as a wheel: {error}") from error
    if "Name" not in metadata or "Version" not in metadata:
        raise BuildError(f"{path} cannot be read as a wheel: its METADATA has no name or no version")
    return Wheel(
        name=str(metadata["Name"]),
        version=str(metadata["Version"]),
        summary=str(metadata.get("Summary", "")),
        licences=wheel_licences(metadata),
        sha256=file_sha256(path),
        shipped=wheel_is_shipped(members, agent),
    )


def _used(tree: InstalledTree) -> list[InstalledPackage]:
    names = frozenset().union(*tree.parts.values())
    return [package for package in tree.installed if package.name in names]


def _id(package: InstalledPackage) -> PackageId:
    return PackageId(package.name, package.version, package.architecture)
