from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bedrock.locks import held_folder
from bedrock.partial import new_file, new_folder, partial_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep/folder"
    with new_folder(target) as partial:
        (partial / "file").write_text("content")
        assert not target.exists()
        assert partial.is_relative_to(target.parent)
    assert names(target.parent) == ["folder"]
    assert (target / "file").read_text() == "content"


def fill_folder(target: Path, end: BaseException) -> None:
    with new_folder(target) as folder:
        (folder / "file").touch()
        raise end


def fill_file(target: Path, end: BaseException) -> None:
    with new_file(target) as file:
        file.write_text("half")
        raise end


@pytest.mark.parametrize("fill", [fill_folder, fill_file])
@pytest.mark.parametrize("end", [OSError("full"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing(
    tmp_path: Path, fill: Callable[[Path, BaseException], None], end: BaseException
) -> None:
    with pytest.raises(type(end)):
        fill(tmp_path / "target", end)
    assert names(tmp_path) == []


def test_the_folder_of_whoever_was_faster_stays(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with new_folder(target) as mine:
        (mine / "mine").touch()
        with new_folder(target) as theirs:
            (theirs / "theirs").touch()
    assert names(target) == ["theirs"]
    assert names(tmp_path) == ["folder"]


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    with pytest.raises(NotADirectoryError), new_folder(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["folder"]


def test_a_file_is_replaced_in_one_step_and_gets_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with new_file(target, mode=0o600) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["file"]


def test_what_a_killed_maker_left_is_removed_and_what_a_living_one_makes_is_not(tmp_path: Path) -> None:
    dead, living, other = (tmp_path / name for name in (".a.1.partial", ".a.2.partial", ".b.1.partial"))
    for folder in (dead, living, other):
        folder.mkdir()
        (folder / "file").touch()
    with held_folder(living), new_folder(tmp_path / "a"):
        pass
    assert names(tmp_path) == [living.name, other.name, "a"]
    (tmp_path / ".c.1.partial").touch()
    with new_file(tmp_path / "c"):
        pass
    assert names(tmp_path) == [living.name, other.name, "a", "c"]


def test_two_makers_of_one_file_do_not_remove_each_others(tmp_path: Path) -> None:
    with new_file(tmp_path / "file") as first, new_file(tmp_path / "file") as second:
        first.write_text("first")
        second.write_text("second")
    # The outer block ends last.
    assert (tmp_path / "file").read_text() == "first"


def test_a_partial_folder_is_removed_by_the_given_means(tmp_path: Path) -> None:
    removed: list[Path] = []

    def remove(folder: Path) -> None:
        removed.append(folder)
        folder.rmdir()

    with partial_folder(tmp_path / "a", remove=remove) as partial:
        pass
    assert removed == [partial]
    assert names(tmp_path) == []
