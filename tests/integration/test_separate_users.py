"""Pipeline, release manager and online signer are different users of one machine, with one repository."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedrock.progress import Silent
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from partitions.version import Version
from tests.fakes.builds import Publisher, write_build
from updater.repository.access import KeyAccess
from updater.repository.channels import ChannelChange, ReleaseChoice, set_channel
from updater.repository.lifetime import Lifetimes
from updater.repository.upkeep.online import sign_online
from updater.repository.upkeep.verify import verify

GROUP = 64000
PIPELINE, MANAGER, SIGNER = 64001, 64002, 64003
HELD = {PIPELINE: ("releases-1",), MANAGER: ("channels-1",), SIGNER: ("snapshot-1", "timestamp-1")}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users can reach, which those of tests are not."""
    if os.geteuid() != 0:
        pytest.skip("only root can become other users")
    folder = Path(tempfile.mkdtemp(prefix="twinhull-users-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def shared(folder: Path) -> None:
    """As docs/signing.md says: the group may write, and new folders are the group's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 0, GROUP)
        path.chmod(0o2775 if path.is_dir() else 0o664)


def as_user(user: int, work: Callable[[], object]) -> None:
    """Do something as another user, in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(user)
            os.umask(0o002)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - it must not go on as the test
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_each_user_does_what_is_theirs_and_nobody_reads_anothers_keys(place: Path) -> None:
    now = datetime.now(UTC)
    everybody = Publisher.make(place, now=now)
    # What is imported when it is first used may be out of another user's reach.
    write_build(place / "first", version="0.9.0")
    everybody.publish_folders(place / "first", now=now)
    people = {}
    for user, names in HELD.items():
        folder = place / f"keys-{user}"
        shutil.copytree(everybody.access.keyring.folder, folder, ignore=shutil.ignore_patterns("*.pem"))
        for name in names:
            shutil.copy(everybody.access.keyring.folder / f"{name}.pem", folder)
        for path in (folder, *folder.iterdir()):
            os.chown(path, user, GROUP)
        people[user] = Publisher(place, KeyAccess(Keyring.load(folder), NoPassphrase()))
    write_build(place / "build")
    everybody.access.keyring.folder.chmod(0o700)
    shared(everybody.base)

    def point() -> None:
        change = ChannelChange(release=ReleaseChoice("host", Version("1.0.0")))
        access = people[MANAGER].access
        assert set_channel(everybody.base, "stable", change, access=access, lifetimes=Lifetimes(), now=now).waits

    def sign() -> None:
        access = people[SIGNER].access
        done = sign_online(everybody.base, access=access, lifetimes=Lifetimes(), now=now)
        assert done.visible == {"releases": 3, "channels": 2}

    as_user(PIPELINE, lambda: people[PIPELINE].publish_folders(place / "build", now=now))
    as_user(MANAGER, point)
    as_user(SIGNER, sign)
    report = verify(everybody.base, now=now, progress=Silent())
    assert (report.problems, report.releases, report.channels) == ((), 2, 1)

    def steal() -> None:
        with pytest.raises(PermissionError):
            next((place / f"keys-{SIGNER}").iterdir())

    as_user(PIPELINE, steal)
