"""Warnings when the packages of a build lack Debian's updates.

Only the suites that the packages were chosen from count, so a locked build gives the same warnings as its lock.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagebuild.definition.sources import DEBIAN, SECURITY, ExpiredIndexes, SecurityUpdates
from imagebuild.errors import BuildError
from imagebuild.inputs.lockfile import Selection

# What the suite that gets every fix first calls itself: it has no updates besides its own.
_ROLLING = "unstable"


def missing_updates(
    selection: Selection, wanted: SecurityUpdates, expired: ExpiredIndexes = ExpiredIndexes.REFUSE
) -> tuple[str, ...]:
    """A line for each kind of updates that the packages may lack; none for suites that a release does not have.

    Raises:
        BuildError: The definition requires security updates, and there are none.
    """
    lines = tuple(_missing(selection, wanted))
    if expired is ExpiredIndexes.ACCEPT:
        dates = "; ".join(f"{suite.name}: {suite.date}" for suite in selection.suites)
        lines += (f"expired indexes were accepted; they were signed on: {dates}",)
    if lines and wanted is SecurityUpdates.REQUIRED and lines[0].startswith(_NO_SECURITY):
        raise BuildError(f"{lines[0]}, and image.yaml says `security: required`").with_hint(_HINT)
    return lines


_NO_SECURITY = "no security updates are in this image"
_HINT = "set security_mirror: in image.yaml, or TWINHULL_SECURITY_MIRROR, to a mirror of Debian's security archive"


def _missing(selection: Selection, wanted: SecurityUpdates) -> Iterator[str]:
    if any(suite.label == _ROLLING for suite in selection.suites if suite.archive == DEBIAN):
        return
    names = {(suite.archive, suite.name) for suite in selection.suites}
    release = selection.release
    if (SECURITY, f"{release}-security") not in names and wanted is not SecurityUpdates.NONE:
        yield f"{_NO_SECURITY}: no mirror with the suite {release}-security is known"
    if (DEBIAN, f"{release}-updates") not in names:
        yield f"the mirror has no suite {release}-updates: fixes between point releases are not in this image"
