"""Explains why a path is or is not in an image.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from imagebuild.inspection.contents import Contents
from imagebuild.steps.leave_out.patterns import merged
from imagebuild.steps.leave_out.rules import Rules


class PathState(Enum):
    """Where a path is."""

    PRESENT = "present"
    STAYS = "stays"
    LEFT_OUT = "left out"
    ABSENT = "absent"


@dataclass(frozen=True)
class Explanation:
    """Why a path is in an image, or is not.

    Attributes:
        path: As the image spells it.
        state: `stays` is what images go without, but this one does not.
        owner: The package that brought it, or another owner.
        chain: From the path itself to its cause, each a sentence.
    """

    path: str
    state: PathState
    owner: str | None
    chain: tuple[str, ...]


def explain(contents: Contents, rules: Rules, path: str) -> Explanation:
    """Explain why a path is in the image or is not."""
    place = merged(path.rstrip("/"))
    owners = {entry.path: entry.owner for entry in contents.entries}
    if place not in owners:
        section = rules.section_of(place)
        if section is None:
            return Explanation(
                place, PathState.ABSENT, None, ("nothing brought it, or drop: of image.yaml removed it",)
            )
        return Explanation(place, PathState.LEFT_OUT, None, (f"{section.name}: {section.why}",))
    state = PathState.STAYS if place in contents.stays else PathState.PRESENT
    chain: list[str] = []
    cause = place
    while reason := contents.stays.get(cause):
        chain.append(f"{reason.by} {reason.words}" if reason.by else reason.words)
        if reason.by is None:
            break
        cause = reason.by
    else:
        chain.append(_brought(contents, cause, owners))
    return Explanation(place, state, owners[place], tuple(chain))


def _brought(contents: Contents, path: str, owners: dict[str, str]) -> str:
    owner = owners[path]
    way = contents.reasons.get(owner, (owner,))
    return f"{path} came with {' → '.join(way)}"
