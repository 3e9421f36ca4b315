"""Who brought what into an image, and why."""

from __future__ import annotations

import pytest

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.errors import BuildError
from imagebuild.inspection.contents import AGENT, BUILD, DEFINITION, Contents, EntryKind, make_contents
from imagebuild.inspection.record import base_packages, parse_listing
from imagebuild.paths import DATA
from imagebuild.steps.dpkg import InstalledPackage
from partitions.version import Version


def package(name: str, *files: str, depends: tuple[tuple[str, ...], ...] = (), provides: str = "") -> InstalledPackage:
    return InstalledPackage(
        name=name,
        version="1",
        architecture="amd64",
        source=name,
        source_version="1",
        section="",
        summary=f"{name} it is",
        essential=False,
        depends=depends,
        provides=(provides,) if provides else (),
        files=files,
    )


def contents() -> Contents:
    return make_contents(
        image="host",
        version=Version.from_text("1"),
        asked={"podman": "every image", "absent": "image.yaml: packages"},
        installed=(
            package("init", "/sbin/init", "/usr", depends=(("podman",),)),
            package("loop", depends=(("podman",),)),
            package("podman", "/usr/bin/podman", "/usr", depends=(("runtime", "other"), ("loop",))),
            package("crun", "/usr/bin/crun", "/lib/modules/x/kernel/a.ko.xz", provides="runtime"),
        ),
        names=(
            ("/usr", EntryKind.FOLDER, 0o755, 0),
            ("/usr/sbin/init", EntryKind.LINK, 0o777, 0),
            ("/usr/bin/podman", EntryKind.FILE, 0o755, 10),
            ("/usr/bin/crun", EntryKind.FILE, 0o755, 5),
            ("/usr/bin/updater", EntryKind.FILE, 0o755, 7),
            ("/usr/lib/modules/x/kernel/a.ko", EntryKind.FILE, 0o644, 1),
            ("/etc/motd", EntryKind.FILE, 0o644, 3),
            ("/etc/ld.so.cache", EntryKind.FILE, 0o644, 2),
        ),
        agent={"/usr/bin/updater"},
        definition={"/etc/motd"},
    )


def test_every_name_has_an_owner() -> None:
    owners = {entry.path: entry.owner for entry in contents().entries}
    assert owners["/usr/sbin/init"] == "init"
    assert owners["/usr/bin/updater"] == AGENT
    assert owners["/usr/lib/modules/x/kernel/a.ko"] == "crun"
    assert owners["/etc/motd"] == DEFINITION
    assert owners["/etc/ld.so.cache"] == BUILD


def test_a_package_of_which_nothing_is_left_is_not_shipped() -> None:
    assert [each.name for each in contents().shipped] == ["init", "podman", "crun"]


def test_why_leads_from_what_was_asked_over_provided_names() -> None:
    reasons = contents().reasons
    assert reasons["podman"] == ("every image", "podman")
    assert reasons["crun"] == ("every image", "podman", "crun")
    assert reasons["loop"] == ("every image", "podman", "loop")
    assert "init" not in reasons
    assert "absent" not in reasons


def test_the_record_is_read_as_it_was_written() -> None:
    whole = contents()
    assert strict.read_json(Contents, strict.dump_json(whole), source="x") == whole


def test_a_record_of_another_format_is_refused() -> None:
    text = strict.dump_json(contents()).replace(b'"format": 2', b'"format": 3')
    with pytest.raises(DocumentError, match="format 3"):
        strict.read_json(Contents, text, source="x")


def test_a_listing_is_read_with_spaces_in_names() -> None:
    listing = "f 4755 12 /usr/bin/a b\0d 755 4096 /usr\0l 777 9 /bin\0"
    assert list(parse_listing(listing)) == [
        ("/usr/bin/a b", EntryKind.FILE, 0o4755, 12),
        ("/usr", EntryKind.FOLDER, 0o755, 0),
        ("/bin", EntryKind.LINK, 0o777, 0),
    ]


def test_a_device_in_an_image_is_told() -> None:
    with pytest.raises(BuildError, match="/dev/null"):
        list(parse_listing("c 666 0 /dev/null\0"))


def test_the_base_s_packages_are_read_from_its_configuration() -> None:
    found = base_packages((DATA / "image.conf").read_text())
    assert {"nftables", "systemd", "zlib1g"} <= set(found)
    assert base_packages("[Content]\nPackages=one two\n\tthree\nOther=\n") == ("one", "two", "three")
