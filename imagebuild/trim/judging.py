"""The proposals for a build whose touched files are known, and their savings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bedrock.progress import Progress
from imagebuild.inputs.tools import ToolsTree
from imagebuild.inspection.contents import Contents, EntryKind, ImageEntry
from imagebuild.inspection.costs import Cost, cost_of, unpacked_root
from imagebuild.trim.keeping import KeepList
from imagebuild.trim.needs import read_needs
from imagebuild.trim.page_cache import Sample
from imagebuild.trim.proposals import Proposal, propose, staying, with_users
from imagebuild.trim.tree import ImageTree

# Below that, reviewing a proposal costs more than it saves.
SMALL_BYTES = 16 << 10


@dataclass(frozen=True)
class Priced:
    """A proposal and its saving."""

    proposal: Proposal
    cost: Cost


@dataclass(frozen=True)
class TrimOutcome:
    """The result of a trim.

    Attributes:
        image: The image's id.
        files: How many files it holds.
        touched_files: How many of them were touched.
        staying_files: How many stay.
        raw_bytes: Bytes of all files.
        proposals: What could be dropped, the largest first.
        listed: The proposals that are shown one by one, and written on request.
        together: The saving of all listed proposals together.
    """

    image: str
    files: int
    touched_files: int
    staying_files: int
    raw_bytes: int
    proposals: tuple[Priced, ...]
    listed: tuple[Priced, ...]
    together: Cost


Unpacked = Callable[..., AbstractContextManager[Path]]


def judge(
    build: Path,
    contents: Contents,
    touched: Sample,
    keep: KeepList,
    *,
    everything: bool,
    tools: ToolsTree,
    progress: Progress,
    unpacked: Unpacked = unpacked_root,
) -> TrimOutcome:
    """Find what could be dropped from a build in which `touched` was touched, and what that saves; reads only.

    Args:
        build: The build's folder.
        contents: What it holds.
        touched: What was touched.
        keep: What is kept anyway.
        everything: List small proposals one by one, too.
        tools: The tools tree.
        progress: Shows the steps.
        unpacked: Unpacks the root filesystem of a build for as long as its context lasts.

    Raises:
        TrimError: The build's record and its root filesystem do not fit.
        ProcessError: The root filesystem cannot be read.
    """
    progress.step("unpack the root filesystem")
    files = [entry for entry in contents.entries if entry.kind is EntryKind.FILE]
    with unpacked(build, tools=tools) as root:
        tree = ImageTree(contents, read_needs(contents, root))
        stays = staying(tree, touched, keep)
        proposals = propose(tree, stays)
        progress.step("pack what could be dropped", total=sum(len(each.files) for each in proposals))
        priced = [Priced(each, cost_of(root, each.files, progress)) for each in proposals]
        priced.sort(key=lambda each: (-each.cost.wire_bytes, each.proposal.lines))
        listed = worth_listing(priced, everything=everything)
        progress.step("pack the image with and without that")
        together = _saved(root, files, listed, progress)
    return TrimOutcome(
        image=contents.image,
        files=len(files),
        touched_files=sum(entry.path in touched.files for entry in files),
        staying_files=sum(entry.path in stays for entry in files),
        raw_bytes=sum(entry.size_bytes for entry in files),
        proposals=tuple(priced),
        listed=listed,
        together=together,
    )


def worth_listing(proposals: Sequence[Priced], *, everything: bool) -> tuple[Priced, ...]:
    """The proposals that are listed and written.

    All, or those that save enough to be reviewed one by one, and small ones that depend on these.
    """
    big = (place for place, each in enumerate(proposals) if everything or each.cost.wire_bytes >= SMALL_BYTES)
    chosen = with_users([each.proposal for each in proposals], big)
    return tuple(each for place, each in enumerate(proposals) if place in chosen)


def _saved(root: Path, files: Sequence[ImageEntry], listed: Sequence[Priced], progress: Progress) -> Cost:
    """The saving together: similar files share compressed bytes, so the single savings add up to more than this."""
    gone = {entry.path for each in listed for entry in each.proposal.files}
    if not gone:
        return Cost(0, 0)
    left = [entry for entry in files if entry.path not in gone]
    before, after = cost_of(root, files, progress), cost_of(root, left, progress)
    return Cost(before.raw_bytes - after.raw_bytes, max(0, before.wire_bytes - after.wire_bytes))
