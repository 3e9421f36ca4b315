"""Reading dpkg's database."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import BuildError
from imagebuild.steps.dpkg import read_database

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc (2.41-12)
Version: 2.41-12+b1
Section: libs
Essential: yes
Depends: libgcc-s1, base-files (>= 13) | other:any
Pre-Depends: base-first
Provides: libc6-2.13 (= 2.41)
Built-Using: golang-1.24 (= 1.24.4-1), runc (= 1.1.15+ds1-2)
Static-Built-Using: rust-log (= 0.4.26-1), runc (= 1.1.15+ds1-2)
Description: GNU C Library
 and more of it

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    (tmp_path / "info").mkdir()
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "info/libc6:amd64.list").write_text("/.\n/usr\n/usr/lib/libc.so.6\n")
    return tmp_path


def test_a_package_is_read_whole(database: Path) -> None:
    (found,) = read_database(database)
    assert (found.name, found.version, found.architecture) == ("libc6", "2.41-12+b1", "amd64")
    assert (found.source, found.source_version) == ("glibc", "2.41-12")
    assert found.depends == (("base-first",), ("libgcc-s1",), ("base-files", "other"))
    assert found.essential
    assert found.provides == ("libc6-2.13",)
    assert found.summary == "GNU C Library"
    assert found.files == ("/usr", "/usr/lib/libc.so.6")


@pytest.mark.parametrize("lost", ["status", "info/libc6:amd64.list"])
def test_a_part_that_is_missing_is_told(database: Path, lost: str) -> None:
    (database / lost).unlink()
    with pytest.raises(BuildError, match="dpkg"):
        read_database(database)


def test_a_row_without_a_version_is_told(database: Path) -> None:
    (database / "status").write_text(STATUS.replace("Version: 2.41-12+b1\n", ""))
    with pytest.raises(BuildError, match="Version"):
        read_database(database)


def test_sources_that_are_linked_in_statically_are_read_from_both_fields_once(database: Path) -> None:
    (found,) = read_database(database)
    assert found.built_using == (("golang-1.24", "1.24.4-1"), ("runc", "1.1.15+ds1-2"), ("rust-log", "0.4.26-1"))
