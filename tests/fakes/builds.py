"""Small builds and keys that repositories are made of in tests."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bedrock import strict
from bedrock.persist import free_bytes
from bedrock.progress import Silent
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from partitions.version import Version
from tests.fakes.keyrings import dev_folder
from updater.documents.release import FORMAT, Architecture, Artifact, Artifacts, Release
from updater.documents.slot_layout import FORMAT as LAYOUT_FORMAT
from updater.documents.slot_layout import LAYOUT, LAYOUT_FILE, SlotLayout
from updater.repository.access import KeyAccess
from updater.repository.lifetime import Lifetimes
from updater.repository.objects import QUICK_LEVEL
from updater.repository.publish import OTHERS_S, Publication, init_repository, publish, read_build

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
FILES = {"uki": "uki.efi", "root": "root.erofs", "verity": "root.verity"}


def write_build(
    folder: Path,
    *,
    version: str = "1.0.0",
    image: str = "host",
    architecture: str = "x86-64",
    seed: int = 1,
    slots: SlotLayout | None = None,
    root_blocks: int = 20,
    profile: str | None = None,
) -> Path:
    """A folder as a build writes it; `seed` decides the content, and `slots` is the layout it records."""
    folder.mkdir(parents=True)
    noise = random.Random(seed)  # noqa: S311 - content, not secrets
    contents = {
        # Noise does not compress, repetition does: both ways an object can be stored are met.
        "uki": noise.randbytes(5001),
        "root": noise.randbytes(4096) * root_blocks,
        "verity": noise.randbytes(4096) + bytes(4096),
    }
    for name, content in contents.items():
        (folder / FILES[name]).write_bytes(content)
    release = Release(
        format=FORMAT,
        image=image,
        version=Version(version),
        architecture=Architecture(architecture),
        root_hash=hashlib.sha256(contents["verity"]).hexdigest(),
        artifacts=Artifacts(**{name: _artifact(content) for name, content in contents.items()}),
        attachments={LAYOUT: _artifact(strict.dump_json(slots))} if slots else {},
        profile=profile,
    )
    if slots:
        (folder / LAYOUT_FILE).write_bytes(strict.dump_json(slots))
    (folder / "release.json").write_bytes(strict.dump_json(release))
    return folder


def slots_of(
    *, root_blocks: int = 100, verity_bytes: int = 1 << 20, boot_bytes: int = 2 << 20, architecture: str = "x86-64"
) -> SlotLayout:
    """A layout with room for small builds."""
    return SlotLayout(
        format=LAYOUT_FORMAT,
        image="host",
        architecture=Architecture(architecture),
        # Behind the root are the copy of its UKI, two blocks, and the block that describes it.
        root_bytes=4096 * (root_blocks + 3),
        verity_bytes=verity_bytes,
        boot_bytes=boot_bytes,
    )


@dataclass(frozen=True)
class Publisher:
    """A keys folder, a repository and a place for builds."""

    folder: Path
    access: KeyAccess

    @property
    def base(self) -> Path:
        return self.folder / "repo"

    @property
    def root_sha256(self) -> str:
        """The SHA-256 of the repository's first root document, as a build that bakes it in names it."""
        return hashlib.sha256((self.base / "metadata/1.root.json").read_bytes()).hexdigest()

    @classmethod
    def make(cls, folder: Path, *, now: datetime = NOW) -> Publisher:
        """A new, empty repository below `folder`, made with dev keys."""
        workshop = cls(folder, KeyAccess(Keyring.load(dev_folder(folder)), NoPassphrase()))
        init_repository(workshop.base, workshop.access, lifetimes=Lifetimes(), now=now)
        return workshop

    def without_keys(self, *names: str) -> Publisher:
        """The same workshop for somebody who does not hold these private keys."""
        keys = self.folder / f"keys-without-{'-'.join(names)}"
        shutil.copytree(self.folder / "keys", keys)
        for name in names:
            for path in keys.glob(f"{name}*.pem"):
                path.unlink()
        return Publisher(self.folder, KeyAccess(Keyring.load(keys), NoPassphrase()))

    def publish(
        self,
        version: str = "1.0.0",
        *,
        seed: int = 1,
        architecture: str = "x86-64",
        now: datetime = NOW,
        free_bytes: Callable[[Path], int] = free_bytes,
    ) -> tuple[Publication, ...]:
        """Publish a new small build."""
        folder = self.folder / f"build-{version}-{architecture}-{seed}"
        if not folder.exists():
            write_build(folder, version=version, seed=seed, architecture=architecture)
        return self.publish_folders(folder, now=now, free_bytes=free_bytes)

    def publish_folders(
        self,
        *folders: Path,
        now: datetime = NOW,
        allow_debug: bool = False,
        allow_unsigned: bool = False,
        allow_other_trust: bool = False,
        signing_wait_s: float = OTHERS_S,
        free_bytes: Callable[[Path], int] = free_bytes,
    ) -> tuple[Publication, ...]:
        """Publish build folders, packed quickly."""
        builds = [read_build(folder) for folder in folders]
        return publish(
            self.base,
            builds,
            access=self.access,
            lifetimes=Lifetimes(),
            now=now,
            progress=Silent(),
            level=QUICK_LEVEL,
            allow_debug=allow_debug,
            allow_unsigned=allow_unsigned,
            allow_other_trust=allow_other_trust,
            signing_wait_s=signing_wait_s,
            free_bytes=free_bytes,
        )


def snapshot_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but locks, to compare before and after."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.name != ".lock"}


def _artifact(content: bytes) -> Artifact:
    return Artifact(hashlib.sha256(content).hexdigest(), len(content))
