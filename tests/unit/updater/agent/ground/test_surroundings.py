"""What is said of disks and state: at this boot, in the status and in the history."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.host_folder import write_block_tree
from updater.agent.ground.storage_notes import NOTES, StorageNote, Treatment, read_notes
from updater.agent.ground.surroundings import note, read_ground
from updater.agent.state import EventKind
from updater.agent.store import HintStore
from updater.documents.channel import Instant

NOW = Instant.from_text("2026-03-01T12:00:00Z")


def notes_of(root: Path, data: bytes) -> tuple[StorageNote, ...]:
    (root / NOTES).parent.mkdir(parents=True, exist_ok=True)
    (root / NOTES).write_bytes(data)
    return read_notes(root)


def test_what_the_initrd_did_is_read(tmp_path: Path) -> None:
    text = b"var volatile e2fsck of /dev/vda8 ended with 8\nstate reset /dev/vda7 holds xfs\n"
    found = notes_of(tmp_path, text)
    assert found == (
        StorageNote("var", Treatment.VOLATILE, "e2fsck of /dev/vda8 ended with 8"),
        StorageNote("state", Treatment.RESET, "/dev/vda7 holds xfs"),
    )
    assert str(found[0]) == "var is in memory until the next boot: e2fsck of /dev/vda8 ended with 8"
    assert str(found[1]) == "state is made anew: /dev/vda7 holds xfs"


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\n", b"var\n", b"var melted because\n", b"x" * (1 << 20)])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, data: bytes) -> None:
    assert notes_of(tmp_path, data) == ()


def test_nothing_was_done_at_a_good_boot(tmp_path: Path) -> None:
    assert read_notes(tmp_path) == ()


def test_a_machine_whose_disks_cannot_be_compared_says_what_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes_of(tmp_path, b"var repaired x\n")
    (tmp_path / "sys/class/block").mkdir(parents=True)
    assert read_ground(tmp_path, tmp_path, "1" * 64).remarks == ("var is repaired: x",)
    assert "cannot be compared" in caplog.text


def test_a_disk_that_is_gone_meanwhile_is_no_error(tmp_path: Path) -> None:
    write_block_tree(tmp_path, ("vda",), ["x"] * 8)
    assert read_ground(tmp_path, tmp_path, "1" * 64).remarks == ()


def test_a_remark_that_is_made_at_every_boot_has_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = HintStore(tmp_path / "state.json", clock=FakeClock())
    for _ in range(3):
        note(store, ["the clone is there", "var is repaired"], NOW)
    events = [event.text for event in store.load(NOW).history if event.kind is EventKind.DISK]
    assert events == ["the clone is there", "var is repaired"]
    assert caplog.text.count("the clone is there") == 3
    note(store, [], NOW)
    note(store, ["something else"], NOW)
    note(store, ["var is repaired"], NOW)
    assert [event.text for event in store.load(NOW).history][-2:] == ["something else", "var is repaired"]


def test_a_state_that_takes_nothing_does_not_end_the_boot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state.json.lock").mkdir()
    note(HintStore(tmp_path / "state.json", clock=FakeClock()), ["var is repaired"], NOW)
    assert "could not be written" in caplog.text
