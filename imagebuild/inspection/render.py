"""Inspections and comparisons as a person reads them: trees with the largest part first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from imagebuild.console import print_line
from imagebuild.definition.drivers import Drivers
from imagebuild.inspection.compare import Comparison
from imagebuild.inspection.costs import Cost
from imagebuild.inspection.drivers import DriverSet
from imagebuild.inspection.published import PublishedInspection
from imagebuild.inspection.report import Inspection
from imagebuild.inspection.summary import Summary
from imagebuild.inspection.why import Explanation

_FEW = 15


def show_inspection(found: Inspection, *, everything: bool) -> None:
    """Print a build on stdout; `everything` prints long lists in full."""
    root = Tree(_line(f"{found.image} {found.version}", f"{decimal(found.wire_bytes)} compressed"))
    artifacts = root.add("artifacts")
    for name, cost in found.artifacts.items():
        artifacts.add(_line(name, _cost(cost)))
    artifacts.add(_line("initrd (in the UKI)", decimal(found.initrd_bytes)))
    packages = root.add(f"{found.packages} packages, and what came in none")
    _add_some(
        packages,
        (
            _line(_named(each.name, each.version), f"{_cost(each.cost)}  {' → '.join(each.why[:-1])}")
            for each in found.brought
        ),
        everything=everything,
    )
    if found.trimmed:
        root.add(_line("removed entirely", ", ".join(found.trimmed)))
    folders = sorted(found.folders.items(), key=lambda item: -item[1].wire_bytes)
    _add_some(root.add("folders"), (_line(name, _cost(cost)) for name, cost in folders), everything=everything)
    modules = sorted(found.modules.items(), key=lambda item: -item[1])
    total = decimal(sum(found.modules.values()))
    below = root.add(f"kernel modules, {total}")
    _add_some(below, (_line(name, decimal(size)) for name, size in modules), everything=everything)
    if found.drivers:
        branch = root.add("drivers for disks in the initrd, each set without the ones before it")
        _add_drivers(branch, found.drivers, found.built_drivers)
    for title, names in (
        ("setuid and setgid", found.setuid),
        ("units started at boot", found.enabled),
        ("listening", tuple(f"{unit} {' '.join(values)}" for unit, values in found.sockets.items())),
        ("programs on the path", found.executables),
        ("kernel arguments", found.kernel_arguments),
    ):
        _add_some(root.add(f"{title} ({len(names)})"), map(Text, names), everything=everything)
    Console().print(root, soft_wrap=True)


def show_published(found: PublishedInspection, *, everything: bool) -> None:
    """Print a published release on stdout; `everything` prints long lists in full."""
    title = f"{found.image} {found.version} ({found.architecture.value})"
    root = Tree(_line(title, f"{decimal(found.wire_bytes)} to download"))
    root.add(_line("root hash", found.root_hash))
    if found.profile:
        root.add(_line("profile", found.profile))
    root.add(_line("trusts the root", found.root_of_trust_sha256 or "not said"))
    for name, costs in (("artifacts", found.artifacts), ("documents", found.attachments)):
        branch = root.add(name)
        for file, cost in costs.items():
            branch.add(_line(file, _cost(cost)))
    packages = root.add(f"{len(found.packages)} components in the bill of materials")
    _add_some(packages, (_line(each.name, each.version or "") for each in found.packages), everything=everything)
    Console().print(root, soft_wrap=True)


def show_explanation(found: Explanation) -> None:
    """Print why a path is in an image, or is not, on stdout."""
    owner = f"  {found.owner}" if found.owner else ""
    root = Tree(_line(found.path, f"{found.state.value}{owner}"))
    for sentence in found.chain:
        root.add(Text(sentence))
    Console().print(root, soft_wrap=True)


def show_comparison(found: Comparison) -> None:
    """Print what differs between two builds on stdout."""
    root = Tree(_line(f"{found.old} → {found.new}", f"{decimal(found.download_bytes)} to download"))
    root.add(_line("compressed", _signed(found.wire_bytes)))
    packages = root.add(f"{len(found.packages)} packages differ")
    for each in sorted(found.packages, key=lambda change: -abs(change.wire_bytes)):
        versions = f"{each.old_version or '-'} → {each.new_version or '-'}"
        same = each.old_version == each.new_version
        packages.add(_line(each.name, f"{'' if same else versions + '  '}{_signed(each.wire_bytes)} compressed"))
    for title, change in found.names.items():
        if change.added or change.removed:
            branch = root.add(title.replace("_", " "))
            for sign, names in (("+", change.added), ("-", change.removed)):
                for name in names:
                    branch.add(Text(f"{sign} {name}"))
    Console().print(root, soft_wrap=True)


def _add_drivers(branch: Tree, sets: Mapping[str, DriverSet], built: Drivers | None) -> None:
    for name, each in sets.items():
        line = f"{each.modules} modules, {decimal(each.cost.raw_bytes)}, {decimal(each.cost.wire_bytes)} compressed"
        if built is not None:
            line += ", in this image" if Drivers(name) in built else ", not in this image"
        branch.add(_line(name, line))
    if lacking := [kind for each in sets.values() for kind in each.lacking]:
        branch.add(_line("the kernel has no driver for", "; ".join(dict.fromkeys(lacking))))


def _add_some(branch: Tree, lines: Iterable[Text], *, everything: bool) -> None:
    shown = list(lines)
    for line in shown if everything else shown[:_FEW]:
        branch.add(line)
    if not everything and len(shown) > _FEW:
        branch.add(Text(f"… {len(shown) - _FEW} more (--all)", style="dim"))


def _line(name: str, rest: str) -> Text:
    return Text.assemble((name, "bold"), "  ", rest)


def _named(name: str, version: str | None) -> str:
    return f"{name} {version}" if version else name


def _cost(cost: Cost) -> str:
    return f"{decimal(cost.raw_bytes)}, {decimal(cost.wire_bytes)} compressed"


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{decimal(abs(size))}"


def show_summary(summary: Summary, *, out: Path, fresh: bool) -> None:
    """Print the result of a build on stdout."""
    console = Console()
    state = "built" if fresh else "was built before from the same content"
    print_line(console, f"{summary.image} {summary.version} {state}: {out}")
    print_line(console, f"kernel {summary.kernel}, {summary.packages} packages, root hash {summary.root_hash}")
    sizes = Table("file", "size", box=None, pad_edge=False)
    for name, size in sorted(summary.size_bytes.items(), key=lambda item: -item[1]):
        sizes.add_row(name, decimal(size))
    steps = Table("step", "seconds", box=None, pad_edge=False)
    for name, seconds in summary.seconds.items():
        steps.add_row(name.replace("_", " "), f"{seconds:.1f}")
    both = Table.grid(padding=(0, 6))
    both.add_row(sizes, steps)
    console.print(both)
    for note in summary.notes:
        print_line(console, note)
    for package, units in summary.disabled_services.items():
        names = ", ".join(units)
        print_line(console, f"{package}: nothing of it starts ({names}); services in image.yaml enables or disables it")
