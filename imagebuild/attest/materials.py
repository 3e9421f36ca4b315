"""Everything a build was put together from: Debian packages, wheels, our own code, and where each of them went.

Gathered from the working folder of a build, read only.
"""

from __future__ import annotations

import enum
import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.parser import BytesParser
from importlib.metadata import version as version_of
from pathlib import Path

from imagebuild.attest.archive import PackageId, package_hashes
from imagebuild.attest.licences import Licences, debian_licences, wheel_licences
from imagebuild.attest.linked import Linked, linked_by_owner
from imagebuild.attest.owners import interpreter_owners, owners_of, wheel_is_shipped
from imagebuild.definition import config
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import RELEASE as TOOLS_RELEASE
from imagebuild.inputs.wheels import agent_wheels
from imagebuild.inspection.contents import AGENT, BUILD, DEFINITION
from imagebuild.inspection.record import read_contents
from imagebuild.paths import DATA, SOURCE_ROOT
from imagebuild.steps.boot import LOADER_PROGRAM, STUB
from imagebuild.steps.dpkg import InstalledPackage, read_database
from imagebuild.steps.plan import tree_digest
from imagebuild.steps.workshop import Workshop

OWN_PACKAGES = ("bedrock", "keys", "partitions", "updater", "imagebuild")


class Part(enum.Enum):
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
        parts: Where something of it went; empty when it was installed for the build and nothing of it is shipped.
        built_using: Source packages and versions of which something is linked in statically, as its maintainers say.
        linked: What its programs say is linked in.
    """

    id: PackageId
    source: str
    source_version: str
    release: str
    summary: str
    licences: Licences
    sha256: str | None
    parts: tuple[Part, ...]
    built_using: tuple[tuple[str, str], ...] = ()
    linked: frozenset[Linked] = frozenset()


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
    """Twinhull itself: its version, and the hash of the sources that built the image and run on it."""

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
class Tree:
    """A tree of installed packages: dpkg's record, copyright files, what of it went where, what is linked into it."""

    installed: tuple[InstalledPackage, ...]
    copyright: Path
    release: str
    parts: Mapping[Part, frozenset[str]]
    nested: bool = False
    linked: Mapping[str, frozenset[Linked]] = field(default_factory=dict)

    def licences(self, name: str) -> Licences:
        """What a package of the tree declares."""
        return debian_licences(self.copyright / name / "copyright" if self.nested else self.copyright / name)


def gather(shop: Workshop) -> Materials:
    """Read what the steps of a build left behind, and the caches they used.

    Raises:
        BuildError: A record is missing, or a wheel cannot be read.
    """
    contents = read_contents(shop.out)
    agent = frozenset(entry.path for entry in contents.entries if entry.owner == AGENT)
    image, initrd, tools = trees_of(shop, agent, frozenset(package.name for package in contents.shipped))
    wanted = {_id(package) for tree in (image, initrd) for package in tree.installed}
    wanted |= {_id(package) for package in _used(tools)}
    hashes = package_hashes(wanted, shop.plan.supply)
    wheels = agent_wheels(shop.tools, shop.plan.cache)
    linked = linked_by_owner(shop.folders.output / "tree", contents.entries)
    return Materials(
        packages=merge((replace(image, linked=linked), initrd, tools), hashes),
        wheels=tuple(sorted((read_wheel(path, agent) for path in wheels), key=lambda wheel: wheel.name)),
        own=Own(version_of("twinhull"), tree_digest((DATA, *(SOURCE_ROOT / name for name in OWN_PACKAGES)))),
        linked=linked.get(DEFINITION, frozenset()) | linked.get(BUILD, frozenset()),
    )


def trees_of(shop: Workshop, agent: frozenset[str], shipped: frozenset[str]) -> tuple[Tree, Tree, Tree]:
    """The image's, the initrd's and the tools tree.

    Args:
        shop: The build.
        agent: Paths of the agent's files in the image.
        shipped: The packages of which the root file system holds something.

    Raises:
        BuildError: A record is missing.
    """
    release = shop.plan.definition.release
    record, initrd_record = shop.folders.output / "dpkg", shop.work / config.INITRD_RECORD
    installed, in_initrd = read_database(record), read_database(initrd_record)
    tools = read_database(shop.tools.root / "var/lib/dpkg")
    kernel = (shop.folders.output / "kernel-version").read_text().strip()
    names = (initrd_record / "names").read_text().splitlines()
    kernels = owners_of((f"/boot/vmlinuz-{kernel}", f"/usr/lib/modules/{kernel}/vmlinuz"), installed)
    # The modules in the initrd are the image's own.
    modules = owners_of((name for name in names if name.startswith("/usr/lib/modules/")), installed)
    image = Tree(
        installed,
        record / "copyright",
        release,
        {Part.ROOT: shipped, Part.KERNEL: kernels, Part.INITRD: modules},
    )
    initrd = Tree(in_initrd, initrd_record / "copyright", release, {Part.INITRD: owners_of(names, in_initrd)})
    used = {
        Part.INTERPRETER: interpreter_owners(agent, tools),
        Part.LOADER: owners_of((f"/{LOADER_PROGRAM}",), tools),
        Part.STUB: owners_of((f"/{STUB}",), tools),
    }
    return image, initrd, Tree(tools, shop.tools.root / "usr/share/doc", TOOLS_RELEASE, used, nested=True)


def merge(trees: Iterable[Tree], hashes: Mapping[PackageId, str]) -> tuple[DebianPackage, ...]:
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
                parts=tuple(part for part in Part if part in parts),
                built_using=package.built_using,
                linked=tree.linked.get(package.name, frozenset())
                | (found[key].linked if key in found else frozenset()),
            )
    return tuple(found[key] for key in sorted(found))


def read_wheel(path: Path, agent: Iterable[str]) -> Wheel:
    """What a wheel says of itself, and whether the agent's files hold something of it.

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
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        shipped=wheel_is_shipped(members, agent),
    )


def _used(tree: Tree) -> list[InstalledPackage]:
    names = frozenset().union(*tree.parts.values())
    return [package for package in tree.installed if package.name in names]


def _id(package: InstalledPackage) -> PackageId:
    return PackageId(package.name, package.version, package.architecture)
