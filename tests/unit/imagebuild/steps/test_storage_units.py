"""The script that records what containers' engines stored, and asks for a check when a boot finds something else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import imagebuild
from tests.fakes.programs import write_program

TREE = Path(str(imagebuild.__file__)).parent / "data/tree/usr/lib"
SCRIPT = TREE / "twinhull/containers-storage"
UNITS = TREE / "systemd/system"


class Store:
    """An engine's folder, the agent's state folder, and an agent that counts how often it is asked."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.state = base / "state"
        self.layers = base / "storage/overlay-layers/layers.json"
        self.images = base / "storage/overlay-images/images.json"
        self.docker = base / "docker/repositories.json"
        self.state.mkdir()
        self.agent = write_program(base / "bin", "updater", f"echo asked >>{base}/asked\n[ ! -e {base}/fails ]")

    def put(self, path: Path, text: str) -> None:
        """Replace a file as the engines do."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name("new")
        new.write_text(text)
        new.replace(path)

    def run(self, verb: str, *, fails: bool = False) -> str:
        environment = {
            **os.environ,
            "CONTAINERS_STORAGE": str(self.base / "storage"),
            "DOCKER_STORAGE": str(self.docker),
            "TWINHULL_STATE": str(self.state),
            "UPDATER": str(self.agent),
        }
        done = subprocess.run(
            ["/bin/sh", SCRIPT, verb], check=not fails, env=environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout

    def asked(self) -> int:
        """How often a check was asked for so far."""
        path = self.base / "asked"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_host_without_containers_is_not_checked(store: Store) -> None:
    store.run("record")
    store.run("check")
    assert store.asked() == 0
    assert not list(store.state.iterdir())


def test_what_was_recorded_is_not_checked(store: Store) -> None:
    store.put(store.layers, '[{"id":"1"}]')
    store.put(store.images, "[]")
    store.run("record")
    store.run("check")
    assert store.asked() == 0


def test_what_changed_since_the_record_is_checked_once(store: Store) -> None:
    store.put(store.layers, '[{"id":"1"}]')
    store.run("record")
    store.put(store.images, '[{"id":"2"}]')
    store.run("check")
    assert store.asked() == 1
    store.run("check")
    assert store.asked() == 1


def test_a_file_of_the_same_content_is_another_one(store: Store) -> None:
    store.put(store.layers, "[]")
    store.run("record")
    store.put(store.layers, "[]")
    store.run("check")
    assert store.asked() == 1


@pytest.mark.parametrize("record", [b"", b"\n", b"\xff\n\n[]", None], ids=["empty", "line", "foreign", "missing"])
def test_a_record_that_a_cut_spoiled_means_a_check(store: Store, record: bytes | None) -> None:
    store.put(store.layers, "[]")
    store.run("record")
    if record is None:
        (store.state / "containers.synced").unlink()
    else:
        (store.state / "containers.synced").write_bytes(record)
    store.run("check")
    assert store.asked() == 1


def test_a_check_that_was_not_finished_is_asked_for_again_whatever_was_recorded_meanwhile(store: Store) -> None:
    store.put(store.layers, "[]")
    (store.base / "fails").touch()
    store.run("check")
    store.run("record")
    store.run("check")
    assert store.asked() == 2
    (store.base / "fails").unlink()
    store.run("check")
    store.run("check")
    assert store.asked() == 3


def test_a_state_folder_that_takes_nothing_does_not_prevent_the_check(store: Store) -> None:
    store.put(store.layers, "[]")
    store.state.rmdir()
    store.state.touch()
    store.run("check", fails=True)
    assert store.asked() == 1


def test_the_record_holds_what_the_engine_knew_of(store: Store) -> None:
    store.put(store.layers, '[{"id":"1"}]')
    store.put(store.docker, '{"Repositories":{}}')
    store.run("record")
    facts, contents = (store.state / "containers.synced").read_text().split("\n\n", 1)
    assert [line.split()[0] for line in facts.splitlines()] == [str(store.layers), str(store.docker)]
    assert contents == '[{"id":"1"}]{"Repositories":{}}'


def test_docker_has_no_check_and_that_is_said(store: Store) -> None:
    store.put(store.docker, "{}")
    assert "docker" in store.run("check")
    assert store.asked() == 0
    assert store.run("check") == ""


def test_containers_start_after_the_check_however_they_are_started() -> None:
    unit = (UNITS / "twinhull-containers-storage.service").read_text()
    # Quadlets and all units with default dependencies come after this target, and stop before the unit does.
    assert "Before=basic.target docker.service containerd.service podman.service\n" in unit
    assert "\nWantedBy=basic.target\n" in unit
    assert "ExecStop=-/bin/sh /usr/lib/twinhull/containers-storage record\n" in unit


@pytest.mark.parametrize("unit", ["twinhull-containers-storage.service", "twinhull-containers-synced.service"])
def test_what_cannot_be_checked_or_recorded_is_no_failed_unit(unit: str) -> None:
    starts = [line for line in (UNITS / unit).read_text().splitlines() if line.startswith("ExecSt")]
    assert starts
    assert all(line.partition("=")[2].startswith("-") for line in starts)


def test_every_list_that_is_recorded_is_watched() -> None:
    path = (UNITS / "twinhull-containers-synced.path").read_text()
    text = SCRIPT.read_text()
    for kind in ("layers", "containers", "images"):
        assert f"\nPathChanged=/var/lib/containers/storage/overlay-{kind}/{kind}.json\n" in path
    assert "\nPathChanged=/var/lib/docker/image/overlay2/repositories.json\n" in path
    assert "state=${TWINHULL_STATE:-/var/lib/twinhull}\n" in text
    assert "enable twinhull-*.path\n" in (TREE / "systemd/system-preset/50-twinhull.preset").read_text()
