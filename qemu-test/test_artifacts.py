"""Programs we did not write accept what a build makes."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from pathlib import Path

import pytest
from cyclonedx.model.component import Component
from disks import BootPartition, map_of
from workbench import FIRST, Workbench

from bedrock.process import Finished
from imagebuild.attest.materials import ReleasePart
from imagebuild.attest.sbom import PART
from imagebuild.inputs.tools import Access
from partitions.entries import parse_entry
from partitions.gpt import GptEntry
from partitions.layout import EMPTY_LABEL, identity_of
from updater.documents.bom import parse_bom
from updater.documents.build_files import RELEASE_FILES
from updater.documents.release import Release, parse_release
from updater.documents.statement import parse_statement
from updater.repository.attachments import subjects_of

TIMEOUT_S = 300


@pytest.fixture(scope="module")
def build(bench: Workbench) -> Path:
    return bench.build(FIRST)


@pytest.fixture(scope="module")
def release(build: Path) -> Release:
    return parse_release((build / "release.json").read_bytes(), source="release.json")


def tool(bench: Workbench, *words: str | Path, folder: Path, check: bool = True) -> Finished:
    return bench.tools.run(list(words), Access(read=(folder,)), timeout_s=TIMEOUT_S, check=check)


def extracted(disk: Path, entry: GptEntry, target: Path) -> Path:
    """A partition of a disk as a file."""
    with disk.open("rb") as reader, target.open("wb") as writer:
        reader.seek(entry.offset_bytes)
        left = entry.size_bytes
        while left > 0:
            block = reader.read(min(left, 1 << 20))
            if block.count(0) == len(block):
                writer.seek(len(block), 1)
            else:
                writer.write(block)
            left -= len(block)
        writer.truncate(entry.size_bytes)
    return target


def test_veritysetup_accepts_the_root_filesystem_under_its_root_hash(
    bench: Workbench, build: Path, release: Release
) -> None:
    words = ("veritysetup", "verify", build / "root.erofs", build / "root.verity", release.root_hash)
    tool(bench, *words, folder=build)


def test_veritysetup_refuses_it_under_another_root_hash(bench: Workbench, build: Path, release: Release) -> None:
    wrong = ("0" if release.root_hash[0] != "0" else "1") + release.root_hash[1:]
    words = ("veritysetup", "verify", build / "root.erofs", build / "root.verity", wrong)
    assert tool(bench, *words, folder=build, check=False).returncode != 0


def test_fsck_accepts_the_root_filesystem(bench: Workbench, build: Path) -> None:
    tool(bench, "fsck.erofs", build / "root.erofs", folder=build)


def test_another_build_of_the_same_inputs_gives_the_same_bytes(bench: Workbench, build: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    before = os.umask(0o077)
    try:
        again = bench.build_again(FIRST, tmp_path / "elsewhere")
    finally:
        os.umask(before)
    for name in ("root.erofs", "root.verity", "contents.json", "packages.json", "sbom.cdx.json", "config/cmdline"):
        assert filecmp.cmp(build / name, again / name, shallow=False), name
    # A signature holds the time it was made, so the signed files are compared without it.
    assert unsigned(bench, build, tmp_path / "one.efi") == unsigned(bench, again, tmp_path / "other.efi")


def unsigned(bench: Workbench, build: Path, copy: Path) -> bytes:
    """A build's UKI without its signature."""
    shutil.copy(build / "uki.efi", copy)
    bench.tools.run(["sbattach", "--remove", copy], Access(write=(copy.parent,)), timeout_s=TIMEOUT_S)
    assert copy.stat().st_size < (build / "uki.efi").stat().st_size, "there was no signature"
    return copy.read_bytes()


def test_the_bill_of_materials_lists_every_shipped_package_with_its_hash(build: Path) -> None:
    bom = parse_bom((build / "sbom.cdx.json").read_bytes(), source="sbom.cdx.json")
    shipped = [component for component in bom.components if not is_linked_in(component)]
    found = {component.name: component for component in shipped}
    for package in json.loads((build / "packages.json").read_bytes()):
        component = found[package["name"]]
        assert component.version == package["version"]
        assert str(component.purl).startswith(f"pkg:deb/debian/{package['name'].replace('+', '%2B')}@")
    parts = {value.value for component in bom.components for value in component.properties if value.name == PART}
    assert parts == {part.value for part in ReleasePart}
    assert {component.name for component in shipped if not component.hashes} == {"twinhull-updater"}
    assert "golang-1.24" in {component.name for component in bom.components} - found.keys()


def is_linked_in(component: Component) -> bool:
    """Whether it is named because a program is linked to it: it has no file of its own to hash."""
    purl = component.purl
    return purl is not None and (purl.type in {"golang", "cargo"} or purl.qualifiers.get("arch") == "source")


def test_the_provenance_speaks_of_exactly_the_release(build: Path, release: Release) -> None:
    statement = parse_statement((build / "provenance.json").read_bytes(), source="provenance.json")
    assert statement.digests == subjects_of(release, RELEASE_FILES)


def test_sbverify_accepts_the_uki_with_the_image_s_certificate(bench: Workbench, build: Path) -> None:
    tool(bench, "sbverify", "--cert", build / "certificates/db.pem", build / "uki.efi", folder=build)


def test_sbverify_refuses_the_uki_with_another_certificate(bench: Workbench, build: Path) -> None:
    words = ("sbverify", "--cert", build / "certificates/PK.pem", build / "uki.efi")
    assert tool(bench, *words, folder=build, check=False).returncode != 0


def test_the_uki_carries_the_root_hash(bench: Workbench, build: Path, release: Release, tmp_path: Path) -> None:
    section = tmp_path / "cmdline"
    words: list[str | Path] = ["objcopy", "-O", "binary", "--only-section=.cmdline", build / "uki.efi", section]
    bench.tools.run(words, Access(read=(build,), write=(tmp_path,)), timeout_s=TIMEOUT_S)
    assert f"roothash={release.root_hash}" in section.read_text().split()


def test_sgdisk_finds_no_problem_in_the_partition_table(bench: Workbench, build: Path) -> None:
    assert "No problems found" in tool(bench, "sgdisk", "-v", build / "disk.raw", folder=build).stdout


def test_fsck_accepts_the_fat_filesystems(bench: Workbench, build: Path, tmp_path: Path) -> None:
    where = map_of(build / "disk.raw")
    for name, entry in (("esp", where.esp), ("xbootldr", where.xbootldr)):
        image = extracted(build / "disk.raw", entry, tmp_path / name)
        tool(bench, "fsck.fat", "-n", image, folder=tmp_path)
        image.unlink()


def test_systemd_dissect_understands_the_disk(bench: Workbench, build: Path, release: Release) -> None:
    words = ("systemd-dissect", "--json=short", f"--root-hash={release.root_hash}", build / "disk.raw")
    found = json.loads(tool(bench, *words, folder=build).stdout)
    mounts = {mount["designator"]: mount for mount in found["mounts"]}
    identity = identity_of(release.root_hash)
    assert mounts["root"]["verity"] == "yes"
    assert mounts["root"]["partition_uuid"] == str(identity.data_uuid)
    assert "esp" in mounts
    assert f"IMAGE_VERSION={FIRST}" in found["osRelease"]


def test_the_first_release_lies_in_slot_a_and_slot_b_is_empty(build: Path, release: Release) -> None:
    where = map_of(build / "disk.raw")
    identity = identity_of(release.root_hash)
    assert (where.a.data.uuid, where.a.verity.uuid) == (identity.data_uuid, identity.verity_uuid)
    assert {where.b.data.label, where.b.verity.label} == {EMPTY_LABEL}


def test_the_only_boot_entry_has_no_counter(bench: Workbench, build: Path, tmp_path: Path) -> None:
    disk = bench.disk_copy(FIRST, tmp_path)
    (name,) = BootPartition(disk, map_of(disk).xbootldr, bench.tools).names()
    entry = parse_entry(name)
    assert entry is not None
    assert entry.blessed
    assert str(entry.version) == FIRST


def test_the_qcow2_disk_holds_the_same_bytes(bench: Workbench, build: Path) -> None:
    tool(bench, "qemu-img", "compare", build / "disk.raw", build / "disk.qcow2", folder=build)
