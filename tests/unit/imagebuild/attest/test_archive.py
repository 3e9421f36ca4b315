from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from imagebuild.attest.archive import PackageId, package_hashes

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


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name in ("cache/apt/archives", "lib/apt/lists"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lib/apt/lists/host_dists_trixie_main_binary-amd64_Packages").write_text(LIST)
    return tmp_path


def test_the_file_that_was_installed_is_hashed(packages: Path) -> None:
    (packages / "cache/apt/archives/libx_1%3a2-1_amd64.deb").write_bytes(b"deb")
    wanted = PackageId("libx", "1:2-1", "amd64")
    assert package_hashes([wanted], packages) == {wanted: hashlib.sha256(b"deb").hexdigest()}


def test_else_the_archive_s_list_tells(packages: Path) -> None:
    wanted = PackageId("libx", "1:1-1", "amd64")
    assert package_hashes([wanted], packages) == {wanted: "22" * 32}


@pytest.mark.parametrize(
    "wanted",
    [PackageId("libx", "9", "amd64"), PackageId("libx", "1:1-1", "arm64"), PackageId("liby", "3", "all")],
)
def test_what_is_not_known_is_not_made_up(packages: Path, wanted: PackageId) -> None:
    assert package_hashes([wanted], packages) == {}


def test_an_empty_cache_knows_nothing(tmp_path: Path) -> None:
    assert package_hashes([PackageId("libx", "1", "amd64")], tmp_path) == {}
