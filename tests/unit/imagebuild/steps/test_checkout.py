"""Copies of checked-out files: nothing of them shows who checked them out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from imagebuild.definition.image import BuildProfile
from imagebuild.inputs.tools import ToolsTree, usual_umask
from imagebuild.paths import DATA
from imagebuild.steps.checkout import copy_files
from imagebuild.steps.filesystems import write_extra_files
from imagebuild.steps.workshop import Workshop
from tests.fakes.definitions import plan_in

EVERYTHING = f"id: host\nrescue: true\nssh: {{keys: ['ssh-ed25519 {'A' * 60} alice@example.com']}}\n"


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def checked_out(source: Path, folder: Path, mask: int) -> Path:
    """What git makes of the files of `source` with this umask."""
    with umask(mask):
        for path in sorted(source.rglob("*")):
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                copy.symlink_to(path.readlink())
            elif path.is_file():
                shutil.copyfile(path, copy)
                copy.chmod((0o777 if path.stat().st_mode & 0o100 else 0o666) & ~mask)
    return folder


def seen(tree: Path) -> dict[str, tuple[int, bytes | str]]:
    """Modes and contents, folders among them."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in tree.rglob("*"):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(tree))] = (path.lstat().st_mode, content)
    return found


def every_file(folder: Path, data: Path) -> dict[str, tuple[int, bytes | str]]:
    """What an image with every way in gets of `data`, in a build."""
    plan = plan_in(folder, EVERYTHING)
    plan = replace(plan, profile=BuildProfile.DEBUG, supply=replace(plan.supply, tools=ToolsTree(folder / "tools/abc")))
    shop = Workshop(plan, folder / "work", folder / "scratch")
    with usual_umask():
        write_extra_files(shop, folder / "tree", data)
        copy_files(data / "scripts", folder / "tree/scripts")
    return seen(folder / "tree")


def test_an_image_of_a_checkout_with_a_strict_umask_is_that_of_any_other(tmp_path: Path) -> None:
    found = [
        every_file(tmp_path / f"build-{mask:o}", checked_out(DATA, tmp_path / f"checkout-{mask:o}", mask))
        for mask in (0o077, 0o002, 0o022)
    ]
    assert found[0] == found[1] == found[2]
    modes = {name: mode & 0o7777 for name, (mode, _) in found[0].items()}
    assert modes["usr/lib/systemd"] == modes["scripts/kernel.finalize"] == 0o755
    assert modes["usr/lib/systemd/system/twinhull-boot.service"] == 0o644
    assert {"usr/lib/sysctl.d/60-twinhull.conf", "etc/ssh/sshd_config.d/20-image.conf"} <= modes.keys()
    assert "usr/lib/systemd/system/console-getty.service.d/20-autologin.conf" in modes


def test_what_is_in_the_folder_already_stays(tmp_path: Path) -> None:
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/mine").write_text("mine")
    (tmp_path / "data/etc").mkdir(parents=True)
    (tmp_path / "data/etc").chmod(0o700)
    (tmp_path / "data/etc/ours").write_text("ours")
    before = (tmp_path / "tree/etc").stat().st_mode
    copy_files(tmp_path / "data", tmp_path / "tree")
    assert {path.name for path in (tmp_path / "tree/etc").iterdir()} == {"mine", "ours"}
    assert (tmp_path / "tree/etc").stat().st_mode == before
