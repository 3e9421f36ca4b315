from __future__ import annotations

import pytest

from imagebuild.errors import BuildError
from imagebuild.inspection.contents import FORMAT, Contents, EntryKind, ImageEntry
from imagebuild.inspection.setuid import require_expected, setuid_programs, stripped_notes
from partitions.version import Version


def contents(*entries: ImageEntry, asked: dict[str, str] | None = None) -> Contents:
    return Contents(FORMAT, "host", Version("1"), asked or {}, (), entries)


def entry(path: str, mode: int = 0o755, kind: EntryKind = EntryKind.FILE, owner: str = "x") -> ImageEntry:
    return ImageEntry(path, kind, mode, 1, owner)


def test_folders_and_plain_programs_lend_no_rights() -> None:
    found = contents(entry("/a", 0o4755), entry("/b", 0o2755), entry("/c"), entry("/d", 0o2775, EntryKind.FOLDER))
    assert setuid_programs(found) == ("/a", "/b")


def test_a_setuid_program_that_nobody_named_fails_the_build() -> None:
    found = contents(entry("/usr/bin/sudo", 0o4755), entry("/usr/bin/sly", 0o4755))
    with pytest.raises(BuildError, match=r"setuid programs: /usr/bin/sly\n"):
        require_expected(found, ("/usr/bin/sudo",))
    require_expected(found, ("/usr/bin/sudo", "/usr/bin/sly"))


def test_only_packages_the_definition_asks_for_are_named_with_their_loss() -> None:
    found = contents(
        entry("/usr/bin/su", owner="util-linux"),
        entry("/usr/sbin/mount.nfs", owner="nfs-common"),
        asked={"util-linux": "every Debian system", "nfs-common": "image.yaml: packages"},
    )
    (note,) = stripped_notes(found, ("/usr/bin/su", "/usr/sbin/mount.nfs", "/usr/bin/gone"))
    assert note.startswith("nfs-common: not setuid here: /usr/sbin/mount.nfs ")
