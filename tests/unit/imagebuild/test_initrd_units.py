"""What the initrd mounts is still there in the real root."""

from __future__ import annotations

from pathlib import Path

import pytest

import imagebuild

INITRD = Path(str(imagebuild.__file__)).parent / "data/initrd/usr/lib/systemd/system"
STOPPED_WITH_ANOTHER = ("Requires=", "Requisite=", "BindsTo=", "PartOf=")


@pytest.mark.parametrize("name", ["sysroot-var.mount", "sysroot-etc.mount"])
def test_a_mount_does_not_end_with_a_service_that_ends_when_the_root_is_switched(name: str) -> None:
    lines = (INITRD / name).read_text().splitlines()
    bound = [line for line in lines if line.startswith(STOPPED_WITH_ANOTHER) and ".service" in line]
    assert bound == []


def test_the_disk_is_divided_after_the_root_is_found() -> None:
    (drop_in,) = (INITRD / "systemd-repart.service.d").iterdir()
    assert "After=sysroot.mount" in drop_in.read_text().splitlines()
