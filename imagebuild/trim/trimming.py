"""Trims an image: from its definition to the proposals.

    definition → two builds → a repository of their own → one machine's life, recorded
        → what was never touched and is not kept → its costs

Everything is below one folder and can be removed with it; builds and record are reused when nothing changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bedrock import strict
from bedrock.digest import texts_sha256
from bedrock.errors import DocumentError
from bedrock.persist import write_atomic
from bedrock.progress import Progress
from imagebuild.definition.image import load_definition
from imagebuild.inputs.mirror import Mirrors
from imagebuild.inputs.tools import ToolsTree, cache_folder, ensure_tools
from imagebuild.inspection.contents import Contents
from imagebuild.inspection.record import read_contents
from imagebuild.rehearsal.definition import copy_definition
from imagebuild.rehearsal.guest import HOST
from imagebuild.rehearsal.host import host_config, run_host
from imagebuild.rehearsal.registry import run_registry
from imagebuild.rehearsal.stage import Stage, set_stage
from imagebuild.steps.plan import INPUTS_FILE
from imagebuild.trim.judging import TrimOutcome, judge
from imagebuild.trim.keeping import KeepList, load_keep_list
from imagebuild.trim.life import FIRST, SECOND, RecordedLife
from imagebuild.trim.page_cache import Sample
from imagebuild.trim.recording import Recorder
from imagebuild.vm.accelerator import find_accelerator

RECORD_FILE = "recorded.json"
_MARKER = "/usr/share/twinhull-trim/version"


@dataclass(frozen=True)
class TrimOptions:
    """The options of a trim.

    Attributes:
        definition: The image definition's folder.
        out: Where everything is made.
        own_workload: The text of a shell script that the guest runs at each stage in addition to Twinhull's workload.
        memory_mib: Memory of the machine in MiB; its page cache must hold all that is read.
        everything: List small proposals one by one, too.
    """

    definition: Path
    out: Path
    own_workload: str | None
    memory_mib: int
    everything: bool = False


@dataclass(frozen=True)
class TouchRecord:
    """What was touched in the recorded sequence, and the inputs of the record."""

    key: str
    files: tuple[str, ...]
    modules: tuple[str, ...]


class Rehearsal(Protocol):
    """Two builds of a definition, and a machine that is recorded while it goes from one to the other."""

    def build(self) -> tuple[Path, Path]:
        """Both builds."""

    def record(self, build: Path, contents: Contents, keep: KeepList) -> Sample:
        """What a host of this build touches in its life."""

    def judge(self, build: Path, contents: Contents, touched: Sample, keep: KeepList) -> TrimOutcome:
        """What could be dropped from this build, with its price."""


def trim(options: TrimOptions, rehearsal: Rehearsal, *, progress: Progress) -> TrimOutcome:
    """Build, boot, record, and report what could be dropped (writes below `options.out` and the cache only).

    Raises:
        DocumentError: The definition has errors.
        BuildError: It cannot be built.
        VmError: The image does not boot, or is not healthy.
        TrimError: The workload failed, or the record cannot be trusted.
    """
    definition = load_definition(options.definition)
    keep = load_keep_list().with_own(definition.trim, paths=definition.keep, modules=definition.keep_modules)
    builds = rehearsal.build()
    contents = read_contents(builds[0])
    key = _record_key(builds, options.own_workload)
    place = options.out / RECORD_FILE
    record = read_record(place, key)
    if record is None:
        touched = rehearsal.record(builds[0], contents, keep)
        record = TouchRecord(key, tuple(sorted(touched.files)), tuple(sorted(touched.modules)))
        write_atomic(place, strict.dump_json(record))
    else:
        progress.step("nothing has changed since the last record, so it is reused")
    touched = Sample(frozenset(record.files), frozenset(record.modules))
    return rehearsal.judge(builds[0], contents, touched, keep)


def write_rehearsed(definition: Path, folder: Path, *, second: bool) -> Path:
    """Write the definition for the rehearsal into `folder`; the second one, for the update, has one more small file."""

    def change(document: dict[str, Any]) -> None:
        if second:
            document["files"] = [*(document.get("files") or []), {"path": _MARKER, "content": f"{SECOND}\n"}]

    return copy_definition(definition, folder, change)


def read_record(path: Path, key: str) -> TouchRecord | None:
    """The record of an earlier run if it was made from the same inputs."""
    try:
        record = strict.read_json(TouchRecord, path.read_bytes(), source=str(path))
    except (DocumentError, FileNotFoundError):
        return None
    return record if record.key == key else None


def _record_key(builds: tuple[Path, ...], own: str | None) -> str:
    """The inputs of a record: the builds, named by the hash of all their inputs, including this program."""
    parts = [*((build / INPUTS_FILE).read_text() for build in builds), own or ""]
    return texts_sha256(parts)


@dataclass(frozen=True)
class MachineRehearsal:
    """A rehearsal for real, below `options.out`."""

    options: TrimOptions
    stage: Stage
    tools: ToolsTree
    progress: Progress

    @classmethod
    def make(cls, options: TrimOptions, *, mirrors: Mirrors, progress: Progress) -> MachineRehearsal:
        """Make tools, keys and a repository ready (writes below `options.out` and the cache)."""
        tools = ensure_tools(mirrors, cache=cache_folder(), progress=progress)
        return cls(options, set_stage(options.out, mirrors), tools, progress)

    def build(self) -> tuple[Path, Path]:
        """Both builds."""
        folder, wanted = self.stage.out / "definitions", self.options.definition
        folder.mkdir(exist_ok=True)
        first = write_rehearsed(wanted, folder / FIRST, second=False)
        second = write_rehearsed(wanted, folder / SECOND, second=True)
        built = self.stage.build(first, FIRST, self.progress).out
        return built, self.stage.build(second, SECOND, self.progress).out

    def record(self, build: Path, contents: Contents, keep: KeepList) -> Sample:
        """Publish both builds, and record a machine that boots the first and updates to the second."""
        self.stage.publish(FIRST, SECOND, progress=self.progress)
        self.stage.point(contents.image, FIRST)
        finding = find_accelerator(self.tools, cache=cache_folder())
        self.progress.step(finding.line)
        settings, memory_mib = {"reboot": {"policy": "manual"}}, self.options.memory_mib
        with self.stage.serve() as served, run_registry(self.tools, self.stage.out / "registry") as registry:
            config = host_config(self.stage, build, served, memory_mib=memory_mib, **settings)
            with run_host(self.stage, config, tools=self.tools, accelerator=finding.accelerator) as machine:
                program = (self.tools.root / "usr/bin/fincore").read_bytes()
                life = RecordedLife(
                    Recorder(machine.shell, program, self.progress),
                    contents=contents,
                    keep=keep,
                    reference=registry.reference(HOST),
                    own=self.options.own_workload,
                    offer_update=lambda: self.stage.point(contents.image, SECOND),
                )
                return life.lead()

    def judge(self, build: Path, contents: Contents, touched: Sample, keep: KeepList) -> TrimOutcome:
        """What could be dropped, with its price."""
        everything = self.options.everything
        return judge(build, contents, touched, keep, everything=everything, tools=self.tools, progress=self.progress)
