"""Hints are kept, and no state of the file, its lock or its disk keeps a host from judging what it runs."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock import persist
from partitions.version import Version
from tests.fakes.clock import START, FakeClock
from updater.agent.lock import exclusive
from updater.agent.state import Attempt, EventKind, Hints, Hold, Pin, PollResult
from updater.agent.state_file import kept_twice
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


PIN = Pin(Version("1.0.0"), "ab" * 32)
ASKED_FOR = replace(
    Hints(pin=PIN, hold=Hold("audit", NOW), newest_blessed=Version("1.0.2")).with_bad(Version("1.0.1"), "sick", NOW),
    attempts=(Attempt(Version("1.0.3"), 2),),
).with_event(EventKind.HELD, "audit", NOW)


def asked_for(hints: Hints) -> Hints:
    """What an operator asked for and what failed, alone."""
    return kept_twice(hints)


def damages(data: bytes) -> Iterator[bytes]:
    """A file cut after each byte, with a bit of each byte flipped, and with zeros in its place."""
    yield from (data[:length] for length in range(len(data)))
    for place in range(len(data)):
        yield data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
    yield bytes(len(data))


def test_what_was_asked_for_survives_every_cut_and_a_flipped_bit_anywhere_in_the_state_file(store: HintStore) -> None:
    store.change(lambda _: ASKED_FOR, NOW)
    for damaged in damages(store.path.read_bytes()):
        store.path.write_bytes(damaged)
        found = store.load(NOW)
        assert asked_for(found) == asked_for(ASKED_FOR), damaged
        assert found.history[-1].kind is EventKind.REBUILT


def test_damage_of_the_second_copy_changes_nothing_and_is_repaired(store: HintStore) -> None:
    store.change(lambda _: ASKED_FOR, NOW)
    whole = store.second.read_bytes()
    for damaged in damages(whole):
        store.second.write_bytes(damaged)
        assert store.load(NOW) == ASKED_FOR
    store.change(lambda hints: hints, NOW)
    assert store.second.read_bytes() == whole


@pytest.mark.parametrize("lost", ["path", "second"])
def test_a_file_that_is_lost_is_made_again_from_the_other(store: HintStore, lost: str) -> None:
    store.change(lambda _: ASKED_FOR, NOW)
    getattr(store, lost).unlink()
    assert asked_for(store.load(NOW)) == asked_for(ASKED_FOR)
    store.change(lambda hints: hints, NOW)
    assert all(path.exists() for path in (store.path, store.second))
    assert asked_for(HintStore(store.path).load(NOW)) == asked_for(ASKED_FOR)


def test_of_two_damaged_files_every_part_that_can_be_read_counts(store: HintStore) -> None:
    store.change(lambda _: ASKED_FOR, NOW)
    first = json.loads(store.path.read_bytes())
    first |= {"hold": {"reason": 5}, "bad": [*first["bad"], {"version": "_"}], "attempts": "none"}
    store.path.write_text(json.dumps(first))
    store.second.write_bytes(store.second.read_bytes().replace(b'"sick"', b'"sane"'))
    found = store.load(NOW)
    assert (found.pin, found.hold) == (PIN, ASKED_FOR.hold)
    assert [bad.reason for bad in found.bad] == ["sick"]
    assert found.attempts == ASKED_FOR.attempts
    assert found.history[0] == ASKED_FOR.history[0]
    assert "look at pin and hold" in found.history[-1].text


def test_two_files_that_are_no_longer_anything_are_said_to_be_lost(store: HintStore) -> None:
    store.change(lambda _: ASKED_FOR, NOW)
    for path in (store.path, store.second):
        path.write_bytes(bytes(path.stat().st_size))
    found = store.load(NOW)
    assert asked_for(found) == Hints()
    assert "nothing is left" in found.history[0].text


def test_a_damaged_state_file_is_kept_aside_and_replaced_by_the_next_change(store: HintStore) -> None:
    store.change(lambda _: ASKED_FOR, NOW)
    store.path.write_bytes(b"torn")
    store.load(NOW)
    assert store.path.read_bytes() == b"torn"
    store.change(lambda hints: hints, NOW)
    assert store.path.with_name("state.json.broken").read_bytes() == b"torn"
    assert [event.kind for event in store.load(NOW).history] == [EventKind.REBUILT]


def test_a_cut_between_the_two_files_leaves_the_old_hints_or_the_new_ones(
    store: HintStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.change(held, NOW)
    write = persist.write_atomic
    for most in range(3):
        written: list[Path] = []

        def cut(path: Path, data: bytes, *, mode: int, most: int = most, written: list[Path] = written) -> None:
            if len(written) >= most:
                raise OSError(errno.EIO, "cut")
            written.append(path)
            write(path, data, mode=mode)

        monkeypatch.setattr("updater.agent.store.persist.write_atomic", cut)
        with suppress(OSError):
            store.change(lambda hints: replace(hints, pin=PIN), NOW)
        monkeypatch.setattr("updater.agent.store.persist.write_atomic", write)
        found = HintStore(store.path).load(NOW)
        assert found.hold is not None
        assert found.pin == (PIN if most > 1 else None)


def test_a_poll_does_not_write_the_second_copy_again(store: HintStore) -> None:
    store.change(held, NOW)
    before = store.second.stat()
    store.change(lambda hints: hints.with_poll(PollResult.OK, "", NOW), NOW)
    assert store.second.stat().st_ino == before.st_ino


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
