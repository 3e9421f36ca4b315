from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import VmError
from imagebuild.vm.images import find_image


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"x")


CERTIFICATES = ("certificates/PK.pem", "certificates/KEK.pem", "certificates/db.pem")


def test_a_build_folder_gives_its_disk_and_certificates(tmp_path: Path) -> None:
    make(tmp_path, "disk.raw", "disk.qcow2", *CERTIFICATES)
    found = find_image(tmp_path)
    assert found.disk == tmp_path / "disk.raw"
    assert found.certificates is not None
    assert found.certificates.signature_database == tmp_path / "certificates/db.pem"


def test_a_disk_file_of_a_build_comes_with_its_certificates(tmp_path: Path) -> None:
    make(tmp_path, "disk.qcow2", *CERTIFICATES)
    assert find_image(tmp_path / "disk.qcow2").certificates is not None


def test_the_uki_of_a_build_is_found_where_there_is_one(tmp_path: Path) -> None:
    make(tmp_path, "disk.raw")
    assert find_image(tmp_path).uki is None
    make(tmp_path, "uki.efi")
    assert find_image(tmp_path / "disk.raw").uki == tmp_path / "uki.efi"


def test_a_lone_disk_has_no_certificates(tmp_path: Path) -> None:
    make(tmp_path, "disk.raw", "certificates/PK.pem")
    assert find_image(tmp_path / "disk.raw").certificates is None


def test_a_folder_without_a_disk_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(VmError, match=str(tmp_path)):
        find_image(tmp_path)
