from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import MirrorError
from imagebuild.inputs.mirror import SECURITY_VARIABLE, VARIABLE, Mirrors, find_mirrors, mirrors_for
from tests.fakes.definitions import write_definition
from tests.fakes.programs import write_program


@pytest.fixture(autouse=True)
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without settings and without apt, until a test plays it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(SECURITY_VARIABLE, raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def apt_says(bin_folder: Path, *lines: str) -> None:
    write_program(bin_folder, "apt-get", "\n".join(f"echo '{line}'" for line in lines))


def test_the_definition_comes_before_environment_and_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://env.test/debian")
    assert find_mirrors("http://own.test/debian/") == Mirrors("http://own.test/debian", None)


def test_a_definition_s_own_mirrors_are_found_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://env.test/debian")
    plain = write_definition(tmp_path / "plain")
    own = write_definition(tmp_path / "own", "id: host\nmirror: http://own.test/debian\n")
    assert mirrors_for(plain).main == "http://env.test/debian"
    assert mirrors_for(own) == Mirrors("http://own.test/debian", None)


def test_the_environment_comes_before_apt(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt_says(bin_folder, "Debian|trixie|http://apt.test/debian/")
    monkeypatch.setenv(VARIABLE, "http://env.test/debian")
    monkeypatch.setenv(SECURITY_VARIABLE, "http://env.test/security/")
    assert find_mirrors() == Mirrors("http://env.test/debian", "http://env.test/security")


def test_a_stated_mirror_is_never_joined_with_apts_security_archive(bin_folder: Path) -> None:
    apt_says(bin_folder, "Debian|trixie-security|http://apt.test/security/")
    assert find_mirrors("http://own.test/debian").security is None


def test_apts_own_mirrors_are_taken_and_others_origins_left_aside(bin_folder: Path) -> None:
    apt_says(
        bin_folder,
        "Vendor|stable|http://vendor.test/",
        "Debian|bookworm-security|http://apt.test/security/",
        "Debian|bookworm|http://apt.test/debian/",
        "Debian|bookworm-updates|http://other.test/debian/",
    )
    assert find_mirrors() == Mirrors("http://apt.test/debian", "http://apt.test/security")


def test_a_host_without_apt_is_told_where_to_name_a_mirror() -> None:
    with pytest.raises(MirrorError, match="no Debian mirror is known") as caught:
        find_mirrors()
    assert VARIABLE in caught.value.hints[0]


@pytest.mark.parametrize("url", ["mirror.test", "ftp://m.test/", "http://m.test/a b", "http:", ""])
def test_what_is_no_url_is_refused(bin_folder: Path, url: str) -> None:
    apt_says(bin_folder, f"Debian|trixie|{url}")
    with pytest.raises(MirrorError, match="not a URL"):
        find_mirrors()


def test_files_of_this_machine_are_a_mirror_too(tmp_path: Path) -> None:
    assert find_mirrors(f"file:{tmp_path}").sources("trixie") == (
        (f"file:{tmp_path}", "trixie"),
        (f"file:{tmp_path}", "trixie-updates"),
    )
