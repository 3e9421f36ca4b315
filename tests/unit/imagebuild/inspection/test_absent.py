from __future__ import annotations

from imagebuild.inspection.absent import absent_notes
from imagebuild.inspection.contents import FORMAT, Contents, EntryKind, ImageEntry
from imagebuild.steps.dpkg import InstalledPackage
from partitions.version import Version

ASKED = "image.yaml: packages"


def package(name: str, *files: str) -> InstalledPackage:
    return InstalledPackage(
        name=name,
        version="1",
        architecture="amd64",
        source=name,
        source_version="1",
        section="",
        summary="",
        essential=False,
        depends=(),
        provides=(),
        files=files,
    )


def notes(*installed: InstalledPackage, asked: str = ASKED) -> list[str]:
    entries = (
        ImageEntry("/usr/bin/curl", EntryKind.FILE, 0o755, 1, "curl"),
        ImageEntry("/usr/lib/firmware", EntryKind.FOLDER, 0o755, 0, "firmware-x"),
    )
    contents = Contents(FORMAT, "host", Version("1"), {one.name: asked for one in installed}, (), entries)
    return list(absent_notes(contents, installed))


def test_a_package_whose_files_are_all_gone_is_named() -> None:
    gone = package("firmware-x", "/usr", "/usr/lib", "/usr/lib/firmware", "/usr/lib/firmware/x.bin")
    (note,) = notes(gone, package("curl", "/usr/bin/curl"))
    assert note.startswith("firmware-x: ")


def test_a_package_that_only_draws_in_others_is_not_missed() -> None:
    assert notes(package("meta", "/usr", "/usr/share", "/usr/share/doc/meta", "/usr/share/doc/meta/copyright")) == []


def test_microcode_is_in_the_initrd_and_not_missed() -> None:
    assert notes(package("intel-microcode", "/usr/lib/firmware/intel-ucode/06-01-01")) == []


def test_what_came_only_for_others_is_not_named() -> None:
    assert notes(package("firmware-x", "/usr/lib/firmware/x.bin"), asked="every Twinhull image") == []
