"""A scan for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from imagebuild.attest.scan import Scan, Vulnerability


def show_scan(scan: Scan, *, console: Console | None = None) -> None:
    """Print the findings as a table, and a sentence that says how the scan ended."""
    out = console or Console()
    if scan.findings:
        table = Table(box=None, pad_edge=False)
        for heading in ("vulnerability", "source", "shipped", "fixed in", "urgency", "VEX"):
            table.add_column(heading, overflow="fold")
        for finding in scan.findings:
            table.add_row(*_row(finding))
        out.print(table)
    out.print(_sentence(scan, scan.findings), soft_wrap=True, highlight=False)


def _row(finding: Vulnerability) -> tuple[str, ...]:
    vex = f"{finding.vex.status.value}: {finding.vex.reason}".removesuffix(": ") if finding.vex else ""
    fixed = finding.fixed_version or ("unknown" if finding.status.value == "undetermined" else "")
    return finding.cve, finding.source, finding.version, fixed, finding.urgency, vex


def _sentence(scan: Scan, findings: Sequence[Vulnerability]) -> str:
    settled = sum(finding.settled for finding in findings)
    foreign = f"; not from Debian, so not looked up: {', '.join(scan.foreign)}" if scan.foreign else ""
    return (
        f"{scan.sources} source packages, {len(findings)} vulnerabilities, {settled} of them settled by VEX; "
        f"{scan.failing} reach the threshold {scan.threshold.value}{foreign}"
    )
