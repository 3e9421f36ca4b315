"""The environment of a rehearsal: keys, builds, a repository, and its server on the loopback."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedrock import process
from bedrock.clock import SYSTEM_CLOCK
from bedrock.process import Running
from bedrock.progress import Progress
from imagebuild.errors import BuiltBeforeError, VmError
from imagebuild.inputs.mirror import Mirrors
from imagebuild.inputs.supply import newest_supply
from imagebuild.inputs.tools import cache_folder
from imagebuild.pipeline.build import Built, build_image
from imagebuild.steps.plan import plan_build
from imagebuild.steps.signing import KeySource
from imagebuild.vm.waiting import wait_for
from keys.generate import init
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import Profile
from partitions.version import Version
from updater.repository.access import KeyAccess
from updater.repository.channels import ChannelChange, ReleaseChoice, set_channel
from updater.repository.lifetime import Lifetimes
from updater.repository.objects import QUICK_LEVEL
from updater.repository.publish import init_repository, publish, read_build

CHANNEL = "stable"
_START_TIMEOUT_S = 30.0
_SENT = re.compile(r" GET /\S+ .*?(?P<status>\d{3}) (?P<bytes>\d+) bytes ")


@dataclass(frozen=True)
class Stage:
    """A folder, its keys, and where packages come from."""

    out: Path
    keyring: Keyring
    mirrors: Mirrors

    @property
    def repository(self) -> Path:
        """The repository."""
        return self.out / "repo"

    @property
    def access(self) -> KeyAccess:
        """All the keys."""
        return KeyAccess(self.keyring, NoPassphrase())

    def build(self, definition: Path, version: str, progress: Progress) -> Built:
        """Build a version of the definition in a folder, or take the one of the last run when nothing changed."""
        plan = plan_build(
            definition,
            version=Version.from_text(version),
            signatures=KeySource(self.keyring, NoPassphrase()),
            out=self.out / "builds" / version,
            supply=newest_supply(definition, mirrors=self.mirrors, cache=cache_folder(), progress=progress),
            root_of_trust=self.repository / "metadata" / "1.root.json",
        )
        try:
            return build_image(plan, progress=progress)
        except BuiltBeforeError:
            # The builds of a rehearsal are never published for others, so it may reuse version numbers.
            shutil.rmtree(plan.out)
            return build_image(plan, progress=progress)

    def publish(self, *versions: str, progress: Progress) -> None:
        """Publish builds."""
        builds = [read_build(self.out / "builds" / version) for version in versions]
        publish(
            self.repository,
            builds,
            access=self.access,
            lifetimes=Lifetimes(),
            now=SYSTEM_CLOCK.now(),
            progress=progress,
            level=QUICK_LEVEL,  # one host downloads it, once
        )

    def point(self, image: str, version: str) -> None:
        """Let the channel name a version, for every host at once."""
        point_channel(self.repository, image, version, access=self.access)

    @contextmanager
    def serve(self) -> Iterator[Served]:
        """Run `twinhull server` on the loopback for as long as the context lasts.

        Raises:
            VmError: It did not start.
        """
        ready, log = self.out / "server.url", self.out / "server.log"
        ready.unlink(missing_ok=True)
        words: list[str | Path] = [
            sys.executable,
            "-m",
            "imagebuild.cli",
            "server",
            self.repository,
            "--port",
            "0",
            "--ready-file",
            ready,
        ]
        with log.open("wb") as sink:
            server = process.start(words, stdout=sink, cwd=Path(__file__).parents[2])
            try:
                yield Served(_port_of(server, ready, log), log)
            finally:
                server.terminate()
                server.wait(_START_TIMEOUT_S)


def point_channel(repository: Path, image: str, version: str, *, access: KeyAccess) -> None:
    """Let the channel of a repository name a version, for every host at once (writes to the disk)."""
    change = ChannelChange(release=ReleaseChoice(image, Version.from_text(version)))
    set_channel(repository, CHANNEL, change, access=access, lifetimes=Lifetimes(), now=SYSTEM_CLOCK.now())


def _port_of(server: Running, ready: Path, log: Path) -> int:
    def look() -> str | None:
        if server.poll() is not None:
            raise VmError(f"the update server ended at once; see {log}")
        return ready.read_text() if ready.exists() else None

    url = wait_for(look, what=f"the update server (its log is {log})", timeout_s=_START_TIMEOUT_S)
    return int(url.strip().rsplit(":", 1)[1])


@dataclass(frozen=True)
class Served:
    """The running server."""

    port: int
    log: Path

    def sent_bytes(self) -> int:
        """How many bytes of answers it has sent so far, by its own log."""
        return sum(int(match["bytes"]) for match in _SENT.finditer(self.log.read_text()))


def set_stage(out: Path, mirrors: Mirrors) -> Stage:
    """Make keys and an empty repository anew; builds of an earlier run with the same keys stay (writes below `out`)."""
    out.mkdir(parents=True, exist_ok=True)
    folder = out / "keys"
    repository = out / "repo"
    if not (folder / "keyring.yaml").exists():
        for name in ("builds", "keys", "repo", "trust"):
            shutil.rmtree(out / name, ignore_errors=True)
        init(folder, Profile.DEV, NoPassphrase())
    stage = Stage(out.absolute(), Keyring.load(folder), mirrors)
    pristine = out / "trust"
    if not pristine.exists():
        init_repository(pristine, stage.access, lifetimes=Lifetimes(), now=SYSTEM_CLOCK.now())
    # Images trust this very root document, so that the repository of every run begins as a copy of the first one.
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(pristine, repository)
    return stage
