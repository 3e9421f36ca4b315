"""What the agent does about disk, boot partition and resets at each boot, and that none of it ends one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from bedrock.errors import TwinhullError
from partitions.disk import read_table
from partitions.layout import BUILT_ESP_UUID
from tests.fakes.gpt_disk import disk_image, twin_parts
from tests.fakes.host_folder import write_block_tree
from tests.fakes.machine import FakeMachine
from tests.fakes.twin_host import TwinHost, built
from updater.agent.agent import Agent
from updater.agent.config import Config
from updater.agent.ground.boot_check import Checked
from updater.agent.ground.disks import boot_partition
from updater.agent.ground.reset import CREDENTIAL, REQUEST
from updater.agent.ground.settling import reset_as_asked, settle_boot_partition, settle_disk
from updater.agent.host_paths import HostPaths
from updater.agent.lock import exclusive
from updater.agent.state import EventKind
from updater.agent.store import HintStore
from updater.errors import SlotError


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    made = HostPaths(tmp_path)
    made.state.mkdir(parents=True)
    made.runtime.mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/vda").write_bytes(disk_image(twin_parts()))
    write_block_tree(tmp_path, ("vda",), ["x"] * 8)
    return made


@pytest.fixture
def machine() -> FakeMachine:
    parts = [replace(part, uuid=BUILT_ESP_UUID) if part.label == "esp" else part for part in twin_parts()]
    return FakeMachine(TwinHost(built("1.0.0"), parts))


@pytest.fixture
def agent(paths: HostPaths, machine: FakeMachine) -> Agent:
    return Agent(machine, Config(), HintStore(paths.state / "state.json"), paths.runtime / "lock", None)


def told(agent: Agent) -> list[str]:
    return [event.text for event in agent.hints().history if event.kind is EventKind.DISK]


def test_a_new_disk_gets_identities_once(agent: Agent, paths: HostPaths, machine: FakeMachine) -> None:
    settle_disk(agent, paths)
    assert read_table(machine.host.disk).entries[0].uuid not in (BUILT_ESP_UUID, UUID(int=0))
    assert told(agent) == ["the disk has identities of its own now"]
    before = machine.host.disk.content
    settle_disk(agent, paths)
    assert machine.host.disk.content == before


def test_a_busy_host_keeps_its_identities_until_the_next_boot(
    agent: Agent, paths: HostPaths, machine: FakeMachine
) -> None:
    with exclusive(agent.lock_path, machine.clock):
        settle_disk(agent, paths)
    assert read_table(machine.host.disk).entries[0].uuid == BUILT_ESP_UUID
    assert "the disk keeps the identities it has" in told(agent)[0]


class Mount:
    """Mounts a folder, and says for what."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []  # type: Path, list[Path]

    @contextmanager
    def __call__(self, partition: Path, _at: Path, **_: object) -> Iterator[Path]:
        self.asked.append(partition)
        yield self.folder


@pytest.mark.parametrize("done", Checked)
def test_the_boot_partition_is_checked_and_what_was_salvaged_removed(
    agent: Agent, paths: HostPaths, tmp_path: Path, done: Checked
) -> None:
    asked: list[tuple[Path, list[str]]] = []

    def check(partition: Path, untouchable: Collection[str]) -> Checked:
        asked.append((partition, list(untouchable)))
        return done

    root = tmp_path / "boot"
    root.mkdir()
    (root / "FSCK0000.REC").touch()
    mount = Mount(root)
    settle_boot_partition(agent, paths, check, mount)
    assert asked == [(tmp_path / "dev/vda2", ["host_1.0.0.efi"])]
    assert (root / "FSCK0000.REC").exists() == (done is not Checked.REPAIRED)
    assert told(agent) == ([] if done is Checked.SOUND else [f"the boot partition: {done.value}"])


def test_a_boot_partition_that_takes_nothing_ends_no_boot(agent: Agent, paths: HostPaths) -> None:
    def mount(*_: object, **__: object) -> AbstractContextManager[Path]:
        raise TwinhullError("it cannot be mounted")

    settle_boot_partition(agent, paths, lambda *_: Checked.REPAIRED, mount)
    assert told(agent)[-1] == "the boot partition was not checked: it cannot be mounted"


def test_a_host_that_is_a_folder_has_no_partition_to_check(agent: Agent, paths: HostPaths) -> None:
    settle_boot_partition(agent, paths)
    assert told(agent) == []


def test_the_boot_partition_is_that_of_the_own_disk(paths: HostPaths) -> None:
    assert boot_partition(paths.root) == paths.root / "dev/vda2"
    (paths.root / "sys/class/block/vda2/partition").unlink()
    with pytest.raises(SlotError, match="no boot partition that the kernel knows"):
        boot_partition(paths.root)


def test_a_credential_asks_for_a_reset_and_a_reboot(agent: Agent, paths: HostPaths, machine: FakeMachine) -> None:
    reset_as_asked(agent, paths, None)
    assert machine.reboots == []
    (paths.root / CREDENTIAL).write_text("etc keep-identity audit-7")
    reset_as_asked(agent, paths, str(paths.root))
    assert machine.reboots == [False]
    assert (paths.state / REQUEST).read_text() == "etc keep-identity audit-7\n"


def test_a_credential_that_makes_no_sense_is_told(
    agent: Agent, paths: HostPaths, machine: FakeMachine, caplog: pytest.LogCaptureFixture
) -> None:
    (paths.root / CREDENTIAL).write_text("please")
    reset_as_asked(agent, paths, str(paths.root))
    assert machine.reboots == []
    assert CREDENTIAL in caplog.text
