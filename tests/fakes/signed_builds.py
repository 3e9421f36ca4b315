"""Builds whose programs are really signed, made by tools that a test plays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from bedrock import strict
from bedrock.digest import file_sha256
from bedrock.process import Finished
from imagebuild.inspection.contents import CONTENTS_FILE
from imagebuild.pipeline.budget_watch import Watch
from imagebuild.pipeline.build import UNSIGNED_NOTE, Built, build_image
from imagebuild.pipeline.documents import BuildProducts
from imagebuild.pipeline.runner import StepRunner
from imagebuild.steps import boot
from imagebuild.steps.disk import make_disk
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.products import Initrd, Kernel, RootImage
from imagebuild.steps.signing import KeySource
from imagebuild.steps.workshop import Workshop
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from partitions.layout import identity_of
from tests.fakes.definitions import plan_in
from tests.fakes.gpt_disk import SECTOR, disk_image, twin_parts
from tests.fakes.image_makers import ROOT_HASH, contents_of
from tests.fakes.pe_files import pe_file
from tests.fakes.played_tools import Call, PlayedTools
from tests.fakes.twin_host import asked_for
from tests.fakes.ukis import unsigned_uki
from updater.documents.build_files import SIGNING_REQUEST_FILE
from updater.documents.release import ArtifactKind
from updater.documents.statement import (
    BUILD_TYPE,
    BUILDER_ID,
    PROVENANCE_FILE,
    BuildDefinition,
    Builder,
    ExternalParameters,
    InternalParameters,
    Provenance,
    RunDetails,
    dump_statement,
    make_statement,
)


@dataclass(frozen=True)
class DiskTools(PlayedTools):
    """Makes disks whose bytes stand for the files that went into them."""

    def play(self, call: Call) -> Finished:
        if call.words[0] == "systemd-repart":
            source = Path(next(word.removeprefix("--root=") for word in call.words if word.startswith("--root=")))
            digest = hashlib.sha256(" ".join(word for word in call.words if "/" not in word).encode())
            for path in sorted(source.rglob("*")):
                digest.update(str(path.relative_to(source)).encode())
                digest.update(path.read_bytes() if path.is_file() else b"")
            (uki,) = (source / "xbootldr/EFI/Linux").iterdir()
            Path(call.words[-1]).write_bytes(disk_of(asked_for(uki.read_bytes()), digest.digest()))
        if call.words[0] == "qemu-img":
            Path(call.words[-1]).write_bytes(b"qcow2 of " + Path(call.words[-2]).read_bytes())
        return call.end()


def disk_of(root_hash: str, mark: bytes) -> bytes:
    """A small disk whose slot A holds a root hash; `mark` is at the beginning of its first partition."""
    parts, identity = twin_parts(), identity_of(root_hash)
    parts[2] = replace(parts[2], uuid=identity.data_uuid)
    parts[3] = replace(parts[3], uuid=identity.verity_uuid)
    image = bytearray(disk_image(parts))
    at = parts[0].first_lba * SECTOR
    image[at : at + len(mark)] = mark
    return bytes(image)


def make_programs(shop: Workshop, steps: StepRunner, watch: Watch) -> BuildProducts:
    """Make an image of small files with real programs (`imagebuild.pipeline.build.MakeImage`)."""
    contents = contents_of(str(shop.plan.version))
    (shop.out / CONTENTS_FILE).write_bytes(strict.dump_json(contents))
    shop.config.mkdir(exist_ok=True)
    root = RootImage(ROOT_HASH, shop.artifact(ArtifactKind.ROOT), shop.artifact(ArtifactKind.VERITY))
    root.root.write_bytes(bytes(8192))
    root.verity.write_bytes(bytes(4096))
    kernel, initrd = Kernel("6.12", shop.work / "vmlinuz"), Initrd(shop.work / "initrd", shop.work / "record", ())
    for path in (kernel.file, initrd.archive):
        path.write_bytes(b"x")
    uki = shop.work / "unsigned.efi"
    uki.write_bytes(unsigned_uki(shop.plan, root_hash=ROOT_HASH))
    programs = boot.sign(shop, uki)
    if (shop.out / SIGNING_REQUEST_FILE).is_file():
        steps.notes.append(UNSIGNED_NOTE)
    disk = make_disk(shop, root, programs)
    _write_provenance(shop)
    return BuildProducts(contents, kernel, initrd, root, programs, disk)


def plan_with_tools(folder: Path) -> BuildPlan:
    """A plan whose tools are played, with a boot loader among them."""
    plan = plan_in(folder)
    tools = DiskTools(plan.cache / "tools/abc")
    loader = tools.root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    loader.parent.mkdir(parents=True)
    loader.write_bytes(pe_file(b"loader"))
    (tools.root / ".complete").touch()
    return replace(plan, supply=replace(plan.supply, tools=tools))


def build_signed(plan: BuildPlan) -> Built:
    """Build with the key."""
    return build_image(plan, make=make_programs)


def build_unsigned(plan: BuildPlan, out: Path, *, without: tuple[str, ...] = ("db",)) -> Built:
    """The same build by somebody who has only the certificates of these keys, in another place."""
    assert isinstance(plan.signatures, KeySource)
    folder = plan.signatures.keyring.folder
    kept = [(folder / f"{name}.pem").rename(folder.parent / f"{name}.pem") for name in without]
    source = KeySource(Keyring.load(folder), NoPassphrase(), later=True)
    built = build_image(replace(plan, out=out, signatures=source), make=make_programs)
    for path in kept:
        path.rename(folder / path.name)
    return built


def _write_provenance(shop: Workshop) -> None:
    subjects = {kind.file_name: file_sha256(shop.artifact(kind)) for kind in ArtifactKind}
    asked = ExternalParameters("host", "1.0.0", "", "a" * 64, "b" * 64)
    inner = InternalParameters("0.1.0", "c" * 64, shop.tools.identity, "d" * 64)
    predicate = Provenance(BuildDefinition(BUILD_TYPE, asked, inner, ()), RunDetails(Builder(BUILDER_ID)))
    (shop.out / PROVENANCE_FILE).write_bytes(dump_statement(make_statement(subjects, predicate)))
