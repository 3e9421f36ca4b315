"""Only regular files of bounded length are read, and nothing is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bedrock.regular_files import is_regular, read_regular, remove_any


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="longer than 4 bytes"):
        read_regular(path, 4)


def test_what_is_not_a_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("fifo", "folder", "link", "missing"):
        with pytest.raises(OSError, match=r"regular file|directory|symbolic links|No such file"):
            read_regular(tmp_path / name, 5)
        assert not is_regular(tmp_path / name)


def test_whatever_is_there_is_removed_and_what_a_link_leads_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    here = tmp_path / "here"
    here.mkdir()
    (here / "link").symlink_to(tmp_path / "kept")
    (here / "folder/deep").mkdir(parents=True)
    os.mkfifo(here / "fifo")
    for name in ("link", "folder", "fifo", "missing"):
        remove_any(here / name)
    assert list(here.iterdir()) == []
    assert is_regular(tmp_path / "kept/file", 0)
