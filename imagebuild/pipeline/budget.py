"""Whether an image is within its budget and, if not, what made it grow.

Rules: every exceeded limit is named; growth is reported per package (and per other owner) in raw bytes of files,
against an earlier build, the largest first; kernel and initrd are not part of the root filesystem, so its packages do
not explain them.
Pure: measuring is `budget_watch.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from imagebuild.definition.image import Budget
from imagebuild.inspection.contents import Contents, EntryKind
from partitions.version import Version

_FEW = 12
_UNITS = ((1 << 20, "MiB"), (1 << 10, "KiB"))


class Measure(Enum):
    """What a budget limits, by its key in `image.yaml`, in the order it becomes known."""

    PACKAGES = "packages"
    INITRD = "initrd"
    ROOT = "root"
    UKI = "uki"
    WIRE = "wire"


@dataclass(frozen=True)
class Excess:
    """A limit that is exceeded; bytes, or a number of packages."""

    measure: Measure
    value: int
    limit: int

    def __str__(self) -> str:
        over = self.value - self.limit
        if self.measure is Measure.PACKAGES:
            return f"packages: {self.value}, the limit is {self.limit}: {over} too many"
        rounded = f" ({size(over)})" if over >= _UNITS[-1][0] else ""
        return f"{self.measure.value}: {self.value} bytes, the limit is {self.limit}: {over}{rounded} too many"


@dataclass(frozen=True)
class Growth:
    """The size of the files of a package or other owner, before and now.

    Attributes:
        owner: Its name.
        old_version: None when it was not there, or has no version.
        new_version: None when it is gone, or has no version.
        old_bytes: Raw bytes of its files before; None when it was not there.
        new_bytes: The same now; None when it is gone.
    """

    owner: str
    old_version: str | None
    new_version: str | None
    old_bytes: int | None
    new_bytes: int | None

    @property
    def delta_bytes(self) -> int:
        """How much it grew; negative when it shrank."""
        return (self.new_bytes or 0) - (self.old_bytes or 0)

    def __str__(self) -> str:
        if self.old_bytes is None:
            note = "  new"
        elif self.new_bytes is None:
            note = "  gone"
        else:
            note = "" if self.old_version == self.new_version else f"  {self.old_version} → {self.new_version}"
        return f"{signed_size(self.delta_bytes):>11}  {self.owner}{note}"


@dataclass(frozen=True)
class BootSizes:
    """What is known of a UKI: the kernel's version and bytes, the initrd's bytes, its own; None is not known."""

    kernel: str
    kernel_bytes: int | None
    initrd_bytes: int | None
    uki_bytes: int | None


@dataclass(frozen=True)
class Earlier:
    """The build that growth is measured against."""

    contents: Contents
    boot: BootSizes

    @property
    def version(self) -> Version:
        """Its version."""
        return self.contents.version


@dataclass(frozen=True)
class OverrunContext:
    """What an overrun is explained with.

    Attributes:
        contents: What the image holds, once that is known.
        boot: What its UKI holds, once that is known.
        earlier: The newest finished build with a lower version, if one is next to this one's place.
        unread: Earlier builds that cannot be read, with the reason.
        place: Where earlier builds were looked for.
    """

    contents: Contents | None
    boot: BootSizes | None
    earlier: Earlier | None
    unread: tuple[str, ...]
    place: str


def exceeded(budget: Budget, found: Mapping[Measure, int]) -> tuple[Excess, ...]:
    """The limits that what was found exceeds, in the order of `Measure`."""
    limits = limits_of(budget)
    return tuple(
        Excess(measure, found[measure], limits[measure])
        for measure in Measure
        if measure in found and measure in limits and found[measure] > limits[measure]
    )


def limits_of(budget: Budget) -> dict[Measure, int]:
    """The limits that were set, in the order of `Measure`."""
    limits = ((measure, getattr(budget, measure.value)) for measure in Measure)
    return {measure: limit for measure, limit in limits if limit is not None}


def owner_bytes(contents: Contents) -> dict[str, int]:
    """Raw bytes of files per owner of at least one file or link."""
    found: dict[str, int] = defaultdict(int)
    for entry in contents.entries:
        if entry.kind is not EntryKind.FOLDER:
            found[entry.owner] += entry.size_bytes
    return dict(found)


def growth(old: Contents, new: Contents) -> tuple[Growth, ...]:
    """Owners that were added, removed or changed in size, the largest growth first, the largest saving last."""
    before, after = owner_bytes(old), owner_bytes(new)
    versions = [{package.name: package.version for package in side.packages} for side in (old, new)]
    changes = (
        Growth(
            owner,
            versions[0].get(owner) if owner in before else None,
            versions[1].get(owner) if owner in after else None,
            before.get(owner),
            after.get(owner),
        )
        for owner in before.keys() | after.keys()
        if before.get(owner) != after.get(owner)
    )
    return tuple(sorted(changes, key=lambda each: (-each.delta_bytes, each.owner)))


def overrun_message(
    image: str, excesses: Iterable[Excess], unmeasured: Iterable[Measure], around: OverrunContext
) -> str:
    """The message for an image over its budget: the limits first, then what made it grow."""
    excesses = tuple(excesses)
    over = {excess.measure for excess in excesses}
    lines = [f"{image} is over its budget", *map(str, excesses)]
    if waiting := ", ".join(measure.value for measure in unmeasured):
        lines.append(f"not measured, because the build ended here: {waiting}")
    lines += around.unread
    if around.earlier is None:
        lines.append(f"no earlier build of it is in {around.place} to compare with")
    if over & {Measure.UKI, Measure.INITRD, Measure.WIRE}:
        lines += _boot_lines(around)
    if around.contents is not None and over & {Measure.PACKAGES, Measure.ROOT, Measure.WIRE}:
        lines += _root_lines(around.contents, around.earlier, packages=Measure.PACKAGES in over)
    return "\n".join(lines)


def size(size_bytes: int) -> str:
    """Bytes for a person, in powers of 1024."""
    for factor, unit in _UNITS:
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def signed_size(size_bytes: int) -> str:
    """A difference in bytes for a person."""
    if size_bytes == 0:
        return "unchanged"
    return f"{'-' if size_bytes < 0 else '+'}{size(abs(size_bytes))}"


def _boot_lines(around: OverrunContext) -> Iterator[str]:
    now, earlier = around.boot, around.earlier
    if now is None:
        return
    before = earlier.boot if earlier else None
    yield "the UKI holds what is in no package of the root filesystem:"
    parts = (
        (f"kernel {now.kernel}", now.kernel_bytes, None),
        ("initrd, whose files are not counted by package", now.initrd_bytes, before.initrd_bytes if before else None),
        ("all of it", now.uki_bytes, before.uki_bytes if before else None),
    )
    for name, held, held_before in parts:
        if held is not None:
            grown = "" if held_before is None else f", {signed_size(held - held_before)}"
            yield f"  {name}: {held} bytes{grown}"
    if earlier:
        kernel = "the same kernel" if earlier.boot.kernel == now.kernel else f"the kernel {earlier.boot.kernel}"
        yield f"  {earlier.version}, the build compared with, has {kernel}"


def _root_lines(new: Contents, earlier: Earlier | None, *, packages: bool) -> Iterator[str]:
    if earlier is None:
        yield from _largest(new)
        return
    old = earlier.contents
    if packages:
        yield from _came_and_went(old, new)
    changes = growth(old, new)
    if not changes:
        yield f"no package has another size than in {earlier.version}"
        yield from _largest(new)
        return
    total = sum(change.delta_bytes for change in changes)
    yield f"the files of the root filesystem against {earlier.version}, {signed_size(total)} in raw bytes:"
    yield from _some([str(change) for change in changes if change.delta_bytes > 0 or change.old_bytes is None])
    # The largest saving first.
    yield from _some([str(each) for each in reversed(changes) if each.delta_bytes < 0 or each.new_bytes is None])


def _largest(contents: Contents) -> Iterator[str]:
    yield "the largest in the root filesystem, in raw bytes:"
    largest = sorted(owner_bytes(contents).items(), key=lambda item: (-item[1], item[0]))
    yield from _some([f"{size(held):>11}  {owner}" for owner, held in largest])


def _came_and_went(old: Contents, new: Contents) -> Iterator[str]:
    before, after = ({package.name for package in side.shipped} for side in (old, new))
    for word, names in (("new", after - before), ("gone", before - after)):
        if names:
            yield f"packages {word} against {old.version}: {', '.join(sorted(names))}"


def _some(lines: list[str]) -> Iterator[str]:
    yield from lines[:_FEW]
    if len(lines) > _FEW:
        yield f"{'':>11}  and {len(lines) - _FEW} more"
