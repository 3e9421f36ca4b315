"""The paths of an image that Twinhull and the image definition put there, next to its packages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuild.definition.baked import definition_paths
from imagebuild.steps.leave_out.patterns import merged
from imagebuild.steps.workshop import Workshop

# Folders that mkosi copies into the image as they are.
_COPIED = ("mkosi.extra", "mkosi.skeleton")


@dataclass(frozen=True)
class Placed:
    """Paths of files and links, as the image spells them; none is in both."""

    ours: frozenset[str]
    definition: frozenset[str]


def placed_files(shop: Workshop) -> Placed:
    """The paths put into the image next to its packages."""
    named = definition_paths(shop.plan.definition)
    copied = {path for name in _COPIED for path in paths_below(shop.definition / name)}
    theirs = frozenset(map(merged, named | copied))
    return Placed(frozenset(map(merged, paths_below(shop.extra))) - theirs, theirs)


def paths_below(folder: Path) -> Iterator[str]:
    """Files and links below a folder, from it on, with a slash first."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield f"/{path.relative_to(folder)}"
