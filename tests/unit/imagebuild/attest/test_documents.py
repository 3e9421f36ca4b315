"""From what the steps of a build leave behind to its two documents; dpkg's records and the wheel are small fakes."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagebuild.attest.documents import write_attestations
from imagebuild.attest.linked import GO_SECTION
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import ToolsTree
from imagebuild.inputs.wheels import LOCK
from imagebuild.inspection.contents import AGENT, FORMAT, Contents, EntryKind, ImageEntry, Package
from imagebuild.steps.products import Initrd, Kernel, PackageTree
from imagebuild.steps.workshop import Workshop
from partitions.version import Version
from tests.fakes.definitions import plan_in
from tests.fakes.elf_files import elf_file, sections_file
from updater.documents.statement import parse_statement

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 A
License: Expat
"""


def dpkg(folder: Path, **files: str) -> None:
    """A dpkg database with these packages, each with one file."""
    (folder / "info").mkdir(parents=True)
    rows = []
    for name, path in files.items():
        package = name.replace("_", "-")
        rows.append(f"Package: {package}\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n")
        (folder / f"info/{package}.list").write_text(f"/.\n{path}\n")
    (folder / "status").write_text("\n".join(rows))


def contents() -> Contents:
    agent = "/usr/lib/twinhull/app/tuf/api.pyc"
    entries = (
        ImageEntry("/usr/bin/podman", EntryKind.FILE, 0o755, 1, "podman"),
        ImageEntry("/usr/lib/twinhull/bin/python3", EntryKind.FILE, 0o755, 1, AGENT),
        ImageEntry(agent, EntryKind.FILE, 0o644, 1, AGENT),
    )
    packages = tuple(Package(name, "1", "amd64", name, "1", "", (), ()) for name in ("perl", "podman"))
    return Contents(FORMAT, "host", Version.from_text("1.0.0"), {}, packages, entries)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    tools = ToolsTree(tmp_path / "tools/abc")
    plan = plan_in(tmp_path)
    made = Workshop(replace(plan, supply=replace(plan.supply, tools=tools)), tmp_path / "work", tmp_path / "scratch")
    for folder in (made.out, made.folders.output, tools.root / "usr/bin"):
        folder.mkdir(parents=True)
    dpkg(made.folders.output / "dpkg", podman="/usr/bin/podman", perl="/usr/bin/perl", linux_image="/boot/vmlinuz-6.12")
    dpkg(made.work / "initrd-dpkg", udev="/usr/bin/udevadm", dash="/bin/sh")
    (made.folders.output / "dpkg/copyright").mkdir()
    (made.folders.output / "dpkg/copyright/podman").write_text(COPYRIGHT)
    efi = "/usr/lib/systemd/boot/efi"
    dpkg(
        tools.root / "var/lib/dpkg",
        python="/usr/bin/python3.13",
        loader=f"{efi}/systemd-bootx64.efi",
        stub=f"{efi}/linuxx64.efi.stub",
        gcc="/usr/bin/gcc",
    )
    (tools.root / "usr/bin/python3.13").write_bytes(b"\x7fELF" + bytes(14) + b"\x3e\x00")
    key = hashlib.sha256(LOCK.read_bytes() + b"x86_64").hexdigest()[:16]
    wheels = made.plan.cache / "wheels" / key
    wheels.mkdir(parents=True)
    with zipfile.ZipFile(wheels / "tuf-7-py3-none-any.whl", "w") as archive:
        archive.writestr("tuf/api.py", "")
        archive.writestr("tuf-7.dist-info/METADATA", "Name: tuf\nVersion: 7\n")
    for name in ("uki.efi", "root.erofs", "root.verity"):
        (made.out / name).write_bytes(name.encode())
    for name in ("usr/bin/podman", "usr/lib/twinhull/bin/python3"):
        path = made.folders.output / "tree" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(elf_file())
    return made


def attest(shop: Workshop) -> None:
    output, record = shop.folders.output, shop.work / "initrd-dpkg"
    tree = PackageTree(output / "tree", output / "dpkg", Kernel("6.12", output / "vmlinuz"))
    write_attestations(shop, contents(), tree, Initrd(shop.work / "initrd", record, ("/usr/bin/udevadm",)))


def parts_of(shop: Workshop) -> dict[str, set[str]]:
    rows: list[dict[str, Any]] = json.loads((shop.out / "sbom.cdx.json").read_bytes())["components"]
    return {
        row["name"]: {each["value"] for each in row["properties"] if each["name"] == "twinhull:part"} for row in rows
    }


def test_every_part_of_a_release_is_in_the_bill_of_materials(shop: Workshop) -> None:
    attest(shop)
    assert parts_of(shop) == {
        "podman": {"root file system"},
        "linux-image": {"kernel"},
        "udev": {"initrd"},
        "python": {"agent's interpreter"},
        "loader": {"boot loader"},
        "stub": {"UKI stub"},
        "tuf": {"agent"},
        "twinhull-updater": {"agent"},
    }


def test_what_a_program_says_is_linked_into_it_is_in_the_bill_of_materials(shop: Workshop) -> None:
    table = b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\x08go1.24.4\x00"
    (shop.folders.output / "tree/usr/bin/podman").write_bytes(sections_file({GO_SECTION: table}))
    attest(shop)
    assert parts_of(shop)["stdlib"] == {"root file system"}


def test_licences_come_from_the_record_of_the_tree_a_package_is_in(shop: Workshop) -> None:
    attest(shop)
    document = json.loads((shop.out / "sbom.cdx.json").read_bytes())
    licences = {each["name"]: each.get("licenses") for each in document["components"]}
    assert licences["podman"] == [{"license": {"name": "Expat"}}]
    assert licences["udev"] is None


def test_the_provenance_names_the_files_as_they_lie_there(shop: Workshop) -> None:
    attest(shop)
    statement = parse_statement((shop.out / "provenance.json").read_bytes(), source="provenance")
    assert statement.digests == {
        name: hashlib.sha256((shop.out / name).read_bytes()).hexdigest()
        for name in ("uki.efi", "root.erofs", "root.verity", "sbom.cdx.json")
    }
    used = {each.uri.partition("@")[0] for each in statement.predicate.buildDefinition.resolvedDependencies}
    assert {"pkg:deb/debian/perl", "pkg:deb/debian/dash", "pkg:pypi/tuf"} <= used
    assert "pkg:deb/debian/gcc" not in used


def test_a_second_time_gives_the_same_bytes(shop: Workshop) -> None:
    attest(shop)
    before = [(shop.out / name).read_bytes() for name in ("sbom.cdx.json", "provenance.json")]
    attest(shop)
    assert before == [(shop.out / name).read_bytes() for name in ("sbom.cdx.json", "provenance.json")]


def test_a_missing_record_of_the_initrd_is_told(shop: Workshop) -> None:
    (shop.work / "initrd-dpkg/status").unlink()
    with pytest.raises(BuildError, match="initrd-dpkg"):
        attest(shop)
