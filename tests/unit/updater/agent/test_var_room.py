"""A file system that takes nothing is recognized, by its own word and without writing to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from bedrock.progress import Silent
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.machine import FakeMachine, FakeServer
from tests.fakes.twin_host import TwinHost, built
from updater.agent.agent import Agent
from updater.agent.config import Config, Loaded
from updater.agent.gate import Gate, Judging
from updater.agent.health import failure_text
from updater.agent.health_settings import Engine, FailedUnits, Health, Need
from updater.agent.plan import UpdateOptions
from updater.agent.store import HintStore
from updater.agent.var_room import is_read_only, no_room
from updater.documents.channel import Instant

# The mount of a unit is read-only, the file system is not.
STRICT = "36 35 254:8 / /var ro,nosuid,nodev,relatime shared:1 - ext4 /dev/vda8 rw,quota\n"
BROKEN = "36 35 254:8 / /var rw,nosuid,nodev,relatime shared:1 - ext4 /dev/vda8 ro,errors=remount-ro\n"
OTHER = "22 1 254:3 / / ro,relatime - erofs /dev/dm-0 ro,user_xattr\n"


def room(*, blocks: int = 1 << 20, files: int = 1 << 20, counted: int = 1 << 20) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 1 << 20, blocks, 0, counted, files, 0, 1, 255))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (room(), ""),
        (room(blocks=255), "is full"),
        (room(blocks=256), ""),
        (room(files=15), "takes no more files"),
        (room(files=0, counted=0), ""),
    ],
)
def test_a_full_file_system_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: os.statvfs_result, reason: str
) -> None:
    monkeypatch.setattr("updater.agent.var_room.os.statvfs", lambda _: found)
    (tmp_path / "mountinfo").write_text(OTHER)
    assert no_room(tmp_path, tmp_path / "mountinfo").endswith(reason)
    assert bool(no_room(tmp_path, tmp_path / "mountinfo")) == bool(reason)


def test_a_read_only_file_system_is_told_and_a_read_only_mount_is_not_one(tmp_path: Path) -> None:
    assert is_read_only(OTHER + BROKEN, "254:8")
    assert not is_read_only(OTHER + STRICT, "254:8")
    assert not is_read_only(OTHER, "254:8")
    device = tmp_path.stat().st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    (tmp_path / "mountinfo").write_text(BROKEN.replace("254:8", name))
    assert no_room(tmp_path, tmp_path / "mountinfo") == f"{tmp_path} is read-only"


@pytest.mark.parametrize("text", ["", "\n", "36 35", "36 35 254:8 / /var rw", "36 35 254:8 / /var rw - "])
def test_what_is_no_such_table_says_nothing(text: str) -> None:
    assert not is_read_only(text, "254:8")


def test_what_cannot_be_found_out_is_taken_for_room(tmp_path: Path) -> None:
    assert no_room(tmp_path / "none") == ""
    assert no_room(tmp_path, tmp_path / "none") == ""


def fails(words: Sequence[str | Path], timeout_s: float) -> str:
    raise ProcessError(f"{words[0]}: no space left on device")


@pytest.mark.parametrize("room", ["", "/var is full"])
@pytest.mark.parametrize("trial", [True, False])
def test_a_trial_is_not_judged_by_what_a_full_disk_does_to_containers(
    tmp_path: Path, room: str, *, trial: bool
) -> None:
    releases = {text: built(text) for text in ("1.0.0", "1.0.1")}
    machine = FakeMachine(TwinHost(releases["1.0.0"]))
    machine.host.know(releases["1.0.1"])
    health = Health(engine=Engine.PODMAN, checks_dirs=(), patience=0.0, settle=0.0, failed_units=FailedUnits(Need.NONE))
    config = Config(url="http://server", channel="stable", health=health)
    server = FakeServer(channel_at(reference_to(releases["1.0.1"].release), Instant(START)), releases)
    agent = Agent(machine, config, HintStore(tmp_path / "state.json"), tmp_path / "lock", server)
    if trial:
        agent.update(UpdateOptions(), Silent())
        machine.power_cycle()
    results = Gate(agent, Loaded(config), fails, lambda: room).judge(Judging.AT_THE_GATE, lambda _: None)
    assert bool(failure_text(results)) == (not (trial and room))
    assert [result.ok for result in results if result.name == "podman answers"] == [False]
