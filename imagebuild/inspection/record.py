"""Writing the record of an image's contents at the end of a build."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bedrock import strict
from imagebuild.definition.base import DEFAULTS
from imagebuild.definition.config import installed_name
from imagebuild.definition.image import ImageDefinition
from imagebuild.errors import BuildError
from imagebuild.inspection.contents import CONTENTS_FILE, Contents, EntryKind, make_contents
from imagebuild.inspection.setuid import require_expected
from imagebuild.paths import DATA
from imagebuild.steps.dpkg import read_database
from imagebuild.steps.leave_out.reach import Reason
from imagebuild.steps.placed import placed_files
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.products import PackageTree
from imagebuild.steps.workshop import Workshop

BASE, ESSENTIAL = "every Twinhull image", "every Debian system"
_KINDS = {"f": EntryKind.FILE, "l": EntryKind.LINK, "d": EntryKind.FOLDER}
_TIMEOUT_S = 120
_PACKAGES = re.compile(r"^Packages=(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)


def record_contents(shop: Workshop, tree: PackageTree, stays: Mapping[str, Reason]) -> Contents:
    """Write `contents.json` into the build's folder.

    Raises:
        BuildError: The package tree or dpkg's record of it cannot be read, or a program is setuid that must not be.
    """
    definition = shop.plan.definition
    # Without root the tree belongs to other users of the build's namespace, so it is read from inside.
    listing = shop.tools.run(
        ["find", tree.root, "-mindepth", "1", "-printf", r"%y %m %s /%P\0"], shop.access, timeout_s=_TIMEOUT_S
    ).stdout
    placed = placed_files(shop)
    installed = read_database(tree.record)
    asked = {package.name: ESSENTIAL for package in installed if package.essential}
    asked |= dict.fromkeys(base_of(definition), BASE)
    asked |= dict.fromkeys(definition.hardening.packages, "image.yaml: hardening")
    asked |= {definition.kernel: "image.yaml: kernel"} | asked_for(shop.plan)
    contents = make_contents(
        image=definition.id,
        version=shop.plan.version,
        asked=asked,
        installed=installed,
        names=parse_listing(listing),
        agent=placed.ours,
        definition=placed.definition,
        stays=stays,
    )
    require_expected(contents, definition.hardening.setuid)
    (shop.out / CONTENTS_FILE).write_bytes(strict.dump_json(contents))
    return contents


def base_of(definition: ImageDefinition) -> tuple[str, ...]:
    """The packages that every image has, unless it chose otherwise."""
    chosen = (name for part in definition.chosen if part in DEFAULTS for name in part.packages)
    return (*base_packages((DATA / "image.conf").read_text()), *chosen)


def asked_for(plan: BuildPlan) -> dict[str, str]:
    """The packages that a definition requests, by name or through other keys, and where."""
    definition, local = plan.definition, plan.supply.packages.local
    implied = {package: f"image.yaml: {key}" for package, key in definition.implied_packages.items()}
    for part, key in zip(definition.chosen, ("containers.engine", "time"), strict=True):
        if part not in DEFAULTS:
            implied |= dict.fromkeys(part.packages, f"image.yaml: {key}")
    return implied | {installed_name(entry, local): "image.yaml: packages" for entry in definition.packages}


def read_contents(build: Path) -> Contents:
    """The record next to a finished build.

    Raises:
        BuildError: There is none.
        DocumentError: It was changed by hand, or written by another version of this program.
    """
    path = build / CONTENTS_FILE
    if not path.is_file():
        raise BuildError(f"{build} holds no {CONTENTS_FILE}: it is not a finished build").with_hint(
            "name the folder that `twinhull build` wrote, such as out/ID/VERSION"
        )
    return strict.read_json(Contents, path.read_bytes(), source=str(path))


def base_packages(text: str) -> tuple[str, ...]:
    """The packages that mkosi's configuration `text` requests."""
    return tuple(name for found in _PACKAGES.findall(text) for name in found.split())


def parse_listing(text: str) -> Iterator[tuple[str, EntryKind, int, int]]:
    """Path, kind, mode and size of what `find` listed; devices and sockets have no place in an image.

    Raises:
        BuildError: There is one.
    """
    for line in filter(None, text.split("\0")):
        letter, mode, size, path = line.split(" ", 3)
        if letter not in _KINDS:
            raise BuildError(f"the image holds {path}, which is neither file nor link nor folder")
        kind = _KINDS[letter]
        yield path, kind, int(mode, 8), int(size) if kind is EntryKind.FILE else 0
