"""The documents of a finished build: `release.json`, what it holds, and a summary for people and scripts.

`packages.json` is the short list of what is shipped; `contents.json` holds every file and where it comes from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bedrock import strict
from imagebuild.inspection.record import read_contents
from imagebuild.inspection.summary import SUMMARY_FILE, Summary
from imagebuild.steps.workshop import Workshop
from updater.release import FORMAT, Artifact, Artifacts, Release
from updater.repository.publish import ATTACHMENT_FILES


@dataclass(frozen=True)
class Package:
    """A Debian package of the image, and the source package it was built from."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str


def write_documents(shop: Workshop) -> Summary:
    """Write `release.json`, `packages.json` and `summary.json` into the build's folder."""
    definition, version = shop.plan.definition, shop.plan.version
    root_hash = (shop.work / "root-hash").read_text()
    release = Release(
        format=FORMAT,
        image=definition.id,
        version=version,
        architecture=definition.architecture,
        root_hash=root_hash,
        artifacts=Artifacts(
            uki=_artifact(shop.out / "uki.efi"),
            root=_artifact(shop.out / "root.erofs"),
            verity=_artifact(shop.out / "root.verity"),
        ),
        attachments={
            name: _artifact(shop.out / file) for name, file in ATTACHMENT_FILES.items() if (shop.out / file).is_file()
        },
        profile=shop.plan.profile.value if shop.plan.profile else None,
    )
    (shop.out / "release.json").write_bytes(strict.dump_json(release))
    shipped = read_contents(shop.out).shipped
    packages = tuple(
        Package(each.name, each.version, each.architecture, each.source, each.source_version) for each in shipped
    )
    (shop.out / "packages.json").write_bytes(strict.dump_json(packages))
    sizes = {name: (shop.out / name).stat().st_blocks * 512 for name in ("disk.raw", "disk.qcow2")}
    sizes |= {name: (shop.out / name).stat().st_size for name in ("uki.efi", "root.erofs", "root.verity")}
    sizes["initrd"] = (shop.work / "initrd.cpio.zst").stat().st_size
    summary = Summary(
        image=definition.id,
        version=version,
        root_hash=root_hash,
        kernel=(shop.folders.output / "kernel-version").read_text().strip(),
        packages=len(packages),
        size_bytes=sizes,
        seconds={name: round(value, 2) for name, value in shop.seconds.items()},
        notes=tuple(shop.notes),
    )
    (shop.out / SUMMARY_FILE).write_bytes(strict.dump_json(summary))
    return summary


def _artifact(path: Path) -> Artifact:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Artifact(sha256=digest, size_bytes=path.stat().st_size)
