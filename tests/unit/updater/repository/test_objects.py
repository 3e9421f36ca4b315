from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bedrock.progress import Silent
from updater.documents.release import Artifact, Compression
from updater.errors import RefusedError, RepositoryError
from updater.repository.layout import Layout
from updater.repository.objects import WINDOW_LOG, check_object, put_object

CONTENT = b"a ship with two hulls " * 4096


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "repo")
    made.base.mkdir()
    (tmp_path / "source").write_bytes(CONTENT)
    return made


def artifact(content: bytes = CONTENT) -> Artifact:
    return Artifact(hashlib.sha256(content).hexdigest(), len(content))


def put(layout: Layout, what: Artifact | None = None, *, level: int = 9) -> bool:
    source = layout.base.parent / "source"
    return put_object(layout, source, what or artifact(), level=level, progress=Silent()).new


def files(layout: Layout) -> list[Path]:
    return [path for path in layout.objects.rglob("*") if path.is_file()]


def test_object_is_named_by_its_own_digest_and_unpacks_to_the_artifact(layout: Layout) -> None:
    assert put(layout)
    (path,) = files(layout)
    packed = path.read_bytes()
    assert path == layout.objects / path.name[:2] / hashlib.sha256(packed).hexdigest()
    assert zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG).decompress(packed) == CONTENT


def test_same_again_writes_nothing(layout: Layout) -> None:
    put(layout)
    (path,) = files(layout)
    before = path.stat().st_ino
    assert not put(layout)
    assert path.stat().st_ino == before


@pytest.mark.parametrize(
    "what",
    [artifact(CONTENT[:-1]), artifact(CONTENT + b"x"), Artifact(hashlib.sha256(b"other").hexdigest(), len(CONTENT))],
)
def test_source_that_changed_meanwhile_leaves_no_object(layout: Layout, what: Artifact) -> None:
    with pytest.raises(RefusedError, match="changed while it was being published"):
        put(layout, what)
    assert files(layout) == []


def test_full_disk_leaves_no_object(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        put(layout)
    assert files(layout) == []


@pytest.mark.parametrize("level", [0, 20, -1])
def test_level_out_of_range_is_refused(layout: Layout, level: int) -> None:
    with pytest.raises(RepositoryError, match="level"):
        put(layout, level=level)


@pytest.mark.parametrize("level", [1, 19])
def test_every_level_keeps_the_window_small(layout: Layout, level: int) -> None:
    put(layout, level=level)
    (path,) = files(layout)
    assert zstandard.get_frame_parameters(path.read_bytes()).window_size <= 1 << WINDOW_LOG


def test_stored_object_passes_its_own_check(layout: Layout) -> None:
    done = put_object(layout, layout.base.parent / "source", artifact(), level=9, progress=Silent())
    assert done.stored.compression is Compression.ZSTD
    assert check_object(layout.object_file(done.stored), done.stored, artifact()) == ()
    assert check_object(layout.object_file(done.stored), done.stored, artifact(CONTENT + b"x")) != ()
    assert check_object(layout.object_file(done.stored), done.stored, artifact(CONTENT[:-1])) != ()


@given(st.text())
def test_no_target_path_leads_out_of_the_repository(path: str) -> None:
    layout = Layout(Path("/repo"))
    try:
        file = layout.target_file(path, "0" * 64)
    except RepositoryError:
        return
    assert file.is_relative_to("/repo/targets")
    assert ".." not in file.parts


@pytest.mark.parametrize("path", ["", "/etc/passwd", "..", "a/../b", "a//b", "a/.hidden", "a/b\0", "a\\b", "a/"])
def test_target_path_of_another_form_is_refused(path: str) -> None:
    with pytest.raises(RepositoryError, match="not a target path"):
        Layout(Path("/repo")).target_file(path, "0" * 64)
