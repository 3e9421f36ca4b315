"""Building an image: the steps in order, each thin, each timed.

    packages fetched → agent → package tree (mkosi)
    → root filesystem and verity tree (systemd-repart), and beside it the initrd
    → UKI (ukify) → signatures (sbsign) → disk (systemd-repart)
    → bill of materials and provenance → documents

Everything is made in a working folder and moved to its place at the end in one step, so that a folder that holds
`inputs.json` is a whole build.  Not here: what the tools are told (`config.py`).
"""

from __future__ import annotations

import errno
import glob
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedrock import strict
from bedrock.errors import ProcessError
from bedrock.persist import sync_folder, write_atomic
from bedrock.progress import Progress, Silent
from imagebuild.attest.documents import write_attestations
from imagebuild.diagnosis import explain
from imagebuild.errors import ImageBuildError, SpaceError
from imagebuild.inputs.tools import usual_umask
from imagebuild.inspection.record import record_contents
from imagebuild.inspection.summary import Summary, read_summary
from imagebuild.locking import held_folder, only_one
from imagebuild.paths import DATA, EPOCH, SOURCE_ROOT
from imagebuild.pipeline.budget_watch import Watch
from imagebuild.pipeline.documents import write_documents
from imagebuild.steps import boot, filesystems
from imagebuild.steps.agent_program import build_payload
from imagebuild.steps.initrd.image import make_initrd, make_programs
from imagebuild.steps.plan import INPUTS_FILE, BuildPlan
from imagebuild.steps.scratch import remove_tree, scratch_folder
from imagebuild.steps.workshop import Workshop

Step = Callable[[Workshop, Progress], None]


@dataclass(frozen=True)
class Built:
    """A finished build."""

    out: Path
    fresh: bool
    summary: Summary


def build_image(plan: BuildPlan, *, progress: Progress | None = None) -> Built:
    """Build what the plan says; writes to its `out` and below its `cache`.

    Raises:
        BuiltBeforeError: `out` holds this version, built from other content.
        BuildError: A step failed; the message names it and the log.
        BudgetError: The image outgrew its budget.
        MirrorError: A package could not be fetched.
        SpaceError: The disk or a slot is too small.
        KeysError: The key that signs the UKI cannot be opened.
    """
    told = progress or Silent()
    if plan.finished:
        return _found(plan)
    plan.signatures.check()
    waiting = f"waiting for another build that uses {plan.cache}"
    with only_one(plan.cache / "build.lock", on_wait=lambda: told.step(waiting)):
        # The build waited for may have been this very one.
        return _found(plan) if plan.finished else _build(plan, told)


def _found(plan: BuildPlan) -> Built:
    return Built(plan.out, fresh=False, summary=read_summary(plan.out))


def _build(plan: BuildPlan, progress: Progress) -> Built:
    began = time.monotonic()
    seconds = {"tools_tree": plan.supply.seconds}
    download_bytes = sum(package.size_bytes for package in plan.supply.packages.packages)
    with (
        usual_umask(),
        _working_folder(plan.out) as work,
        scratch_folder(plan.cache, download_bytes=download_bytes) as scratch,
    ):
        shop = Workshop(plan, work, scratch, seconds)
        try:
            _run_steps(shop, progress)
        except Exception:
            # Of an interrupted build nothing is kept.
            shop.keep_log()
            raise
        shop.seconds["total"] = plan.supply.seconds + time.monotonic() - began
        summary = write_documents(shop)
        write_atomic(shop.out / INPUTS_FILE, strict.dump_json(plan.inputs))
        if plan.out.exists():
            plan.out.rmdir()
        shop.out.rename(plan.out)
        sync_folder(plan.out.parent)
        shop.kept_log.unlink(missing_ok=True)
    return Built(plan.out, fresh=True, summary=summary)


@contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, removed at the end; those of builds that were killed are removed first."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for stale in out.parent.glob(f".{glob.escape(out.name)}.*.partial"):
        with held_folder(stale) as free:
            if free:
                remove_tree(stale)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    with held_folder(work):
        try:
            yield work
        finally:
            remove_tree(work)


def _run_steps(shop: Workshop, progress: Progress) -> None:
    for folder in (shop.out, shop.folders.output, shop.folders.workspace):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(DATA / "scripts", shop.config / "scripts")
    watch = Watch(shop)
    filesystems.stage_definition(shop.plan.folder, shop.definition)
    for name, step in STEPS:
        title = name.replace("_", " ")
        progress.step(title)
        began = time.monotonic()
        try:
            step(shop, progress)
        except ProcessError as error:
            raise _step_error(title, error, shop) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise SpaceError(f"the step {title} failed: the disk is full") from error
        shop.seconds[name] = time.monotonic() - began
        watch.look()
    watch.finish(progress)


def _step_error(title: str, error: ProcessError, shop: Workshop) -> ImageBuildError:
    """The error of a step whose program failed: its cause where the output names one, else the last lines."""
    failed = explain(f"the step {title} failed", error)
    failed.add_note(f"the whole log is {shop.kept_log}")
    return failed


def _packages(shop: Workshop, progress: Progress) -> None:
    """Bring every package into the archive that mkosi installs from."""
    shop.plan.supply.open_archive(progress)


def _agent(shop: Workshop) -> None:
    """Assemble the files every image gets: the agent, our units, the definition's own files."""
    extra = shop.work / "extra"
    shutil.copytree(DATA / "tree", extra, symlinks=True)
    build_payload(
        destination=extra,
        tools_root=shop.tools.root,
        cache=shop.plan.cache,
        source_root=SOURCE_ROOT,
        source_date_epoch=EPOCH,
    )
    filesystems.write_extra_files(shop, extra)


def _beside(shop: Workshop, *jobs: Callable[[Workshop], object]) -> None:
    """Run jobs that need nothing of each other at the same time; the first error is told when all have ended."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        running = [pool.submit(job, shop) for job in jobs]
    for each in running:
        each.result()


STEPS: tuple[tuple[str, Step], ...] = (
    ("packages", _packages),
    ("agent", lambda shop, _: _agent(shop)),
    ("package_tree", lambda shop, _: _beside(shop, filesystems.make_tree, make_programs)),
    ("contents", lambda shop, _: record_contents(shop)),
    ("root_and_initrd", lambda shop, _: _beside(shop, filesystems.make_root, make_initrd, filesystems.keep_installed)),
    ("uki", lambda shop, _: boot.make_uki(shop)),
    ("signatures", lambda shop, _: boot.sign(shop)),
    ("disk", lambda shop, _: boot.make_disk(shop)),
    ("attestations", lambda shop, _: write_attestations(shop)),
)
