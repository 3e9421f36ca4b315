"""Image makers for tests of what surrounds the steps of a build: they write small files and hand on real values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bedrock import strict
from imagebuild.inspection.contents import CONTENTS_FILE, FORMAT, Contents, EntryKind, ImageEntry, Package
from imagebuild.pipeline.budget_watch import Watch
from imagebuild.pipeline.documents import BuildProducts
from imagebuild.pipeline.runner import StepRunner
from imagebuild.steps.products import BootPrograms, DiskImages, Initrd, Kernel, RootImage
from imagebuild.steps.workshop import Workshop
from partitions.version import Version
from updater.documents.release import ArtifactKind

ROOT_HASH = "ab" * 32

Look = Callable[[Workshop], object]


def contents_of(version: str, names: str = "ab", *, trimmed: str = "") -> Contents:
    """An image in which each of these packages has one file; of those that are `trimmed` nothing is left."""
    return Contents(
        format=FORMAT,
        image="host",
        version=Version(version),
        asked={},
        packages=tuple(Package(name, "1", "amd64", name, "1", "", (), ()) for name in names + trimmed),
        entries=tuple(ImageEntry(f"/{name}", EntryKind.FILE, 0o644, ord(name), name) for name in names),
    )


@dataclass
class FakeMaker:
    """Makes an image in four steps: contents, file systems, uki, disk.

    Attributes:
        names: The packages it holds.
        trimmed: Those of which nothing is left.
        artifacts: The content of each artifact.
        initrd_bytes: The size of its initrd.
        before: Called at the beginning of each step by this name.
        shops: The builds it was asked for.
    """

    names: str = "ab"
    trimmed: str = ""
    artifacts: dict[ArtifactKind, bytes] = field(
        default_factory=lambda: {
            ArtifactKind.UKI: b"uki",
            ArtifactKind.ROOT: bytes(8192),
            ArtifactKind.VERITY: bytes(4096),
        }
    )
    initrd_bytes: int = 6
    before: dict[str, Look] = field(default_factory=dict)
    shops: list[Workshop] = field(default_factory=list)

    def __call__(self, shop: Workshop, steps: StepRunner, watch: Watch) -> BuildProducts:
        """Make the image (`imagebuild.pipeline.build.MakeImage`)."""
        self.shops.append(shop)
        shop.log.write_text("what the tools said\n")
        contents = steps.run("contents", lambda: self._contents(shop))
        watch.contents(contents)
        kernel, initrd, root = steps.run("file_systems", lambda: self._filesystems(shop))
        watch.filesystems(kernel, initrd, root)
        signed = steps.run("uki", lambda: self._uki(shop))
        watch.uki(signed.uki)
        disk = steps.run("disk", lambda: self._disk(shop))
        if watch.limits_wire:
            steps.run("budget", lambda: watch.wire((signed.uki, root.root, root.verity), steps.progress))
        return BuildProducts(contents, kernel, initrd, root, signed, disk)

    def _begin(self, name: str, shop: Workshop) -> None:
        if name in self.before:
            self.before[name](shop)

    def _contents(self, shop: Workshop) -> Contents:
        self._begin("contents", shop)
        found = contents_of(str(shop.plan.version), self.names, trimmed=self.trimmed)
        (shop.out / CONTENTS_FILE).write_bytes(strict.dump_json(found))
        return found

    def _filesystems(self, shop: Workshop) -> tuple[Kernel, Initrd, RootImage]:
        self._begin("file_systems", shop)
        kernel = Kernel("6.12", shop.work / "vmlinuz")
        initrd = Initrd(shop.work / "initrd.cpio.zst", shop.work / "record", ())
        kernel.file.write_bytes(b"kernel")
        initrd.archive.write_bytes(bytes(self.initrd_bytes))
        root = RootImage(ROOT_HASH, shop.artifact(ArtifactKind.ROOT), shop.artifact(ArtifactKind.VERITY))
        root.root.write_bytes(self.artifacts[ArtifactKind.ROOT])
        root.verity.write_bytes(self.artifacts[ArtifactKind.VERITY])
        return kernel, initrd, root

    def _uki(self, shop: Workshop) -> BootPrograms:
        self._begin("uki", shop)
        signed = BootPrograms(shop.artifact(ArtifactKind.UKI), shop.work / "loader.efi")
        signed.uki.write_bytes(self.artifacts[ArtifactKind.UKI])
        return signed

    def _disk(self, shop: Workshop) -> DiskImages:
        self._begin("disk", shop)
        disk = DiskImages(shop.out / "disk.raw", shop.out / "disk.qcow2")
        for path in (disk.raw, disk.qcow2):
            path.write_bytes(b"disk")
        return disk


def failing(error: BaseException) -> Look:
    """Raises this error."""

    def fail(_: Workshop) -> None:
        raise error

    return fail
