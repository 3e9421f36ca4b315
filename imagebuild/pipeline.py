"""Building an image: the steps in order, each thin, each timed.

    tools tree → agent → package tree (mkosi) → initrd (mkosi) → root filesystem and verity tree (systemd-repart)
    → UKI (ukify) → signatures (sbsign) → disk (systemd-repart) → documents

Everything is made in a working folder and moved to its place at the end in one step, so that a folder that holds
`inputs.json` is a whole build.  Not here: what the tools are told (`config.py`).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bedrock import strict
from bedrock.errors import ProcessError
from bedrock.persist import write_atomic
from bedrock.progress import Progress, Silent
from imagebuild import artifacts, boot, filesystems
from imagebuild.errors import BuildError
from imagebuild.payload import build_payload
from imagebuild.plan import DATA, EPOCH, INPUTS_FILE, SOURCE_ROOT, BuildPlan
from imagebuild.tools import ensure_tools
from imagebuild.workshop import Workshop
from keys.passphrase import PassphraseSource


@dataclass(frozen=True)
class Built:
    """A finished build."""

    out: Path
    fresh: bool
    summary: artifacts.Summary


def build_image(plan: BuildPlan, *, passphrase: PassphraseSource, progress: Progress | None = None) -> Built:
    """Build what the plan says; writes to its `out` and below its `cache`.

    Raises:
        BuiltBeforeError: `out` holds this version, built from other content.
        BuildError: A step failed; the message names it and the log.
        KeysError: The key that signs the UKI cannot be opened.
    """
    if plan.finished:
        return Built(plan.out, fresh=False, summary=artifacts.read_summary(plan.out))
    told = progress or Silent()
    began = time.monotonic()
    told.step("tools tree")
    tools = ensure_tools(plan.mirrors, cache=plan.cache)
    seconds = {"tools_tree": time.monotonic() - began}
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{plan.out.name}.", suffix=".partial", dir=plan.out.parent))
    shop = Workshop(plan, tools, work, seconds)
    try:
        _run_steps(shop, passphrase, told)
        shop.seconds["total"] = time.monotonic() - began
        summary = artifacts.write_documents(shop)
        write_atomic(shop.out / INPUTS_FILE, strict.dump_json(plan.inputs))
        if plan.out.exists():
            plan.out.rmdir()
        shop.out.rename(plan.out)
    finally:
        shop.keep_log()
        filesystems.remove_tree(work)
    return Built(plan.out, fresh=True, summary=summary)


def _run_steps(shop: Workshop, passphrase: PassphraseSource, progress: Progress) -> None:
    kept = (*(shop.folders.cache / kind for kind in ("tree", "initrd")), shop.folders.packages)
    for folder in (shop.out, shop.folders.output, shop.folders.workspace, *kept):
        folder.mkdir(parents=True, exist_ok=True)
    steps: tuple[tuple[str, Callable[[Workshop], None]], ...] = (
        ("agent", _agent),
        ("package_tree", filesystems.make_tree),
        ("initrd", filesystems.make_initrd),
        ("root_filesystem", filesystems.make_root),
        ("uki", boot.make_uki),
        ("signatures", lambda shop: boot.sign(shop, passphrase)),
        ("disk", boot.make_disk),
    )
    for name, step in steps:
        progress.step(name.replace("_", " "))
        began = time.monotonic()
        try:
            step(shop)
        except ProcessError as error:
            raise BuildError(f"the step {name} failed: {error}").with_hint(
                f"the whole log is {shop.kept_log}"
            ) from error
        shop.seconds[name] = time.monotonic() - began


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
    filesystems.write_extra_files(shop.plan, extra)
