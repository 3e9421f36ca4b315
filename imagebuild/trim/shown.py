"""Proposals as a person reads and judges them: by package, with the dearest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.filesize import decimal
from rich.text import Text
from rich.tree import Tree

from imagebuild.trim.judging import Outcome, Priced
from imagebuild.trim.proposals import with_users
from imagebuild.trim.writing import added_text, lines_of

# Below that, looking at a proposal costs more than it wins.
SMALL_BYTES = 16 << 10


def worth_listing(proposals: Sequence[Priced], *, everything: bool) -> tuple[Priced, ...]:
    """The proposals that are listed and written.

    All, or those that win enough to be looked at one by one, and small ones that need something of these.
    """
    big = (place for place, each in enumerate(proposals) if everything or each.cost.sent_bytes >= SMALL_BYTES)
    chosen = with_users([each.proposal for each in proposals], big)
    return tuple(each for place, each in enumerate(proposals) if place in chosen)


def show_outcome(found: Outcome, *, everything: bool) -> None:
    """Print what could be dropped on stdout, and the lines to add to `image.yaml`."""
    listed = worth_listing(found.proposals, everything=everything)
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
    root.add(_line("together", _sum(listed)))
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
    return sorted(groups.items(), key=lambda item: -sum(each.cost.sent_bytes for each in item[1]))


def _more(each: Priced) -> str:
    files, links = len(each.proposal.files), len(each.proposal.lines) - 1
    told = (f"{files} files, " if files > 1 else "", f"{links} link{'s' if links > 1 else ''} to it, " if links else "")
    return "".join(told)


def _sum(proposals: Iterable[Priced]) -> str:
    costs = [each.cost for each in proposals]
    return f"{decimal(sum(c.raw_bytes for c in costs))}, {decimal(sum(c.sent_bytes for c in costs))} as sent"


def _line(name: str, rest: str) -> Text:
    return Text.assemble((name, "bold"), "  ", rest)
