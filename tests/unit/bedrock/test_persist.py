"""Durable writes: the old content or the new one, and never over a file that must not be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bedrock import persist


def test_a_file_is_written_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        persist.write_atomic(tmp_path / "a", "text", mode=0o644)
        persist.write_new(tmp_path / "b", b"raw", mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_text() == "text"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600


def test_content_is_replaced_and_no_temporary_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    persist.write_atomic(path, "long old content")
    persist.write_atomic(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_that_has_the_old_file_open_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    persist.write_atomic(path, "old")
    with path.open() as reader:
        persist.write_atomic(path, "new")
        assert reader.read() == "old"


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    persist.write_atomic(path, "old")

    def full_disk(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        persist.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_data_are_on_the_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    seen: list[str] = []
    real = os.fsync

    def watched(handle: int) -> None:
        seen.append(path.read_text())
        real(handle)

    monkeypatch.setattr(os, "fsync", watched)
    persist.write_atomic(path, "new")
    assert seen == ["old", "new"], "first the file is synced, then (renamed) its folder"


def test_a_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    persist.write_new(path, "first")
    with pytest.raises(FileExistsError):
        persist.write_new(path, "second")
    assert path.read_text() == "first"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        persist.write_new(tmp_path / "link", "x")
    assert not (tmp_path / "elsewhere").exists()
