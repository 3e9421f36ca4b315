"""Proposals as a person reads them: by package, with the largest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.filesize import decimal
from rich.text import Text
from rich.tree import Tree

from imagebuild.inspection.costs import Cost
from imagebuild.trim.judging import SMALL_BYTES, Priced, TrimOutcome
from imagebuild.trim.writing import added_text, lines_of


def show_outcome(found: TrimOutcome) -> None:
    """Print what could be dropped on stdout, and the lines to add to `image.yaml`."""
    listed = found.listed
    rest = [each for each in found.proposals if each not in listed]
    untouched = found.files - found.staying_files
    root = Tree(
        Text(
            f"{found.image}: of {found.files} files {found.touched_files} were touched,"
            f" {found.staying_files} stay, {untouched} could be dropped"
        )
    )
    for title, modules in (("files", False), ("kernel modules", True)):
        some = [each for each in listed if each.proposal.modules == modules]
        if some:
            branch = root.add(_line(title, _sum(some)))
            for package, group in _by_package(some):
                below = branch.add(_line(package, _sum(group)))
                for each in group:
                    below.add(_line(each.proposal.lines[0], f"{_more(each)}{_sum([each])}"))
    if rest:
        root.add(Text(f"… {len(rest)} more below {decimal(SMALL_BYTES)} each, {_sum(rest)} (--all)", style="dim"))
    root.add(_line("together the image loses", _cost(found.together)))
    console = Console()
    console.print(root, soft_wrap=True)
    if listed:
        console.print("\nWhat --write adds to image.yaml:\n", highlight=False)
        text = added_text(lines_of(each.proposal for each in listed))
        console.print(text, end="", highlight=False, markup=False, soft_wrap=True)


def _by_package(proposals: Sequence[Priced]) -> list[tuple[str, list[Priced]]]:
    groups: dict[str, list[Priced]] = defaultdict(list)
    for each in proposals:
        groups[", ".join(each.proposal.packages)].append(each)
    return sorted(groups.items(), key=lambda item: -sum(each.cost.wire_bytes for each in item[1]))


def _more(each: Priced) -> str:
    files, links = len(each.proposal.files), len(each.proposal.lines) - 1
    parts = (
        f"{files} files, " if files > 1 else "",
        f"{links} link{'s' if links > 1 else ''} to it, " if links else "",
    )
    return "".join(parts)


def _sum(proposals: Iterable[Priced]) -> str:
    costs = [each.cost for each in proposals]
    return _cost(Cost(sum(cost.raw_bytes for cost in costs), sum(cost.wire_bytes for cost in costs)))


def _cost(cost: Cost) -> str:
    return f"{decimal(cost.raw_bytes)}, {decimal(cost.wire_bytes)} compressed"


def _line(name: str, rest: str) -> Text:
    return Text.assemble((name, "bold"), "  ", rest)
