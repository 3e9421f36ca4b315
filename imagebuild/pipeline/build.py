"""Builds an image: the steps in order, each thin, each timed.

    packages fetched → agent → package tree (mkosi) → unneeded files are left out
    → its content settled and checked
    → root filesystem and verity tree (systemd-repart), and at the same time the initrd
    → UKI (ukify) → signatures → disk (systemd-repart)
    → bill of materials and provenance → documents

Everything is made in a working folder and moved to its place at the end in one step, so that a folder with
`inputs.json` is a complete build.  Not here: the configuration of the tools (`config.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bedrock import strict
from bedrock.locks import only_one
from bedrock.partial import partial_folder
from bedrock.persist import sync_folder, write_atomic
from bedrock.progress import Progress, Silent
from imagebuild.attest.documents import write_attestations
from imagebuild.content.settle import forgotten_services, settle
from imagebuild.inputs.tools import usual_umask
from imagebuild.inspection.absent import absent_notes
from imagebuild.inspection.record import asked_for, base_of, record_contents
from imagebuild.inspection.setuid import stripped_notes
from imagebuild.inspection.summary import Summary, read_summary
from imagebuild.paths import DATA, EPOCH, SOURCE_ROOT
from imagebuild.pipeline.budget_watch import Watch
from imagebuild.pipeline.documents import BuildProducts, write_documents
from imagebuild.pipeline.runner import StepRunner, both
from imagebuild.steps import boot, filesystems
from imagebuild.steps.agent_program import build_payload
from imagebuild.steps.checkout import copy_files
from imagebuild.steps.disk import make_disk
from imagebuild.steps.dpkg import read_database
from imagebuild.steps.initrd.image import make_initrd, make_programs
from imagebuild.steps.leave_out.leaving import leave_out
from imagebuild.steps.leave_out.reach import Reason
from imagebuild.steps.plan import INPUTS_FILE, BuildPlan
from imagebuild.steps.products import PackageTree
from imagebuild.steps.scratch import remove_tree, scratch_folder
from imagebuild.steps.workshop import Workshop
from updater.documents.build_files import SIGNING_REQUEST_FILE

UNSIGNED_NOTE = (
    f"UNSIGNED: a key of the boot is not here; take {SIGNING_REQUEST_FILE} to it (twinhull sign), "
    "then finish the build with it (twinhull finish)"
)
MakeImage = Callable[[Workshop, StepRunner, Watch], BuildProducts]


@dataclass(frozen=True)
class Built:
    """A finished build."""

    out: Path
    fresh: bool
    summary: Summary


def make_image(shop: Workshop, steps: StepRunner, watch: Watch) -> BuildProducts:
    """Run all steps of a build; writes to its working folder and below the cache.

    Raises:
        ImageBuildError: A step failed.
        BudgetError: A limit is exceeded by what is known so far.
    """
    steps.run("packages", lambda: shop.plan.supply.open_archive(steps.progress))
    steps.run("agent", lambda: _gather_extra(shop))
    tree, programs = steps.run(
        "package_tree", lambda: both(lambda: filesystems.make_tree(shop), lambda: make_programs(shop))
    )
    stays = steps.run("leave_out", lambda: _leave_out(shop, tree))
    settled = steps.run("settle", lambda: settle(shop, tree))
    contents = steps.run("contents", lambda: record_contents(shop, tree, stays))
    watch.contents(contents)
    steps.notes.extend(settled.notes)
    steps.notes.extend(stripped_notes(contents, tree.stripped))
    steps.notes.extend(absent_notes(contents, read_database(tree.record)))
    (root, initrd), _ = steps.run(
        "root_and_initrd",
        lambda: both(
            lambda: both(lambda: filesystems.make_root(shop, tree), lambda: make_initrd(shop, tree, programs)),
            lambda: filesystems.keep_installed(shop),
        ),
    )
    watch.filesystems(tree.kernel, initrd, root)
    unsigned = steps.run("uki", lambda: boot.make_uki(shop, tree, initrd, root))
    signed = steps.run("signatures", lambda: boot.sign(shop, unsigned))
    if (shop.out / SIGNING_REQUEST_FILE).is_file():
        steps.notes.append(UNSIGNED_NOTE)
    watch.uki(signed.uki)
    disk = steps.run("disk", lambda: make_disk(shop, root, signed))
    steps.run("attestations", lambda: write_attestations(shop, contents, tree, initrd))
    if watch.limits_wire:
        steps.run("budget", lambda: watch.wire((signed.uki, root.root, root.verity), steps.progress))
    forgotten = forgotten_services(settled, contents, shop.plan.definition.services)
    return BuildProducts(contents, tree.kernel, initrd, root, signed, disk, forgotten)


def build_image(plan: BuildPlan, *, progress: Progress | None = None, make: MakeImage = make_image) -> Built:
    """Build what the plan says; writes to its `out` and below its `cache`.

    Args:
        plan: What is built from what.
        progress: Shows the steps.
        make: Makes the image in the working folder.

    Raises:
        BuiltBeforeError: `out` holds this version, built from other content.
        BuildError: A step failed; the message names it and the log.
        BudgetError: The image outgrew its budget.
        MirrorError: A package could not be fetched.
        SpaceError: The disk or a slot is too small.
        KeysError: The key that signs the UKI cannot be opened.
    """
    shown = progress or Silent()
    if plan.finished:
        return _found(plan)
    plan.signatures.check()
    waiting = f"waiting for another build that uses {plan.cache}"
    with only_one(plan.cache / "build.lock", on_wait=lambda: shown.step(waiting)):
        # The build waited for may have been the same one.
        return _found(plan) if plan.finished else _build(plan, shown, make)


def _found(plan: BuildPlan) -> Built:
    return Built(plan.out, fresh=False, summary=read_summary(plan.out))


def _build(plan: BuildPlan, progress: Progress, make: MakeImage) -> Built:
    began = time.monotonic()
    download_bytes = sum(package.size_bytes for package in plan.supply.packages.packages)
    with (
        usual_umask(),
        partial_folder(plan.out, remove=remove_tree) as work,
        scratch_folder(plan.cache, download_bytes=download_bytes) as scratch,
    ):
        shop = Workshop(plan, work, scratch)
        steps = StepRunner(progress, shop.kept_log)
        try:
            shop.make_folders()
            copy_files(DATA / "scripts", shop.config / "scripts")
            filesystems.stage_definition(plan.folder, shop.definition)
            made = make(shop, steps, Watch(plan))
        except Exception:
            # Nothing of an interrupted build is kept.
            shop.keep_log()
            raise
        waited = {"tools_tree": plan.supply.seconds}
        total = {"total": plan.supply.seconds + time.monotonic() - began}
        summary = write_documents(shop, made, seconds=waited | steps.seconds | total, notes=steps.notes)
        write_atomic(shop.out / INPUTS_FILE, strict.dump_json(plan.inputs))
        if plan.out.exists():
            plan.out.rmdir()
        shop.out.rename(plan.out)
        sync_folder(plan.out.parent)
        shop.kept_log.unlink(missing_ok=True)
    return Built(plan.out, fresh=True, summary=summary)


def _gather_extra(shop: Workshop) -> None:
    """Assemble the files every image gets: the agent, our units, the definition's own files."""
    build_payload(
        destination=shop.extra,
        tools_root=shop.tools.root,
        cache=shop.plan.cache,
        source_root=SOURCE_ROOT,
        source_date_epoch=EPOCH,
    )
    filesystems.write_extra_files(shop, shop.extra)


def _leave_out(shop: Workshop, tree: PackageTree) -> dict[str, Reason]:
    """Remove the files to leave out; returns why the others of the set stay."""
    definition = shop.plan.definition
    base = (*base_of(definition), definition.kernel, *definition.hardening.packages)
    return leave_out(shop, tree, asked=asked_for(shop.plan), base=base)
