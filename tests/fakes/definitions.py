"""Image definitions, mirrors and plans for tests of the image build."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bedrock.progress import Progress
from imagebuild.definition import ImageDefinition, load_definition
from imagebuild.mirror import Mirrors
from imagebuild.plan import BuildPlan
from keys.keyring import Keyring
from partitions.version import Version
from tests.fakes.keyrings import dev_folder

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
    """Unencrypted keys with a root of trust beside them."""
    keys = dev_folder(folder)
    (keys / "root.json").write_bytes(ROOT_OF_TRUST)
    return Keyring.load(keys)


def write_mirror(folder: Path, release: str = "trixie") -> Path:
    """A mirror as files, with nothing but what names its state."""
    for suite in (release, f"{release}-updates"):
        (folder / "dists" / suite).mkdir(parents=True)
        (folder / "dists" / suite / "InRelease").write_text(f"Codename: {suite}\n")
    return folder


def plan_in(folder: Path, text: str = "id: host\n") -> BuildPlan:
    """A plan that was never checked; nothing but its folders exist."""
    return BuildPlan(
        folder=folder / "definition",
        definition=definition_of(folder / "definition", text),
        version=Version("1.0.0"),
        profile=None,
        keyring=write_keys(folder),
        root_of_trust=folder / "keys/root.json",
        mirrors=Mirrors("http://mirror.test/debian", None),
        archive_state="0123456789abcdef",
        out=folder / "out/host/1.0.0",
        cache=folder / "cache",
        digest="d" * 64,
    )


@dataclass
class RecordedProgress(Progress):
    """Remembers the steps."""

    steps: list[str] = field(default_factory=list)

    def step(self, name: str, *, total: int | None = None) -> None:
        self.steps.append(name)

    def advance(self, amount: int) -> None:
        """Nobody looks at amounts."""
