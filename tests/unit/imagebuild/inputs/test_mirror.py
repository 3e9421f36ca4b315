from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bedrock import process
from bedrock.errors import ProcessError
from bedrock.process import Argument, Finished
from imagebuild.errors import MirrorError
from imagebuild.inputs.mirror import SECURITY_VARIABLE, VARIABLE, Mirrors, find_mirrors


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(SECURITY_VARIABLE, raising=False)


def apt_says(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    def run(argv: Sequence[Argument], *, timeout_s: float) -> Finished:
        assert argv[0] == "apt-get"
        assert timeout_s < 60
        return Finished(tuple(map(str, argv)), 0, "".join(f"{line}\n" for line in lines), "")

    monkeypatch.setattr(process, "run", run)


def test_the_definition_comes_before_environment_and_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://env.test/debian")
    assert find_mirrors("http://own.test/debian/") == Mirrors("http://own.test/debian", None)


def test_the_environment_comes_before_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    apt_says(monkeypatch, "Debian|trixie|http://apt.test/debian/")
    monkeypatch.setenv(VARIABLE, "http://env.test/debian")
    monkeypatch.setenv(SECURITY_VARIABLE, "http://env.test/security/")
    assert find_mirrors() == Mirrors("http://env.test/debian", "http://env.test/security")


def test_a_stated_mirror_is_never_joined_with_apts_security_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    apt_says(monkeypatch, "Debian|trixie-security|http://apt.test/security/")
    assert find_mirrors("http://own.test/debian").security is None


def test_apts_own_mirrors_are_taken_and_others_origins_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    apt_says(
        monkeypatch,
        "Vendor|stable|http://vendor.test/",
        "Debian|bookworm-security|http://apt.test/security/",
        "Debian|bookworm|http://apt.test/debian/",
        "Debian|bookworm-updates|http://other.test/debian/",
    )
    assert find_mirrors() == Mirrors("http://apt.test/debian", "http://apt.test/security")


def test_a_host_without_apt_is_told_where_to_name_a_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: Sequence[Argument], *, timeout_s: float) -> Finished:
        raise ProcessError(f"{argv[0]} could not be started within {timeout_s}")

    monkeypatch.setattr(process, "run", run)
    with pytest.raises(MirrorError, match="no Debian mirror is known") as caught:
        find_mirrors()
    assert VARIABLE in caught.value.hints[0]


@pytest.mark.parametrize("url", ["mirror.test", "ftp://m.test/", "http://m.test/a b", "http:", ""])
def test_what_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    apt_says(monkeypatch, f"Debian|trixie|{url}")
    with pytest.raises(MirrorError, match="not a URL"):
        find_mirrors()


def test_files_of_this_machine_are_a_mirror_too(tmp_path: Path) -> None:
    assert find_mirrors(f"file:{tmp_path}").sources("trixie") == (
        (f"file:{tmp_path}", "trixie"),
        (f"file:{tmp_path}", "trixie-updates"),
    )
