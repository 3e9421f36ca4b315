"""Checks the shipped packages for known vulnerabilities.

A source package is vulnerable when the tracker says so for its Debian release: the vulnerability is open there, or was
fixed in a version newer than the one shipped (Debian's order of versions).  A VEX statement of the image's makers can
settle a finding; it must name every package of the finding that is shipped.
Not here: whether the vulnerable code can be reached, which only people can decide.
Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from debian.debian_support import version_compare
from packageurl import PackageURL

from imagebuild.attest.inventory import Inventory, SourcePackage
from imagebuild.attest.tracker import TrackerEntry, TrackerStatus
from imagebuild.attest.vex import VexDocument, VexStatus

# An unrated vulnerability may be the worst, so it counts as that.
_URGENCIES = {"unimportant": 0, "low": 1, "medium": 2, "high": 3, "not yet assigned": 3, "end-of-life": 3}
_SETTLING = (VexStatus.NOT_AFFECTED, VexStatus.FIXED)


class Threshold(enum.Enum):
    """Which findings fail a scan."""

    NONE = "none"
    FIXABLE = "fixable"
    ANY = "any"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True)
class AppliedVex:
    """A VEX statement that applies: what it says and why."""

    status: VexStatus
    reason: str


@dataclass(frozen=True)
class Vulnerability:
    """A vulnerability of a source package that is shipped.

    Attributes:
        fixed_version: The version that fixes it in this Debian release, when there is one.
        status: `open` (also: fixed in a newer version) or `undetermined`.
        packages: The shipped packages of this source.
        vex: What the image's makers say of it.
    """

    cve: str
    source: str
    version: str
    fixed_version: str | None
    status: TrackerStatus
    urgency: str
    description: str
    packages: tuple[str, ...]
    vex: AppliedVex | None = None

    @property
    def settled(self) -> bool:
        """Whether a VEX statement says that nothing needs to be done."""
        return self.vex is not None and self.vex.status in _SETTLING

    def reaches(self, threshold: Threshold) -> bool:
        """Whether it fails a scan; what is undetermined or settled never does."""
        if self.settled or self.status is not TrackerStatus.OPEN or threshold is Threshold.NONE:
            return False
        if threshold is Threshold.FIXABLE:
            return self.fixed_version is not None
        least = 0 if threshold is Threshold.ANY else _URGENCIES[threshold.value]
        return _URGENCIES.get(self.urgency, max(_URGENCIES.values())) >= least


@dataclass(frozen=True)
class Scan:
    """The findings, the worst first.

    `failing` counts the findings that reach the threshold; `foreign` packages did not come from Debian and were not
    looked up.
    """

    image: str
    sources: int
    threshold: Threshold
    failing: int
    findings: tuple[Vulnerability, ...]
    foreign: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing reaches the threshold."""
        return self.failing == 0


def match(
    inventory: Inventory, entries: Iterable[TrackerEntry], *, vex: VexDocument | None, threshold: Threshold
) -> Scan:
    """Match what is shipped with the tracker's entries."""
    by_source: dict[tuple[str, str], list[TrackerEntry]] = {}
    for entry in entries:
        by_source.setdefault((entry.source, entry.release), []).append(entry)
    findings = [
        _finding(source, entry, purls, inventory.image, vex)
        for source, purls in inventory.sources.items()
        for entry in by_source.get((source.name, source.release), ())
        if is_vulnerable(source.version, entry)
    ]
    ordered = sorted(
        findings,
        key=lambda each: (not each.reaches(threshold), -_URGENCIES.get(each.urgency, 3), each.source, each.cve),
    )
    return Scan(
        image=str(inventory.image or ""),
        sources=len(inventory.sources),
        threshold=threshold,
        failing=sum(finding.reaches(threshold) for finding in ordered),
        findings=tuple(ordered),
        foreign=inventory.foreign,
    )


def is_vulnerable(version: str, entry: TrackerEntry) -> bool:
    """Whether a source package at `version` has a vulnerability, according to the tracker."""
    if entry.status is TrackerStatus.RESOLVED:
        return entry.fixed_version is not None and version_compare(version, entry.fixed_version) < 0
    return True


def _finding(
    source: SourcePackage,
    entry: TrackerEntry,
    purls: tuple[PackageURL, ...],
    image: PackageURL | None,
    vex: VexDocument | None,
) -> Vulnerability:
    return Vulnerability(
        cve=entry.cve,
        source=source.name,
        version=source.version,
        fixed_version=entry.fixed_version if entry.status is TrackerStatus.RESOLVED else None,
        status=TrackerStatus.UNDETERMINED if entry.status is TrackerStatus.UNDETERMINED else TrackerStatus.OPEN,
        urgency=entry.urgency,
        description=entry.description,
        packages=tuple(purl.name for purl in purls),
        vex=_settled(entry.cve, source, purls, image, vex) if vex else None,
    )


def _settled(
    cve: str, source: SourcePackage, purls: tuple[PackageURL, ...], image: PackageURL | None, vex: VexDocument
) -> AppliedVex | None:
    """What VEX says of the source package, else of all its shipped packages alike."""
    whole = PackageURL("deb", "debian", source.name, source.version, {"arch": "source", "distro": source.release})
    stated = vex.verdict((cve,), whole, image)
    if stated is not None:
        return AppliedVex(stated.status, stated.reason)
    verdicts = [vex.verdict((cve,), purl, image) for purl in purls]
    found = [each for each in verdicts if each is not None]
    if len(found) < len(verdicts):
        return None
    worst = next((each for each in found if each.status not in _SETTLING), found[0])
    return AppliedVex(worst.status, worst.reason)
