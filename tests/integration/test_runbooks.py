"""Every command of docs/runbooks runs as written, on a small repository whose keys are where the pages say.

Whoever types them sits at a terminal and says yes.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bedrock.progress import Silent
from keys.generate import init
from keys.keyring import Keyring
from keys.passphrase import FixedPassphrase
from keys.roles import Profile
from partitions.version import Version
from tests.fakes.bootable_builds import write_bootable
from tests.fakes.builds import Publisher, write_build
from tests.fakes.keyrings import PASSPHRASE
from tests.fenced_blocks import Block, BlockUse, blocks_of, runbooks
from updater.repository.access import KeyAccess
from updater.repository.channels import ChannelChange, ReleaseChoice, set_channel
from updater.repository.lifetime import Lifetimes
from updater.repository.publish import init_repository
from updater.repository.upkeep.verify import verify

HOLDERS = {
    "anna": ("root-1", "targets-1", "KEK"),
    "ben": ("root-2",),
    "carol": ("root-3",),
    "online": ("snapshot-1", "timestamp-1"),
    "pipeline": ("releases-1",),
    "manager": ("channels-1",),
    "office": (),
}
FIRST, EXPIRED = "docs/runbooks/first-ceremony.md", "docs/runbooks/expired-root.md"
EVENTS = [page for page in runbooks() if not page.endswith("README.md")]
_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return init(tmp_path_factory.mktemp("all") / "keys", Profile.PRODUCTION, FixedPassphrase(PASSPHRASE))


def prepare(place: Path, keyring: Keyring, *, then: datetime) -> bytes:
    """A repository in use since then, and everybody's keys folder; returns the root that hosts have."""
    workshop = Publisher(place, KeyAccess(keyring, FixedPassphrase(PASSPHRASE)))
    step = init_repository(workshop.base, workshop.access, lifetimes=Lifetimes(), now=then)
    assert step.root is not None
    for version in ("0.9.0", "1.0.0"):
        workshop.publish_folders(write_bootable(place / "builds" / version, version, image="my-host"), now=then)
    change = ChannelChange(release=ReleaseChoice("my-host", Version("1.0.0")))
    set_channel(workshop.base, "stable", change, access=workshop.access, lifetimes=Lifetimes(), now=then)
    for holder, names in HOLDERS.items():
        folder = place / f"{holder}-keys"
        shutil.copytree(keyring.folder, folder, ignore=shutil.ignore_patterns("*.pem"))
        for name in names:
            shutil.copy(keyring.folder / f"{name}.pem", folder)
        (folder / "root.json").write_bytes(step.root.raw)
    return step.root.raw


@contextmanager
def terminal() -> Iterator[int]:
    """A terminal at which somebody says yes to every question."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"y\n" * 20)
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def run_block(block: Block, place: Path) -> None:
    """Run a block, as its mark says."""
    passphrase = place / "passphrase"
    passphrase.write_text(f"{PASSPHRASE}\n")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(place),
        "TWINHULL_KEYS_PASSPHRASE_FILE": str(passphrase),
    }
    with terminal() as stdin:
        done = subprocess.run(
            ["/bin/bash", "-eo", "pipefail", "-c", block.text],
            cwd=place,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    wanted = int(block.detail) if block.way is BlockUse.EXITS else 0
    assert done.returncode == wanted, f"{block} ended with {done.returncode}:\n{done.stdout.decode()[-4000:]}"


@pytest.mark.parametrize("page", EVENTS)
def test_the_runbook_runs_as_it_stands(page: str, tmp_path: Path, keyring: Keyring) -> None:
    place = tmp_path / "place"
    place.mkdir()
    write_build(place / "out" / "my-host" / "1.0.1", image="my-host", version="1.0.1", seed=5)
    trusted = None
    if page != FIRST:
        ago = timedelta(days=400) if page == EXPIRED else timedelta(days=1)
        trusted = prepare(place, keyring, then=datetime.now(UTC) - ago)
    blocks = [block for block in blocks_of(page) if block.language == "sh"]
    assert len(blocks) > 3
    for block in blocks:
        assert block.way in {BlockUse.RUN, BlockUse.EXITS}
        run_block(block, place)
    base = place / ("moved" if page.endswith("moved-repository.md") else "repo")
    # A host that knows only what it was made with follows.
    report = verify(base, now=datetime.now(UTC), progress=Silent(), trusted_root=trusted)
    assert report.problems == ()
    assert report.releases > 0


def test_there_is_a_page_for_each_event() -> None:
    (index,) = (page for page in runbooks() if page.endswith("README.md"))
    text = (Path(__file__).parents[2] / index).read_text()
    assert len(EVENTS) >= 8
    for page in EVENTS:
        assert f"({Path(page).name})" in text
