from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import ToolsError
from imagebuild.inputs import own_root
from imagebuild.inputs.build_host import require_build_host, root_of_its_own

ROOT = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
PROC = "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"


def test_a_root_folder_that_is_a_mount_point_will_do(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(ROOT + PROC)
    require_build_host(tmp_path / "mountinfo", as_root=False)
    assert root_of_its_own(tmp_path / "mountinfo") == ()


def test_root_gives_each_tool_a_root_of_its_own_in_a_plain_chroot(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(PROC)
    require_build_host(tmp_path / "mountinfo", as_root=True)
    assert root_of_its_own(tmp_path / "mountinfo")[-1] == own_root.__file__


def test_a_plain_chroot_says_what_is_missing_to_anybody_else(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(PROC)
    with pytest.raises(ToolsError, match="not a mount point") as caught:
        require_build_host(tmp_path / "mountinfo", as_root=False)
    assert "mount --bind DIR DIR" in caught.value.hints[0]


def test_a_chroot_without_proc_says_so(tmp_path: Path) -> None:
    with pytest.raises(ToolsError, match="/proc is not mounted") as caught:
        require_build_host(tmp_path / "absent")
    assert caught.value.hints == ("in a chroot: mount -t proc proc /proc",)
