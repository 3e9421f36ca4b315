"""Hosts of Debian's testing and unstable: each is built, boots, is blessed and runs podman; `make test-suites` runs it.

Not in `make test`: these archives change every day, and not always for the better.  The last result is in
docs/measurements.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from figures import MachineFacts, facts, write_document
from hosts import Host, host_config, machine_folder
from workbench import OUT, SOURCE, Workbench, make_workbench

from bedrock.errors import TwinhullError
from bedrock.progress import Silent
from imagebuild.definition.sources import ExpiredIndexes
from imagebuild.inputs.supply import newest_supply
from imagebuild.inputs.tools import cache_folder
from imagebuild.pipeline.build import build_image
from imagebuild.steps.plan import plan_build
from imagebuild.steps.signing import KeySource
from imagebuild.vm.machine import VirtualMachine
from keys.passphrase import NoPassphrase
from partitions.version import Version

DOCUMENT = SOURCE / "out" / "suites.json"
RELEASES = ("forky", "sid")
VERSION = "1.0.0"
_IMAGE = "suite-host"


@dataclass(frozen=True)
class SuiteOutcome:
    """One release: what its host runs, or the error that kept it from there.

    Attributes:
        release: The release.
        signed: The day its index was signed.
        kernel: The kernel that runs.
        systemd: The version of systemd that runs.
        podman: The version that podman's own engine reports.
        failed_units: Units that failed in the boot.
        build_s: Seconds of the build.
        boot_s: Seconds from power on until the host is blessed.
        warnings: What the build warned of.
        error: What went wrong, if anything.
    """

    release: str
    signed: str = ""
    kernel: str = ""
    systemd: str = ""
    podman: str = ""
    failed_units: tuple[str, ...] = ()
    build_s: float = 0.0
    boot_s: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class SuitesResult:
    """What came out."""

    machine: MachineFacts
    releases: tuple[SuiteOutcome, ...]


def try_release(bench: Workbench, release: str, expired: ExpiredIndexes) -> SuiteOutcome:
    """Build a host of a release and boot it."""
    folder = OUT / "suites" / release
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = f"id: {_IMAGE}\nrelease: {release}\nexpired_indexes: {expired.value}\n"
    (folder / "definition").mkdir()
    (folder / "definition/image.yaml").write_text(text)
    outcome = SuiteOutcome(release)
    try:
        began = time.monotonic()
        definition, cache = folder / "definition", cache_folder()
        supply = newest_supply(definition, mirrors=bench.mirrors, cache=cache, progress=Silent())
        plan = plan_build(
            definition,
            version=Version.from_text(VERSION),
            signatures=KeySource(bench.keyring, NoPassphrase()),
            out=folder / "build",
            supply=supply,
            root_of_trust=OUT / "trust" / "repo" / "metadata" / "1.root.json",
        )
        build_image(plan)
        outcome = replace(
            outcome,
            signed=supply.packages.suites[0].date,
            build_s=round(time.monotonic() - began, 1),
            warnings=supply.warnings,
        )
        return boot(bench, folder / "build/disk.raw", outcome)
    except (TwinhullError, AssertionError) as error:
        return replace(outcome, error=str(error))


def boot(bench: Workbench, disk: Path, outcome: SuiteOutcome) -> SuiteOutcome:
    """Boot a host until it is blessed, and look at it."""
    # Without an update server: a check that asks it would fail here, whatever the release.
    config = host_config(bench, disk)
    folder = machine_folder(f"suite-{outcome.release}")
    began = time.monotonic()
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        host = Host(machine)
        host.wait_boot()
        status = host.wait_settled()
        boot_s = round(time.monotonic() - began, 1)
        assert status["version"] == VERSION, status
        return replace(
            outcome,
            kernel=host.text("uname -r"),
            systemd=host.text("systemctl --version").splitlines()[0],
            podman=host.text("podman info --format '{{.Version.Version}} {{.Host.OCIRuntime.Name}}'"),
            failed_units=tuple(host.text("systemctl --failed --plain --no-legend").splitlines()),
            boot_s=boot_s,
        )


def run(releases: Sequence[str], expired: ExpiredIndexes) -> SuitesResult:
    """Try every release."""
    machine, bench = facts(), make_workbench()
    return SuitesResult(machine, tuple(try_release(bench, release, expired) for release in releases))


def main() -> None:
    """Run it, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("releases", nargs="*", default=list(RELEASES))
    parser.add_argument("--accept-expired", action="store_true", help="also from a mirror that is out of date")
    words = parser.parse_args()
    result = run(words.releases, ExpiredIndexes.ACCEPT if words.accept_expired else ExpiredIndexes.REFUSE)
    print(write_document(DOCUMENT, asdict(result)))  # noqa: T201 - its output
    if any(outcome.error or outcome.failed_units for outcome in result.releases):
        sys.exit("a release failed")


if __name__ == "__main__":
    main()
