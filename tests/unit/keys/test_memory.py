from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import KeysError
from keys.memory import in_memory, memory_folder

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:22 / /memory rw,nosuid shared:2 - tmpfs tmpfs rw
24 22 0:23 / /run rw shared:3 master:4 - tmpfs tmpfs rw
25 24 8:2 / /run/media rw - vfat /dev/sdb1 rw
26 22 0:24 / /mnt/with\040space rw - ramfs none rw
27 22 0:25 / /covered rw - tmpfs tmpfs rw
28 27 8:3 / /covered rw - ext4 /dev/sdc1 rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/memory", True),
        ("/memory/deep/er", True),
        ("/memoryoo", False),
        ("/run", True),
        ("/run/media/stick", False),
        ("/mnt/with space", True),
        ("/covered", False),
        ("/home", False),
        ("/", False),
    ],
)
def test_the_nearest_and_latest_mount_decides(path: str, *, expected: bool) -> None:
    assert in_memory(Path(path), MOUNTS) is expected


@given(st.text())
def test_any_text_is_read_and_nothing_unknown_is_memory(text: str) -> None:
    if "tmpfs" not in text and "ramfs" not in text:
        assert not in_memory(Path("/memory"), text)


def test_folder_on_a_disk_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    with (
        pytest.raises(KeysError, match="no writable folder in memory") as caught,
        memory_folder([tmp_path], mounts=mounts),
    ):
        pass
    assert list(tmp_path.iterdir()) == [mounts]
    assert "tmpfs" in caught.value.hints[0]


def test_runtime_folder_is_tried_after_the_first(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:2 / {tmp_path} rw - tmpfs tmpfs rw\n")
    with memory_folder([tmp_path / "nowhere", tmp_path], mounts=mounts) as folder:
        assert folder.parent == tmp_path
    assert not folder.exists()
