from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest

from imagebuild.definition import config
from imagebuild.definition.hardening import Hardening
from imagebuild.definition.image import BuildProfile, ImageDefinition
from partitions.layout import identity_of, slot_label, verity_size_for
from partitions.version import Version
from tests.fakes.definitions import definition_of

ROOT_HASH = "0123456789abcdef" * 4
FOLDERS = config.Folders(*map(Path, ("/w/mkosi", "/c/archives/x", "/c/mkosi", "/c/packages", "/w/space")))


def sections(text: str) -> dict[str, str]:
    """Every setting of a text as mkosi reads it: the last one of a name, by section and name."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return {f"{section}.{name}": value for section in parser.sections() for name, value in parser[section].items()}


def tree_text(definition: ImageDefinition, merged: Path | None = None, profile: BuildProfile | None = None) -> str:
    return config.tree_config(
        definition,
        version=Version("1.2.3"),
        folders=FOLDERS,
        extra=Path("/w/extra"),
        base="[Content]\nBootable=no\n",
        scripts=Path("/w/scripts"),
        merged=merged,
        profile=profile,
        epoch=17,
        local={"probe_1_amd64.deb": "probe"},
    )


def test_the_tree_holds_what_the_definition_asks_for(tmp_path: Path) -> None:
    definition = definition_of(
        tmp_path,
        "id: host\nkernel: linux-image-amd64\npackages: [curl, jq]\ndrop: [/usr/x/*]\n"
        "hardening: {sysctl: false, apparmor: false}\n",
    )
    found = sections(tree_text(definition))
    assert {"linux-image-amd64", "curl", "jq", "podman"} <= set(found["Content.Packages"].split())
    assert "Content.RemoveFiles" not in found
    assert found["Output.ImageId"] == "host"
    assert found["Output.ImageVersion"] == "1.2.3"
    assert found["Distribution.Release"] == "trixie"
    assert found["Distribution.Architecture"] == "x86-64"
    assert found["Content.SourceDateEpoch"] == "17"
    assert "Content.Bootable" in found


def test_a_time_zone_brings_the_package_that_has_it(tmp_path: Path) -> None:
    definition = definition_of(tmp_path, "id: host\ntimezone: Europe/Berlin\npackages: [tzdata]\n")
    assert config.wanted_packages(definition, {}).count("tzdata") == 1
    assert sections(tree_text(definition))["Content.Timezone"] == "UTC"
    assert "tzdata" in sections(config.asking_config(definition, base="", local={}))["Content.Packages"].split()


@pytest.mark.parametrize(
    ("pattern", "matched", "spared"),
    [
        ("drivers/isdn/", "drivers/isdn/mISDN/core.ko", "x/drivers/isdn/core.ko"),
        ("fs/nfs/nfs.ko", "fs/nfs/nfs.ko", "fs/nfs/nfsv4.ko"),
        ("drivers/net/*/c++.ko", "drivers/net/usb/c++.ko", "drivers/net/usb/more/c++.ko"),
        ("net/9p/9pnet_*.ko", "net/9p/9pnet_rdma.ko", "net/9p/9pnet.ko"),
    ],
)
def test_dropped_modules_are_excluded_by_their_place(pattern: str, matched: str, spared: str, tmp_path: Path) -> None:
    definition = definition_of(tmp_path, f"id: host\ndrop_modules: ['{pattern}']\n")
    (expression,) = sections(tree_text(definition))["Content.KernelModulesExclude"].split()
    assert re.search(expression, matched)
    assert not re.search(expression, spared)


def test_only_the_supplied_archive_is_installed_from() -> None:
    plain = Hardening(sysctl=False, apparmor=False)
    definition = ImageDefinition(id="host", packages=("curl/trixie-updates",), hardening=plain)
    found = sections(tree_text(definition))
    assert found["Distribution.LocalMirror"] == "file:///c/archives/x"
    assert "curl" in found["Content.Packages"].split()


def test_apt_is_asked_for_the_suite_a_package_is_to_come_from() -> None:
    definition = ImageDefinition(id="host", packages=("curl/trixie-updates",))
    text = config.asking_config(definition, base="[Content]\nPackages=systemd\n", local={}, merged=Path("/defs/host"))
    assert "curl/trixie-updates" in sections(text)["Content.Packages"]
    assert text.endswith("Include=/defs/host\n")


def test_a_package_of_the_definitions_folder_goes_by_its_name() -> None:
    definition = ImageDefinition(id="host", packages=("./probe_1_amd64.deb", "curl"))
    assert sections(tree_text(definition))["Content.Packages"].split()[-2:] == ["probe", "curl"]


def test_the_debug_profile_brings_a_login_to_the_tree_only() -> None:
    debug = tree_text(ImageDefinition(id="host"), profile=BuildProfile.DEBUG)
    assert "Packages=login\n" in debug
    # A login would ask for a password that does not exist.
    assert "RootPassword" not in debug
    assert "Packages=login" not in tree_text(ImageDefinition(id="host"))


def test_nothing_dropped_leaves_no_line_that_would_reset_the_list() -> None:
    text = tree_text(ImageDefinition(id="host", hardening=Hardening(apparmor=False)))
    assert "RemoveFiles" not in text
    assert "KernelModulesExclude" not in text


def test_the_definitions_own_mkosi_files_come_last() -> None:
    text = tree_text(ImageDefinition(id="host"), merged=Path("/defs/host"))
    assert text.endswith("[Include]\nInclude=/defs/host\n")
    assert "[Include]" not in tree_text(ImageDefinition(id="host"))


def test_the_tree_has_its_own_folder_in_the_cache() -> None:
    assert sections(tree_text(ImageDefinition(id="host")))["Build.CacheDirectory"] == "/c/mkosi"


def test_kernel_arguments_begin_with_the_root_hash_and_end_with_the_users_and_the_end_of_the_line(
    tmp_path: Path,
) -> None:
    words = config.kernel_arguments(
        definition_of(tmp_path, "id: host\nkernel_arguments: [a=1, b]\n"), ROOT_HASH
    ).split()
    assert words[0] == f"roothash={ROOT_HASH}"
    assert words[-3:] == ["a=1", "b", "--"]
    assert "ro" in words


def test_the_disk_is_laid_out_in_the_agents_order_with_the_root_hash_as_identity(tmp_path: Path) -> None:
    definition = definition_of(tmp_path, "id: host\nslots: {root: 256M, boot: 300M}\n")
    version = Version("1.2.3")
    parts = config.disk_partitions(definition, version=version, root_hash=ROOT_HASH)
    read = [sections(parts[name]) for name in sorted(parts)]
    kinds = [part["Partition.Type"] for part in read]
    assert kinds == ["esp", "xbootldr", "root", "root-verity", "root", "root-verity"]
    identity = identity_of(ROOT_HASH)
    assert read[2]["Partition.UUID"] == str(identity.data_uuid)
    assert read[3]["Partition.UUID"] == str(identity.verity_uuid)
    assert read[2]["Partition.Label"] == slot_label("host", version)
    assert read[2]["Partition.SizeMinBytes"] == read[2]["Partition.SizeMaxBytes"] == str(256 << 20)
    assert read[3]["Partition.SizeMinBytes"] == str(verity_size_for(256 << 20))


def test_the_other_slot_is_empty_and_bootable_by_nothing() -> None:
    parts = config.disk_partitions(ImageDefinition(id="host"), version=Version("1"), root_hash=ROOT_HASH)
    for name in ("40-root-b.conf", "41-root-b-verity.conf"):
        found = sections(parts[name])
        assert found["Partition.Label"] == "_empty"
        assert "Partition.UUID" not in found
        assert "Partition.CopyBlocks" not in found


def test_root_and_verity_tree_belong_together() -> None:
    root, verity = (sections(text) for _, text in sorted(config.root_partitions().items()))
    assert root["Partition.Format"] == "erofs"
    assert (root["Partition.Verity"], verity["Partition.Verity"]) == ("data", "hash")
    assert root["Partition.VerityMatchKey"] == verity["Partition.VerityMatchKey"]


def test_the_agents_settings_are_baked_in_whole(tmp_path: Path) -> None:
    definition = definition_of(tmp_path, "id: host\nupdater: {channel: beta, url: 'http://updates.test'}\n")
    baked = json.loads(config.baked_updater(definition))
    assert baked["channel"] == "beta"
    assert baked["url"] == "http://updates.test"


def test_entries_are_in_the_loaders_folder() -> None:
    assert config.entry_path("x.efi") == "EFI/Linux/x.efi"


def test_modules_stay_that_are_kept_or_that_a_package_needs(tmp_path: Path) -> None:
    definition = definition_of(
        tmp_path, "id: host\nkeep_modules: [fs/smb/server/]\ndrop_modules: [fs/x/, fs/nfsd/a.ko]\n"
    )
    assert config.kept_modules(definition, ("fs/nfsd/", "fs/x/y.ko", "fs/x/")) == ("fs/smb/server/", "fs/nfsd/")
    assert config.kept_modules(definition, ("fs/nfsd/a.ko",)) == ("fs/smb/server/",)


def test_a_module_that_is_loaded_at_boot_stays_in_either_spelling() -> None:
    expression = config.module_name_expression("nfs_layout-flexfiles")
    assert re.search(expression, "fs/nfs/nfs-layout_flexfiles.ko")
    assert not re.search(expression, "fs/nfs/x_nfs_layout_flexfiles.ko")
    assert "(^|/)nfsd" in tree_text(ImageDefinition(id="host", modules=("nfsd",)))
