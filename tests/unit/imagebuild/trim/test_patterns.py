"""How paths and modules are named."""

from __future__ import annotations

import pytest

from imagebuild.trim.patterns import drop_line, matched_by, module_keeper, module_name, module_place, path_keeper

MODULE = "/usr/lib/modules/6.12/kernel/drivers/md/dm-verity.ko"


def test_a_module_is_told_by_its_place() -> None:
    assert module_place(MODULE) == "drivers/md/dm-verity.ko"
    assert module_name("drivers/md/dm-verity.ko") == "dm_verity"
    assert module_place("/usr/lib/modules/6.12/modules.dep") is None
    assert module_place("/usr/lib/firmware/kernel/x.ko") is None


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/usr/share/zoneinfo", True),
        ("/usr/share/zoneinfo/Europe/Berlin", True),
        ("/usr/share/zoneinfos", False),
        ("/usr/sbin/fsck.ext4", True),
        ("/usr/sbin/mkfs.ext4", False),
        ("/usr/lib/x.d/a.conf", True),
        ("/usr/lib/x/y.d/a.conf", False),
    ],
)
def test_a_kept_path_keeps_what_lies_below_it(path: str, kept: bool) -> None:  # noqa: FBT001 - a table
    assert path_keeper(("/usr/share/zoneinfo/", "/usr/sbin/fsck*", "/usr/lib/*.d"))(path) is kept


def test_nothing_named_keeps_nothing() -> None:
    assert not path_keeper(())("/usr/bin/podman")
    assert not module_keeper(())("fs/nfs/nfs.ko")


@pytest.mark.parametrize(
    ("place", "kept"),
    [("fs/nfs/nfs.ko", True), ("fs/nfsd/nfsd.ko", False), ("net/a/b.ko", True), ("net/a/c.ko", False)],
)
def test_a_kept_folder_keeps_its_modules(place: str, kept: bool) -> None:  # noqa: FBT001 - a table
    assert module_keeper(("fs/nfs/", "net/*/b.ko"))(place) is kept


def test_what_a_line_cannot_hold_becomes_any_character() -> None:
    assert drop_line("/usr/bin/[") == "/usr/bin/?"
    assert drop_line(r"/usr/a b\x2d") == "/usr/a?b?x2d"


def test_a_line_matches_names_and_what_lies_below() -> None:
    paths = ["/usr/bin/[", "/usr/bin/w", "/usr/bin/ww", "/usr/share/x/y", "/usr/share/xy"]
    assert list(matched_by("/usr/bin/?", paths)) == ["/usr/bin/[", "/usr/bin/w"]
    assert list(matched_by("/usr/share/x", paths)) == ["/usr/share/x/y"]
    assert list(matched_by("/usr/*/x*", paths)) == ["/usr/share/x/y", "/usr/share/xy"]
