"""What came out of building a release again, as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from imagebuild.reproduction.rebuild import FileComparison, Reproduction

_SHORT = 16


def show_report(report: Reproduction) -> None:
    """Print the report on stdout."""
    name = f"{report.image}/{report.version}"
    state = ("identical", "green") if report.identical else ("different", "red")
    root = Tree(Text.assemble((name, "bold"), "  ", state))
    for file in report.files:
        branch = root.add(_line(file))
        for place in file.differences:
            branch.add(Text(place))
        if file.diffoscope is not None:
            branch.add(Text(f"all of it: {file.diffoscope}"))
    Console().print(root, soft_wrap=True)


def _line(file: FileComparison) -> Text:
    if file.identical and file.published is not None:
        return Text.assemble((file.name, "bold"), f"  {file.published[:_SHORT]}…")
    published, rebuilt = (digest[:_SHORT] + "…" if digest else "not there" for digest in (file.published, file.rebuilt))
    return Text.assemble((file.name, "bold red"), f"  {published} published, {rebuilt} built now")
