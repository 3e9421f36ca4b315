"""Wheels come from outside: what is fetched, and that unpacking stays inside."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from imagebuild.errors import BuildError
from imagebuild.inputs import wheels


def wheel(folder: Path, *names: str) -> Path:
    path = folder / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def test_wanted_members_are_unpacked(tmp_path: Path) -> None:
    wheels.unpack(wheel(tmp_path, "a/b.py", "a/c.txt"), tmp_path / "out", wanted=lambda name: name.endswith(".py"))
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["b.py"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "a\\..\\evil"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match="leaves its folder"):
        wheels.unpack(wheel(tmp_path, name), tmp_path / "out", wanted=lambda _name: True)
    assert not (tmp_path / "evil").exists()


def test_two_wheels_may_not_bring_the_same_file(tmp_path: Path) -> None:
    packed = wheel(tmp_path, "a.py")
    wheels.unpack(packed, tmp_path / "out", wanted=lambda _name: True)
    with pytest.raises(FileExistsError):
        wheels.unpack(packed, tmp_path / "out", wanted=lambda _name: True)


def test_platforms_go_from_debians_own_glibc_down_to_the_oldest() -> None:
    names = wheels.platforms("aarch64")
    assert names[0] == "manylinux_2_41_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(names)
