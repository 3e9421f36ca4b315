"""The check of the containers' storage: what the stop cut is removed, and nothing else with what uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from bedrock.process import Finished
from tests.fakes.clock import START, FakeClock
from updater.agent.state import EventKind
from updater.agent.storage import RECORD_FILE, Damage, check_and_note, check_storage, damage_in
from updater.agent.store import HintStore
from updater.documents.channel import Instant
from updater.errors import StorageError

OLD, NEW = "a" * 64, "b" * 64
IMAGE, CONTAINER = "c" * 64, "d" * 64
# podman 5.4, shortened: it says the reason of each layer again for the image that uses it.
REPORT = f"""\
Damaged layer {NEW}:
2 errors occurred:
\t* layer {NEW}: consume any trailer after the EOF marker: file integrity checksum failed for "data/1/0000"
\t* layer {NEW}: file integrity checksum failed for "data/1/0000"

Damaged image {IMAGE}:
1 error occurred:
\t* layer {NEW}: file integrity checksum failed for "data/1/0000"

"""


@dataclass
class FakePodman:
    """Reports each kind of damage until it is repaired; what containers use stays without `--force`."""

    layers: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    containers: set[str] = field(default_factory=set)
    in_use: set[str] = field(default_factory=set)
    broken: str = ""
    commands: list[str] = field(default_factory=list)

    def __call__(self, words: Sequence[str], timeout_s: float) -> Finished:
        assert timeout_s > 0
        self.commands.append(" ".join(words))
        if self.broken:
            return Finished(tuple(words), 125, "", f"time=now level=warning\nError: {self.broken}\n")
        kinds = {"layer": self.layers, "image": self.images, "container": self.containers}
        report = "".join(
            f"Damaged {kind} {each}:\n1 error occurred:\n\n" for kind, ids in kinds.items() for each in ids
        )
        if "--repair" in words:
            for ids in kinds.values():
                ids.intersection_update(() if "--force" in words else self.in_use)
            return Finished(tuple(words), 0, report, "")
        error = "Error: damage detected in local storage\n" if report else ""
        return Finished(tuple(words), 125 if report else 0, report, error)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / RECORD_FILE
    path.write_text(f'/layers.json 1 2 3\n\n[{{"id":"{OLD}","diff-digest":"sha256:{OLD}"}}]')
    return path


def test_what_podman_reports_is_read() -> None:
    found = damage_in(REPORT)
    assert found == Damage(frozenset({NEW}), frozenset({IMAGE}))
    assert not damage_in("Error: damage detected in local storage\n")


def test_a_whole_storage_is_looked_at_once_and_not_repaired(record: Path) -> None:
    podman = FakePodman()
    assert not check_storage(record, podman).found
    assert podman.commands == ["podman system check --quick"]


def test_what_was_stored_since_the_last_record_is_removed_with_what_uses_it(record: Path) -> None:
    podman = FakePodman(layers={NEW}, images={IMAGE}, containers={CONTAINER}, in_use={NEW, IMAGE, CONTAINER})
    done = check_storage(record, podman)
    assert done.found.ids == {NEW, IMAGE, CONTAINER}
    assert not done.left
    assert podman.commands[1] == "podman system check --quick --repair --force"


def test_what_was_recorded_is_never_removed_with_the_containers_that_use_it(record: Path) -> None:
    podman = FakePodman(layers={OLD}, images={IMAGE}, in_use={OLD, IMAGE})
    done = check_storage(record, podman)
    assert "podman system check --quick --repair" in podman.commands
    assert not any("--force" in command for command in podman.commands)
    assert done.left.ids == {OLD, IMAGE}


def test_a_record_that_is_missing_means_that_nothing_was_recorded(tmp_path: Path) -> None:
    podman = FakePodman(layers={OLD}, in_use={OLD})
    assert not check_storage(tmp_path / "none", podman).left


def test_a_storage_that_podman_cannot_read_is_an_error_with_its_reason(record: Path) -> None:
    with pytest.raises(StorageError, match="Error: unexpected end of JSON"):
        check_storage(record, FakePodman(broken="unexpected end of JSON"))


def test_a_check_that_does_not_end_is_an_error(record: Path) -> None:
    def hangs(words: Sequence[str], timeout_s: float) -> Finished:
        raise ProcessError(f"{words[0]} was still running after {timeout_s:g} s")

    with pytest.raises(StorageError, match="still running after 5 s"):
        check_storage(record, hangs, limit_s=5.0)


def test_what_was_removed_and_what_was_left_is_in_the_history(record: Path) -> None:
    store = HintStore(record.parent / "state.json", clock=FakeClock())
    podman = FakePodman(layers={NEW, OLD}, images={IMAGE}, in_use={OLD})
    said = check_and_note(record.parent, store, FakeClock(), podman)
    (event,) = store.load(Instant(START)).history
    assert (event.kind, event.text) == (EventKind.STORAGE, said)
    assert f"removed 1 layer ({NEW[:12]}), 1 image ({IMAGE[:12]})" in said
    assert f"left 1 layer ({OLD[:12]})" in said


def test_a_whole_storage_leaves_no_line_in_the_history(record: Path) -> None:
    store = HintStore(record.parent / "state.json", clock=FakeClock())
    assert "whole" in check_and_note(record.parent, store, FakeClock(), FakePodman())
    assert not store.load(Instant(START)).history


def test_a_check_that_could_not_be_made_is_in_the_history(record: Path) -> None:
    store = HintStore(record.parent / "state.json", clock=FakeClock())
    with pytest.raises(StorageError):
        check_and_note(record.parent, store, FakeClock(), FakePodman(broken="no such driver"))
    (event,) = store.load(Instant(START)).history
    assert "no such driver; containers start all the same" in event.text


def test_a_history_that_cannot_be_written_does_not_stop_the_repair(record: Path) -> None:
    (record.parent / "file").touch()
    store = HintStore(record.parent / "file/state.json", clock=FakeClock())
    podman = FakePodman(layers={NEW})
    check_and_note(record.parent, store, FakeClock(), podman)
    assert not podman.layers
