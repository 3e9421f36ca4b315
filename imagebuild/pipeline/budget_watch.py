"""Holding a build against its budget while it runs.

Rules: each limit is measured once, as soon as there is something to measure; what is dear to measure comes last, and
nothing of an image over its budget reaches the build's place.
"""

from __future__ import annotations

import time
from pathlib import Path

from bedrock import strict
from bedrock.errors import TwinhullError
from bedrock.progress import Progress
from imagebuild.errors import BudgetError
from imagebuild.inspection.contents import CONTENTS_FILE
from imagebuild.inspection.record import read_contents
from imagebuild.inspection.summary import read_summary
from imagebuild.pipeline.budget import (
    Boot,
    Earlier,
    Excess,
    Measure,
    Surroundings,
    exceeded,
    limits_of,
    overrun_message,
)
from imagebuild.steps.plan import INPUTS_FILE, Inputs
from imagebuild.steps.workshop import Workshop
from updater.repository.objects import DEFAULT_LEVEL, QUICK_LEVEL, packed_file_bytes
from updater.repository.publish import ARTIFACT_FILES


class Watch:
    """Knows which limits of one build were measured."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._open = set(limits_of(shop.plan.definition.budget))

    def look(self) -> None:
        """Measure what the steps so far made known.

        Raises:
            BudgetError: A limit is exceeded.
        """
        sources = {
            Measure.PACKAGES: self._shop.out / CONTENTS_FILE,
            Measure.INITRD: self._shop.work / "initrd.cpio.zst",
            Measure.ROOT: self._shop.out / "root.erofs",
            Measure.UKI: self._shop.out / "uki.efi",
        }
        ready = {measure: path for measure, path in sources.items() if measure in self._open and path.is_file()}
        self._hold({measure: self._measured(measure, path) for measure, path in ready.items()})

    def finish(self, progress: Progress) -> None:
        """Measure what a host downloads: quickly first, then, when that is too much, as publishing packs it.

        Raises:
            BudgetError: A limit is exceeded.
        """
        self.look()
        limit = limits_of(self._shop.plan.definition.budget).get(Measure.WIRE)
        if limit is None:
            return
        began = time.monotonic()
        sent = self._packed(QUICK_LEVEL, progress)
        if sent > limit:
            sent = self._packed(DEFAULT_LEVEL, progress)
        self._hold({Measure.WIRE: sent})
        self._shop.seconds["budget"] = time.monotonic() - began

    def _measured(self, measure: Measure, path: Path) -> int:
        return len(read_contents(self._shop.out).shipped) if measure is Measure.PACKAGES else path.stat().st_size

    def _packed(self, level: int, progress: Progress) -> int:
        paths = [self._shop.out / name for name in ARTIFACT_FILES.values()]
        total = sum(path.stat().st_size for path in paths)
        progress.step(f"budget: what a host downloads, packed at level {level}", total=total)
        return sum(packed_file_bytes(path, level=level, progress=progress) for path in paths)

    def _hold(self, found: dict[Measure, int]) -> None:
        self._open -= found.keys()
        if excesses := exceeded(self._shop.plan.definition.budget, found):
            raise _overrun(self._shop, excesses, [measure for measure in Measure if measure in self._open])


def find_earlier(out: Path, inputs: Inputs) -> tuple[Earlier | None, tuple[str, ...]]:
    """The newest finished build of the same image and a lower version beside `out`; reads only.

    Returns:
        The build, or None; and what lies there and cannot be read, in words.
    """
    lower: list[tuple[Inputs, Path]] = []
    unread: list[str] = []
    for path in sorted(out.parent.glob(f"*/{INPUTS_FILE}")):
        try:
            found = strict.read_json(Inputs, path.read_bytes(), source=str(path))
        except (TwinhullError, OSError) as error:
            unread.append(_not_compared(path.parent, error))
            continue
        if found.image == inputs.image and found.version < inputs.version:
            lower.append((found, path.parent))
    for _, folder in sorted(lower, key=lambda each: each[0].version, reverse=True):
        try:
            return _read_earlier(folder), tuple(unread)
        except (TwinhullError, OSError) as error:
            unread.append(_not_compared(folder, error))
    return None, tuple(unread)


def _read_earlier(folder: Path) -> Earlier:
    summary = read_summary(folder)
    sizes = summary.size_bytes
    return Earlier(read_contents(folder), Boot(summary.kernel, None, sizes.get("initrd"), sizes.get("uki.efi")))


def _not_compared(folder: Path, error: Exception) -> str:
    # A document can hold any number of mistakes.
    return f"not compared with {folder}: {str(error).splitlines()[0]}"


def _overrun(shop: Workshop, excesses: tuple[Excess, ...], unmeasured: list[Measure]) -> TwinhullError:
    plan = shop.plan
    earlier, unread = find_earlier(plan.out, plan.inputs)
    around = Surroundings(read_contents(shop.out), _boot(shop), earlier, unread, str(plan.out.parent))
    keys = " or ".join(f"budget.{excess.measure.value}" for excess in excesses)
    return BudgetError(overrun_message(excesses, unmeasured, around)).with_hint(
        f"make the image smaller, or raise {keys} in {plan.folder / 'image.yaml'}"
    )


def _boot(shop: Workshop) -> Boot | None:
    initrd, kernel, uki = shop.work / "initrd.cpio.zst", shop.folders.output / "vmlinuz", shop.out / "uki.efi"
    version = shop.folders.output / "kernel-version"
    if not (initrd.is_file() and version.is_file()):
        return None
    return Boot(version.read_text().strip(), _size(kernel), initrd.stat().st_size, _size(uki))


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
