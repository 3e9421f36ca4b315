"""The folders of one build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagebuild.definition.config import Folders
from imagebuild.inputs.archive import archive_path
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.steps.plan import BuildPlan
from updater.documents.release import ArtifactKind


@dataclass(frozen=True)
class Workshop:
    """The folders of one build; the results of its steps are values of their own (`products.py`).

    Attributes:
        plan: The build.
        work: The working folder, on the disk of the build's place.
        scratch: Where mkosi works.
    """

    plan: BuildPlan
    work: Path
    scratch: Path

    @property
    def tools(self) -> ToolsTree:
        """The tools tree."""
        return self.plan.supply.tools

    @property
    def out(self) -> Path:
        """The folder that becomes the build."""
        return self.work / "out"

    @property
    def definition(self) -> Path:
        """The copy of the definition's files that is built from, without this host's modes and times."""
        return self.work / "definition"

    @property
    def extra(self) -> Path:
        """The files that Twinhull and the definition put into the image."""
        return self.work / "extra"

    @property
    def log(self) -> Path:
        """The build log."""
        return self.out / "build.log"

    @property
    def folders(self) -> Folders:
        """The folders of mkosi for the package tree: all below one folder, so that it can rename instead of copy."""
        archive = archive_path(self.plan.supply.packages, cache=self.plan.cache)
        names = ("cache", "apt", "workspace")
        return Folders(self.scratch / "output", archive, *(self.scratch / name for name in names))

    @property
    def kept_tree(self) -> Path:
        """Where the tree of installed packages is kept: per set of packages, so that a new one is never missed."""
        return self.plan.cache / "trees" / f"{self.folders.archive.name}-{self.tools.identity}.tar.zst"

    @property
    def config(self) -> Path:
        """The generated configuration, kept next to the build for people to read."""
        return self.out / "config"

    @property
    def kept_log(self) -> Path:
        """Where the log of a failed build is kept."""
        return self.plan.out.with_name(f"{self.plan.out.name}.failed.log")

    @property
    def access(self) -> Access:
        """What mkosi and systemd-repart may see of the host."""
        return Access(read=(self.folders.archive,), write=(self.work, self.scratch))

    def artifact(self, kind: ArtifactKind) -> Path:
        """Where a file that a host downloads is made."""
        return self.out / kind.file_name

    def make_folders(self) -> None:
        """Make the folders that the steps write to (writes to the disk)."""
        for folder in (self.out, self.folders.output, self.folders.workspace):
            folder.mkdir(parents=True, exist_ok=True)

    def keep_log(self) -> None:
        """Move the log of a failed build next to the build's place (changes names on the disk)."""
        if self.log.is_file():
            # A rename, because the disk may be full.
            self.log.replace(self.kept_log)
