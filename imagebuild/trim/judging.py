"""What could be dropped from a build of which is known what was touched, and what that would win."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedrock.progress import Progress
from imagebuild.inspection.contents import Contents, Kind
from imagebuild.inspection.costs import Cost, cost_of, unpacked_root
from imagebuild.tools import ToolsTree
from imagebuild.trim.keeping import KeepList
from imagebuild.trim.needs import read_needs
from imagebuild.trim.proposals import Proposal, propose, staying
from imagebuild.trim.touched import Sample
from imagebuild.trim.tree import ImageTree


@dataclass(frozen=True)
class Priced:
    """A proposal and what it wins."""

    proposal: Proposal
    cost: Cost


@dataclass(frozen=True)
class Outcome:
    """What a trim came to; `proposals` with the dearest first, `cost` of all files of the image."""

    image: str
    files: int
    touched_files: int
    staying_files: int
    raw_bytes: int
    proposals: tuple[Priced, ...]


def judge(
    build: Path, contents: Contents, touched: Sample, keep: KeepList, *, tools: ToolsTree, progress: Progress
) -> Outcome:
    """Tell what could be dropped from a build, of which `touched` was touched, and what that wins; reads only.

    Raises:
        TrimError: The build's record and its root filesystem do not fit.
        ProcessError: The root filesystem cannot be read.
    """
    progress.step("unpack the root filesystem")
    with unpacked_root(build, tools=tools) as root:
        tree = ImageTree(contents, read_needs(contents, root, tools=tools))
        stays = staying(tree, touched, keep)
        proposals = propose(tree, stays)
        progress.step("pack what could be dropped", total=sum(len(each.files) for each in proposals))
        priced = [Priced(each, cost_of(root, each.files, progress)) for each in proposals]
    files = [entry for entry in contents.entries if entry.kind is Kind.FILE]
    return Outcome(
        image=contents.image,
        files=len(files),
        touched_files=sum(entry.path in touched.files for entry in files),
        staying_files=sum(entry.path in stays for entry in files),
        raw_bytes=sum(entry.size_bytes for entry in files),
        proposals=tuple(sorted(priced, key=lambda each: (-each.cost.sent_bytes, each.proposal.lines))),
    )
