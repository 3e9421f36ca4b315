"""Hints are kept, and no state of the file, its lock or its disk keeps a host from judging what it runs."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from partitions.version import Version
from tests.fakes.clock import START, FakeClock
from updater.agent.lock import exclusive
from updater.agent.state import EventKind, Hints, Hold
from updater.agent.store import MAX_STATE_BYTES, PATIENCE_S, HintStore
from updater.documents.channel import Instant

NOW = Instant(START)


def held(hints: Hints) -> Hints:
    return replace(hints, hold=Hold("audit", NOW))


@pytest.fixture
def store(tmp_path: Path) -> HintStore:
    found = HintStore(tmp_path / "lib/state.json", clock=FakeClock())
    found.path.parent.mkdir()
    return found


def endless(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(MAX_STATE_BYTES + 1)


def a_full_folder(path: Path) -> None:
    (path / "deep").mkdir(parents=True)


@pytest.mark.parametrize("in_the_way", [a_full_folder, Path.touch, lambda _: None], ids=["folder", "file", "nothing"])
@pytest.mark.parametrize(
    "make",
    [a_full_folder, os.mkfifo, endless, lambda path: path.symlink_to("/dev/zero")],
    ids=["folder", "fifo", "endless", "link"],
)
def test_what_is_no_state_file_is_set_aside_and_does_not_stop_the_host(
    store: HintStore, make: Callable[[Path], None], in_the_way: Callable[[Path], None]
) -> None:
    make(store.path)
    in_the_way(store.path.with_name("state.json.broken"))
    assert [event.kind for event in store.load(NOW).history] == [EventKind.REBUILT]
    assert store.change(held, NOW).hold is not None
    assert store.load(NOW).hold is not None


def test_a_disk_that_cannot_be_read_or_written_costs_the_hints_and_nothing_else(
    store: HintStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.change(held, NOW)

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("updater.agent.store.read_regular", fails)
    monkeypatch.setattr(Path, "replace", fails)
    lost = store.load(NOW)
    assert lost.hold is None
    assert "Input/output error" in lost.history[0].text


def test_only_its_owner_can_hold_the_lock(store: HintStore, tmp_path: Path) -> None:
    lock = store.path.with_name("state.json.lock")
    lock.touch(mode=0o644)
    store.path.parent.chmod(0o777)
    store.change(held, NOW)
    with exclusive(tmp_path / "run/lock", FakeClock()):
        assert stat.S_IMODE((tmp_path / "run/lock").stat().st_mode) == 0o600
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o755


def test_a_lock_that_is_never_given_up_is_waited_for_within_bounds(tmp_path: Path) -> None:
    clock = FakeClock()
    store = HintStore(tmp_path / "state.json", clock=clock)
    with (tmp_path / "state.json.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another process has held it for 10 s"):
            store.change(held, NOW)
        assert sum(clock.slept) == PATIENCE_S
    assert store.change(held, NOW).hold is not None


@pytest.fixture
def mirrored(tmp_path: Path) -> HintStore:
    """A store whose disk takes nothing as long as there is a file in the place of its folder."""
    (tmp_path / "lib").touch()
    return HintStore(tmp_path / "lib/state.json", tmp_path / "run/state.json", clock=FakeClock())


def test_what_the_disk_does_not_take_counts_until_the_next_boot(mirrored: HintStore, tmp_path: Path) -> None:
    mirrored.remember(held, NOW)
    assert mirrored.load(NOW).hold is not None
    mirrored.remember(lambda hints: hints.with_bad(Version("1.0.1"), "x", NOW), NOW)
    assert mirrored.load(NOW).hold is not None
    assert mirrored.load(NOW).bad_version(Version("1.0.1")) is not None
    (tmp_path / "run/state.json").unlink()
    assert mirrored.load(NOW) == Hints()


def test_what_an_operator_asks_for_is_kept_for_good_or_refused(mirrored: HintStore) -> None:
    with pytest.raises(OSError, match=r"exists|directory"):
        mirrored.change(held, NOW)
    assert mirrored.load(NOW) == Hints()


def test_what_was_kept_in_memory_moves_to_the_disk_with_the_next_change(mirrored: HintStore, tmp_path: Path) -> None:
    mirrored.remember(held, NOW)
    (tmp_path / "lib").unlink()
    mirrored.remember(lambda hints: hints, NOW)
    assert not (tmp_path / "run/state.json").exists()
    assert HintStore(mirrored.path).load(NOW).hold is not None


def test_a_damaged_copy_in_memory_does_not_hide_what_is_on_the_disk(store: HintStore, tmp_path: Path) -> None:
    store.change(held, NOW)
    (tmp_path / "copy.json").write_text("ha")
    both = HintStore(store.path, tmp_path / "copy.json")
    assert both.load(NOW).hold is not None
    both.change(lambda hints: hints, NOW)
    assert not (tmp_path / "copy.json").exists()
