"""Whether a release fits a disk's slots, and how many further releases will at the usual growth.

Rules: a release fits a layout when its root, with a copy of its UKI behind it, and its tree fit their partitions, and
the boot partition could hold its UKI twice.
Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from partitions.kept_uki import bytes_with_copy
from partitions.layout import boot_bytes_for
from partitions.version import Version
from updater.documents.release import Architecture, Release
from updater.documents.slot_layout import BoundPartition, Family, SlotLayout

HISTORY = 8
DEFAULT_WARN_WITHIN = 12
_FEW = 3  # versions named one by one

# The tree grows with the root, so the same growth would be reported twice.
GROWING = (BoundPartition.ROOT, BoundPartition.BOOT)


@dataclass(frozen=True)
class Known:
    """A layout that was recorded.

    Attributes:
        slots: The layout.
        versions: The releases whose disk images have it, oldest first.
        retired: Whether an operator said that no host with it is left.
    """

    slots: SlotLayout
    versions: tuple[Version, ...]
    retired: bool

    @property
    def installed_with(self) -> str:
        """The releases whose disk images have it, for a person."""
        if len(self.versions) <= _FEW:
            return ", ".join(map(str, self.versions))
        return f"{self.versions[0]} to {self.versions[-1]} ({len(self.versions)} releases)"


@dataclass(frozen=True)
class Misfit:
    """A release that does not fit a layout."""

    release: Release
    known: Known
    part: BoundPartition

    @property
    def missing_bytes(self) -> int:
        """How many bytes the partition is too small."""
        return need(self.release, self.part) - self.known.slots.room(self.part)

    def __str__(self) -> str:
        slots = self.known.slots
        sizes = ", ".join(f"{part.value} {in_mib(slots.room(part))}" for part in BoundPartition)
        return (
            f"{self.release.image} {self.release.version}: {_WANTED[self.part]} {need(self.release, self.part)} bytes, "
            f"and the {self.part.value} partition has {slots.room(self.part)}: {self.missing_bytes} missing "
            f"(layout {slots.id}: {sizes}; installed with {self.known.installed_with})"
        )


@dataclass(frozen=True)
class Outlook:
    """A partition that releases of usual growth will fill soon.

    Attributes:
        layout: The layout's id.
        image: The image and architecture of the disk.architecture: Its architecture.
        part: The partition.
        needed_bytes: The space the newest release needs in it.
        room_bytes: The space it has.
        growth_bytes: Mean growth of the needed space per release, rounded.
        over_releases: The number of releases in the mean.
        releases_left: Which release from now, counted from 1, will not fit at this growth.
    """

    layout: str
    image: str
    architecture: Architecture
    part: BoundPartition
    needed_bytes: int
    room_bytes: int
    growth_bytes: int
    over_releases: int
    releases_left: int

    def __str__(self) -> str:
        left = self.releases_left
        when = f"{left} more release{'' if left == 1 else 's'} will outgrow" if left > 0 else "the newest outgrew"
        return (
            f"{Family(self.image, self.architecture)}: {when} the {self.part.value} partition of layout {self.layout}: "
            f"{in_mib(self.needed_bytes)} of {in_mib(self.room_bytes)} are needed now, "
            f"{self.growth_bytes} bytes more per release (mean of the last {self.over_releases})"
        )


def family_of(release: Release) -> Family:
    """The releases it follows and is followed by."""
    return Family(release.image, release.architecture)


def family_problems(slots: SlotLayout, release: Release) -> tuple[str, ...]:
    """The problem when a layout describes an image or architecture other than its release's."""
    if slots.family == family_of(release):
        return ()
    return (f"the layout is one of {slots.family}, and the release is of {family_of(release)}",)


def need(release: Release, part: BoundPartition) -> int:
    """Bytes a partition must have for a release."""
    artifacts = release.artifacts
    return {
        BoundPartition.ROOT: bytes_with_copy(root_bytes=artifacts.root.size_bytes, uki_bytes=artifacts.uki.size_bytes),
        BoundPartition.VERITY: artifacts.verity.size_bytes,
        BoundPartition.BOOT: boot_bytes_for(artifacts.uki.size_bytes),
    }[part]


def fill(release: Release, slots: SlotLayout, part: BoundPartition) -> float:
    """The fraction of a partition that a release needs."""
    return need(release, part) / slots.room(part)


def misfits(releases: Iterable[Release], layouts: Sequence[Known]) -> tuple[Misfit, ...]:
    """Every release of `releases` that a layout in the field has no room for; all are of one family."""
    return tuple(
        Misfit(release, known, part)
        for release in releases
        for known in layouts
        for part in BoundPartition
        if not known.retired and need(release, part) > known.slots.room(part)
    )


def releases_left(needs: Sequence[int], room: int) -> int | None:
    """Which release from now, counted from 1, will not fit into `room` bytes, at the mean growth of `needs` (bytes).

    Returns:
        1 is the next release, 0 or less an existing one; None when nothing grows.
    """
    steps, grown = len(needs) - 1, needs[-1] - needs[0] if needs else 0
    return (room - needs[-1]) * steps // grown + 1 if grown > 0 else None


def outlooks(history: Sequence[Release], layouts: Iterable[Known], *, within: int) -> tuple[Outlook, ...]:
    """The partitions that will be full within that many further releases.

    Args:
        history: Every release of a family, oldest first; the last eight give the growth.
        layouts: The layouts of that family.
        within: Number of releases; 0 gives no warnings.
    """
    recent = history[-HISTORY:]
    found = (
        _outlook(recent, known.slots, part, within=within) for known in layouts if not known.retired for part in GROWING
    )
    return tuple(outlook for outlook in found if outlook is not None)


def in_mib(size_bytes: int) -> str:
    """Bytes as text in MiB, because slots are made of whole MiB."""
    return f"{size_bytes / (1 << 20):.1f}".removesuffix(".0") + " MiB"


def _outlook(recent: Sequence[Release], slots: SlotLayout, part: BoundPartition, *, within: int) -> Outlook | None:
    needs = [need(release, part) for release in recent]
    left = releases_left(needs, slots.room(part))
    if left is None or left > within:
        return None
    return Outlook(
        layout=slots.id,
        image=slots.image,
        architecture=slots.architecture,
        part=part,
        needed_bytes=needs[-1],
        room_bytes=slots.room(part),
        growth_bytes=round((needs[-1] - needs[0]) / (len(needs) - 1)),
        over_releases=len(needs),
        releases_left=left,
    )


_WANTED = {
    BoundPartition.ROOT: "the root filesystem has",
    BoundPartition.VERITY: "the verity tree has",
    BoundPartition.BOOT: "its UKI twice and FAT itself take",
}
