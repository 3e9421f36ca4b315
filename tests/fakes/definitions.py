"""Image definitions, mirrors and plans for tests of the image build."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from bedrock.progress import Progress
from imagebuild.definition.image import ImageDefinition, load_definition
from imagebuild.definition.sources import DEBIAN
from imagebuild.inputs.lockfile import FORMAT, Lock, LockedPackage, LockedWheel, Selection
from imagebuild.inputs.supply import Supply
from imagebuild.inputs.tools import ToolsTree
from imagebuild.inspection.summary import Summary
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.signing import KeySource
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from partitions.version import Version
from tests.fakes.keyrings import dev_folder

SUMMARY = Summary("host", Version("1.0.0"), "ab" * 32, "6.12", 3, {"uki.efi": 1}, {"total": 1.0})
ROOT_OF_TRUST = b'{"signatures": [], "signed": {"_type": "root"}}'


def write_definition(folder: Path, text: str = "id: host\n") -> Path:
    """An image definition of this text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "image.yaml").write_text(text)
    return folder


def definition_of(folder: Path, text: str) -> ImageDefinition:
    """What this text says."""
    return load_definition(write_definition(folder, text))


def write_keys(folder: Path) -> Keyring:
    """Unencrypted keys with a root of trust next to them."""
    keys = dev_folder(folder)
    (keys / "root.json").write_bytes(ROOT_OF_TRUST)
    return Keyring.load(keys)


def package(name: str, content: bytes = b"deb", *, version: str = "1") -> LockedPackage:
    """A locked package whose file has this content."""
    return LockedPackage(
        name=name,
        version=version,
        architecture="amd64",
        archive=DEBIAN,
        path=f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def selection_of(*packages: LockedPackage) -> Selection:
    """A selection of just these."""
    return Selection("trixie", tuple(each.name for each in packages), (), packages)


def lock_of(*packages: LockedPackage) -> Lock:
    """A lock of these packages, with no tools and one wheel."""
    wheel = LockedWheel("tuf-7.0.1-py3-none-any.whl", 1, "a" * 64)
    return Lock(FORMAT, "host", ("root: podman",), selection_of(*packages), selection_of(), (wheel,))


def supply_in(folder: Path) -> Supply:
    """A supply of one package, with tools that are not there."""
    tools = ToolsTree(folder / "tools/abc")
    bases = {DEBIAN: "http://mirror.test/debian"}
    return Supply(
        tools, selection_of(package("podman")), bases, offline=False, cache=folder / "cache", locked=None, seconds=1.0
    )


def plan_in(folder: Path, text: str = "id: host\n") -> BuildPlan:
    """A plan that was never checked; nothing but its folders exist."""
    return BuildPlan(
        folder=folder / "definition",
        definition=definition_of(folder / "definition", text),
        version=Version("1.0.0"),
        profile=None,
        signatures=KeySource(write_keys(folder), NoPassphrase()),
        root_of_trust=folder / "keys/root.json",
        supply=supply_in(folder),
        out=folder / "out/host/1.0.0",
        program_sha256="c" * 64,
        digest="d" * 64,
    )


@dataclass
class RecordedProgress(Progress):
    """Remembers the steps."""

    steps: list[str] = field(default_factory=list)

    def step(self, name: str, *, total: int | None = None) -> None:
        self.steps.append(name)

    def advance(self, amount: int) -> None:
        """Ignore amounts."""
