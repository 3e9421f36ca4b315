"""How long a build takes, from nothing and after a change, compared with plain mkosi building the same packages.

`make bench-build` runs it.  The tools tree and everything that is downloaded are there before; trees, initrds and the
agent's program are not, for the benchmark has a cache of its own.  In this order, each build a new version of the
reference image:

- cold: nothing but downloads;
- file: a file of the definition has other content;
- package: a package of the root file system alone has changed;
- library: a package that the initrd holds as well has changed;
- plain mkosi: the same packages as a disk image the way mkosi's own documentation builds one (`plain_mkosi.py`), from
  nothing but downloads.

A package that has changed is Debian's own with another version and one other program or library, put into the archive
that mkosi installs from in the place of Debian's.

What counts is what a user waits for: choosing the packages (the mirrors' indexes are asked each time) and every step of
the build.  The load before is given with the result; measure on an idle machine.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_options import bench_options
from changed_package import Changed, changed
from figures import Bar, MachineFacts, facts, median_of, say, table, write_document
from plain_mkosi import PlainMkosi
from workbench import OUT, SOURCE, Workbench, make_workbench, write_definition

from bedrock.progress import Silent
from imagebuild.definition.image import load_definition
from imagebuild.inputs.requested import asked_packages
from imagebuild.inputs.supply import Supply, newest_supply
from imagebuild.inputs.tools import cache_folder
from imagebuild.pipeline.build import build_image
from imagebuild.steps.plan import plan_build
from imagebuild.steps.scratch import remove_tree
from imagebuild.steps.signing import KeySource
from keys.passphrase import NoPassphrase
from partitions.version import Version

FOLDER = SOURCE / "out" / "bench-build"
DOCUMENT = SOURCE / "out" / "bench-build.json"
CACHE = cache_folder() / "bench-build"
ROUNDS = 1
MOST_COLD_S = 120.0
MOST_FILE_S = 20.0
MOST_PACKAGE_S = 60.0
MOST_OF_PEER = 0.5
PACKAGE = Changed("crun", "usr/bin/crun")
LIBRARY = Changed("libzstd1", "usr/lib/x86_64-linux-gnu/libzstd.so.1.*")
PEER = "plain mkosi"
# What is downloaded, and the tools: shared with all other builds.
_DOWNLOADED = ("tools", "files", "apt", "wheels")


@dataclass(frozen=True)
class BuildResult:
    """What was measured, on what: seconds per step of each build, and of the peer's, by round."""

    facts: MachineFacts
    accelerator: str
    mkosi: str
    rounds: tuple[dict[str, dict[str, float]], ...]

    @property
    def medians(self) -> dict[str, dict[str, float]]:
        """Seconds per kind of build and step, the median over the rounds."""
        return {kind: median_of(each[kind] for each in self.rounds) for kind in self.rounds[0]}

    @property
    def ratio(self) -> float:
        """Our cold build as a part of the peer's: the median over the rounds."""
        return statistics.median(each["cold"]["total"] / each[PEER]["total"] for each in self.rounds)

    @property
    def bars(self) -> tuple[Bar, ...]:
        """What was to be reached."""
        total = {kind: steps["total"] for kind, steps in self.medians.items()}
        return (
            Bar("cold build", total["cold"], MOST_COLD_S, "s"),
            Bar("after a changed file", total["file"], MOST_FILE_S, "s"),
            Bar("after a changed package", total["package"], MOST_PACKAGE_S, "s"),
            Bar("after a changed library", total["library"], MOST_PACKAGE_S, "s"),
            Bar("cold build compared with plain mkosi", self.ratio, MOST_OF_PEER),
        )

    @property
    def met(self) -> bool:
        """Whether every bar is met."""
        return all(bar.met for bar in self.bars)

    def values(self) -> dict[str, Any]:
        """Everything, as a JSON document."""
        return {
            **asdict(self),
            "medians": self.medians,
            "ratio": round(self.ratio, 3),
            "bars": [bar.values() for bar in self.bars],
            "met": self.met,
        }

    def lines(self) -> list[str]:
        """A table for people."""
        told = [f"{self.facts.line}", f"peer: {self.mkosi}; rounds: {len(self.rounds)}", ""]
        return [*told, *table(self.medians), "", *(bar.line for bar in self.bars)]


@dataclass(frozen=True)
class BuildCourse:
    """Builds one version after the other with the benchmark's own cache."""

    bench: Workbench

    def clear(self) -> None:
        """Forget all that was made (removes files): only downloads and tools are left."""
        for folder in (CACHE, FOLDER / "builds"):
            if folder.exists():
                remove_tree(folder)
        CACHE.mkdir(parents=True)
        for name in _DOWNLOADED:
            (cache_folder() / name).mkdir(parents=True, exist_ok=True)
            (CACHE / name).symlink_to(cache_folder() / name)

    def build(self, version: str, *, change: Changed | None = None) -> dict[str, float]:
        """Build a version, whose definition has a file of its own; seconds per step."""
        definition = write_definition(FOLDER / "definition", version)
        began = time.monotonic()
        supply = newest_supply(definition, mirrors=self.bench.mirrors, cache=CACHE, progress=Silent())
        chosen_s = time.monotonic() - began
        if change is None:
            return _steps(chosen_s, *self._build(definition, version, supply))
        with changed(supply, change, FOLDER / "changed") as other:
            return _steps(chosen_s, *self._build(definition, version, other))

    def _build(self, definition: Path, version: str, supply: Supply) -> tuple[float, dict[str, float]]:
        began = time.monotonic()
        plan = plan_build(
            definition,
            version=Version.from_text(version),
            signatures=KeySource(self.bench.keyring, NoPassphrase()),
            out=FOLDER / "builds" / version,
            supply=supply,
            root_of_trust=OUT / "trust" / "repo" / "metadata" / "1.root.json",
        )
        summary = build_image(plan).summary
        return time.monotonic() - began, summary.seconds


def _steps(chosen_s: float, build_s: float, seconds: dict[str, float]) -> dict[str, float]:
    """Seconds per step, the choice of packages first, and whatever no step claims as `other`."""
    steps = {name: value for name, value in seconds.items() if name not in {"tools_tree", "total"}}
    total = chosen_s + build_s
    steps = {"choose_packages": chosen_s, **steps, "other": build_s - sum(steps.values()), "total": total}
    return {name: round(value, 2) for name, value in steps.items()}


def make_peer(bench: Workbench) -> tuple[PlainMkosi, str]:
    """The peer of the reference image, and the state of the archive both are built from."""
    definition = write_definition(FOLDER / "definition", "1.0.0")
    supply = newest_supply(definition, mirrors=bench.mirrors, cache=cache_folder(), progress=Silent())
    loaded = load_definition(definition)
    asked = asked_packages(definition, loaded, tools=bench.tools).root[None]
    place = SOURCE / "out" / "plain-mkosi"
    peer = PlainMkosi(bench.tools, bench.mirrors, loaded, asked, place, cache_folder() / "plain-mkosi")
    return peer, supply.packages.digest


def measure(rounds: int) -> BuildResult:
    """Make what is needed and measure."""
    machine = facts()
    bench = make_workbench()
    course, (peer, _) = BuildCourse(bench), make_peer(bench)
    measured = tuple(_round(course, peer) for _ in range(rounds))
    shutil.rmtree(FOLDER / "changed", ignore_errors=True)
    return BuildResult(machine, bench.finding.accelerator.value, peer.version(), measured)


def _round(course: BuildCourse, peer: PlainMkosi) -> dict[str, dict[str, float]]:
    course.clear()
    done: dict[str, dict[str, float]] = {}
    for number, (kind, change) in enumerate(
        (("cold", None), ("file", None), ("package", PACKAGE), ("library", LIBRARY))
    ):
        done[kind] = course.build(f"1.0.{number}", change=change)
        say(f"{kind}: {done[kind]['total']:.1f} s", to=sys.stderr)
    done[PEER] = {"total": round(peer.build(), 2)}
    say(f"{PEER}: {done[PEER]['total']:.1f} s", to=sys.stderr)
    return done


def main(words: Sequence[str]) -> int:
    """Measure, print, and write `out/bench-build.json`; 1 when a bar is missed."""
    options = bench_options(
        words,
        prog="bench_build.py",
        description="Seconds of a build, compared with plain mkosi.",
        rounds=ROUNDS,
        counted="how often each is built",
    )
    result = measure(options.rounds)
    text = write_document(DOCUMENT, result.values())
    say(text.rstrip() if options.as_json else "\n".join(result.lines()), to=sys.stdout)
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
