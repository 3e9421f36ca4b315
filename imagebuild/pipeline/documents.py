"""The documents of a finished build: `release.json`, its contents, and a summary for people and scripts.

`packages.json` is the short list of shipped packages; `contents.json` lists every file and its owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bedrock import strict
from bedrock.digest import file_sha256
from imagebuild.inspection.contents import Contents
from imagebuild.inspection.summary import SUMMARY_FILE, Summary
from imagebuild.steps.products import BootPrograms, DiskImages, Initrd, Kernel, RootImage
from imagebuild.steps.workshop import Workshop
from updater.documents.build_files import ATTACHMENT_FILES, RELEASE_FILE
from updater.documents.release import FORMAT, Artifact, Artifacts, Release


@dataclass(frozen=True)
class ShippedPackage:
    """A Debian package of the image, and the source package it was built from."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str


@dataclass(frozen=True)
class BuildProducts:
    """Everything that the steps of a build made, and the packages of which nothing starts, with their units."""

    contents: Contents
    kernel: Kernel
    initrd: Initrd
    root: RootImage
    boot: BootPrograms
    disk: DiskImages
    disabled_services: dict[str, tuple[str, ...]] = field(default_factory=dict)


def write_documents(
    shop: Workshop, made: BuildProducts, *, seconds: Mapping[str, float], notes: Iterable[str] = ()
) -> Summary:
    """Write `release.json`, `packages.json` and `summary.json` into the build's folder.

    Args:
        shop: The build.
        made: What it made.
        seconds: How long its parts took.
        notes: Notes for the person who builds the image.
    """
    definition, version = shop.plan.definition, shop.plan.version
    release = Release(
        format=FORMAT,
        image=definition.id,
        version=version,
        architecture=definition.architecture,
        root_hash=made.root.root_hash,
        artifacts=Artifacts(
            uki=artifact_of(made.boot.uki), root=artifact_of(made.root.root), verity=artifact_of(made.root.verity)
        ),
        attachments={
            name: artifact_of(shop.out / file) for name, file in ATTACHMENT_FILES.items() if (shop.out / file).is_file()
        },
        profile=shop.plan.profile.value if shop.plan.profile else None,
    )
    (shop.out / RELEASE_FILE).write_bytes(strict.dump_json(release))
    packages = tuple(
        ShippedPackage(each.name, each.version, each.architecture, each.source, each.source_version)
        for each in made.contents.shipped
    )
    (shop.out / "packages.json").write_bytes(strict.dump_json(packages))
    sizes = disk_sizes(made.disk) | {
        path.name: path.stat().st_size for path in (made.boot.uki, made.root.root, made.root.verity)
    }
    sizes["initrd"] = made.initrd.archive.stat().st_size
    summary = Summary(
        image=definition.id,
        version=version,
        root_hash=made.root.root_hash,
        kernel=made.kernel.version,
        packages=len(packages),
        size_bytes=sizes,
        seconds={name: round(value, 2) for name, value in seconds.items()},
        notes=tuple(notes),
        disabled_services=made.disabled_services,
        drivers=definition.drivers,
    )
    (shop.out / SUMMARY_FILE).write_bytes(strict.dump_json(summary))
    return summary


def artifact_of(path: Path) -> Artifact:
    """A file of a release, by its hash and its length."""
    return Artifact(sha256=file_sha256(path), size_bytes=path.stat().st_size)


def disk_sizes(disk: DiskImages) -> dict[str, int]:
    """The bytes that the disk images occupy, by name."""
    return {path.name: path.stat().st_blocks * 512 for path in (disk.raw, disk.qcow2)}
