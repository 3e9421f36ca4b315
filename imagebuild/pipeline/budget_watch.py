"""Checks a build against its budget while it runs.

Rules: each value is measured once, as early as possible; slow measurements come last, and nothing of an image over its
budget reaches the build's output folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bedrock import strict
from bedrock.errors import TwinhullError
from bedrock.progress import Progress
from imagebuild.errors import BudgetError
from imagebuild.inspection.contents import Contents
from imagebuild.inspection.record import read_contents
from imagebuild.inspection.summary import read_summary
from imagebuild.pipeline.budget import (
    BootSizes,
    Earlier,
    Excess,
    Measure,
    OverrunContext,
    exceeded,
    limits_of,
    overrun_message,
)
from imagebuild.steps.plan import INPUTS_FILE, BuildInputs, BuildPlan
from imagebuild.steps.products import Initrd, Kernel, RootImage
from updater.repository.objects import DEFAULT_LEVEL, QUICK_LEVEL, packed_file_bytes


class Watch:
    """Checks one build against its budget: the steps report what they made, and an exceeded limit ends the build."""

    def __init__(self, plan: BuildPlan) -> None:
        self._plan = plan
        self._limits = limits_of(plan.definition.budget)
        self._unmeasured = set(self._limits)
        self._contents: Contents | None = None
        self._boot: BootSizes | None = None

    @property
    def limits_wire(self) -> bool:
        """Whether what a host downloads has a limit, so that it must be packed to be measured."""
        return Measure.WIRE in self._limits

    def contents(self, contents: Contents) -> None:
        """What the image holds is known.

        Raises:
            BudgetError: It holds too many packages.
        """
        self._contents = contents
        self._hold({Measure.PACKAGES: len(contents.shipped)})

    def filesystems(self, kernel: Kernel, initrd: Initrd, root: RootImage) -> None:
        """Initrd and root filesystem are made.

        Raises:
            BudgetError: One of them is too large.
        """
        kernel_bytes, initrd_bytes = kernel.file.stat().st_size, initrd.archive.stat().st_size
        self._boot = BootSizes(kernel.version, kernel_bytes, initrd_bytes, None)
        self._hold({Measure.INITRD: initrd_bytes, Measure.ROOT: root.root.stat().st_size})

    def uki(self, uki: Path) -> None:
        """The UKI is made.

        Raises:
            BudgetError: It is too large.
        """
        size_bytes = uki.stat().st_size
        if self._boot is not None:
            self._boot = replace(self._boot, uki_bytes=size_bytes)
        self._hold({Measure.UKI: size_bytes})

    def wire(self, artifacts: Sequence[Path], progress: Progress) -> None:
        """Measure what a host downloads: quickly first and, if that is too much, at publishing's compression level.

        Raises:
            BudgetError: It exceeds the limit.
        """
        packed = _packed(artifacts, QUICK_LEVEL, progress)
        if packed > self._limits.get(Measure.WIRE, packed):
            packed = _packed(artifacts, DEFAULT_LEVEL, progress)
        self._hold({Measure.WIRE: packed})

    def _hold(self, found: dict[Measure, int]) -> None:
        self._unmeasured -= found.keys()
        if excesses := exceeded(self._plan.definition.budget, found):
            raise self._overrun(excesses, [measure for measure in Measure if measure in self._unmeasured])

    def _overrun(self, excesses: tuple[Excess, ...], unmeasured: list[Measure]) -> TwinhullError:
        plan = self._plan
        earlier, unread = find_earlier(plan.out, plan.inputs)
        around = OverrunContext(self._contents, self._boot, earlier, unread, str(plan.out.parent))
        keys = " or ".join(f"budget.{excess.measure.value}" for excess in excesses)
        return BudgetError(
            overrun_message(f"{plan.definition.id} {plan.version}", excesses, unmeasured, around)
        ).with_hint(f"make the image smaller, or raise {keys} in {plan.folder / 'image.yaml'}")


def _packed(artifacts: Sequence[Path], level: int, progress: Progress) -> int:
    total = sum(path.stat().st_size for path in artifacts)
    progress.step(f"budget: what a host downloads, packed at level {level}", total=total)
    return sum(packed_file_bytes(path, level=level, progress=progress) for path in artifacts)


def find_earlier(out: Path, inputs: BuildInputs) -> tuple[Earlier | None, tuple[str, ...]]:
    """The newest finished build of the same image and a lower version next to `out`; reads only.

    Returns:
        The build, or None; and the builds that cannot be read, with the reason.
    """
    lower: list[tuple[BuildInputs, Path]] = []
    unread: list[str] = []
    for path in sorted(out.parent.glob(f"*/{INPUTS_FILE}")):
        try:
            found = strict.read_json(BuildInputs, path.read_bytes(), source=str(path))
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
    return Earlier(read_contents(folder), BootSizes(summary.kernel, None, sizes.get("initrd"), sizes.get("uki.efi")))


def _not_compared(folder: Path, error: Exception) -> str:
    # A document can hold any number of errors.
    return f"not compared with {folder}: {str(error).splitlines()[0]}"
