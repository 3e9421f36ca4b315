"""Where the hashes of packages come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imagebuild.attest.archive import PackageId, package_archives, package_hashes
from imagebuild.definition.sources import SECURITY
from imagebuild.inputs.supply import Supply
from tests.fakes.definitions import lock_of, package, selection_of, supply_in

LIST = f"""\
Package: libx
Version: 1:2-1
Architecture: amd64
SHA256: {"11" * 32}

Package: libx
Version: 1:1-1
Architecture: amd64
SHA256: {"22" * 32}

Package: liby
Version: 3
Architecture: all
"""


LISTED = PackageId("libx", "1:1-1", "amd64")


@pytest.fixture
def supply(tmp_path: Path) -> Supply:
    made = supply_in(tmp_path)
    lists = made.cache / "apt/abc/lists"
    lists.mkdir(parents=True)
    (lists / "host_dists_trixie_main_binary-amd64_Packages").write_text(LIST)
    return made


def test_only_packages_of_other_sources_are_named_with_theirs(tmp_path: Path) -> None:
    own, fixed = package("podman"), replace(package("openssl"), archive=SECURITY)
    theirs = replace(package("probe"), archive="tools.2")
    supply = replace(supply_in(tmp_path), packages=selection_of(own, fixed, theirs))
    assert package_archives(supply) == {PackageId("probe", "1", "amd64"): "tools.2"}


def test_a_package_of_the_selection_has_the_hash_named_there(supply: Supply) -> None:
    podman = supply.packages.packages[0]
    wanted = PackageId("podman", "1", "amd64")
    assert package_hashes([wanted], supply) == {wanted: podman.sha256}


def test_else_the_indexes_tell(supply: Supply) -> None:
    assert package_hashes([LISTED], supply) == {LISTED: "22" * 32}


def test_a_locked_build_goes_by_its_lock_alone(supply: Supply) -> None:
    tool = package("systemd-boot-efi", b"loader")
    lock = replace(lock_of(), tools_packages=selection_of(tool))
    wanted = PackageId(tool.name, tool.version, tool.architecture)
    assert package_hashes([wanted, LISTED], replace(supply, locked=lock)) == {wanted: tool.sha256}


@pytest.mark.parametrize(
    "wanted",
    [PackageId("libx", "9", "amd64"), PackageId("libx", "1:1-1", "arm64"), PackageId("liby", "3", "all")],
)
def test_what_is_not_known_is_not_made_up(supply: Supply, wanted: PackageId) -> None:
    assert package_hashes([wanted], supply) == {}


def test_without_indexes_nothing_more_is_known(tmp_path: Path) -> None:
    assert package_hashes([LISTED], supply_in(tmp_path)) == {}
