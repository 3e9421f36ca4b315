"""`make fuzz`: tries every parser of foreign bytes, or the named ones, for some seconds of processor time each."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from bedrock.digest import bytes_sha256
from tests.fuzz.running import FuzzReport, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run the targets; 1 when there is a finding."""
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"which ones [all]: {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time for each [1]")
    parser.add_argument("--seed", type=int, default=1, help="other numbers try other inputs [1]")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="where findings are written [out/fuzz]")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(names):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    # What a library logs about damaged fields is not a finding.
    logging.disable()
    found = 0
    for target in TARGETS:
        if not options.targets or target.name in options.targets:
            report = fuzz(target, seed=options.seed, seconds=options.seconds)
            _say(str(report))
            _keep(report, options.out)
            found += len(report.findings)
    return 1 if found else 0


def _keep(report: FuzzReport, out: Path) -> None:
    for finding in report.findings:
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"{report.target}-{bytes_sha256(finding.data)[:12]}"
        path.write_bytes(finding.data)
        path.with_name(f"{path.name}.txt").write_text(finding.trace)
        _say(f"  {finding.error!r}\n  {path}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
