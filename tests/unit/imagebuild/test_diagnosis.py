from __future__ import annotations

import pytest

from bedrock.errors import ProcessError
from imagebuild.diagnosis import explain, last_words
from imagebuild.errors import BuildError, ImageBuildError, MirrorError, SpaceError

NOISE = "Setting up gzip (1.13) ...\nupdate-alternatives: using /bin/more to provide pager\n"


def told(tail: str) -> ImageBuildError:
    return explain("the step x failed", ProcessError("mkosi failed with exit code 100", returncode=100, tail=tail))


def test_packages_that_do_not_exist_are_named_and_nothing_else() -> None:
    log = (
        NOISE + "E: Unable to locate package nope\n"
        "E: Package 'old' has no installation candidate\nE: Unable to locate package nope\n"
    )
    error = told(log)
    assert type(error) is BuildError
    assert str(error) == "the step x failed: the mirror has no packages nope, old"
    assert "packages:" in error.hints[0]


def test_packages_that_exclude_each_other_are_named() -> None:
    error = told(NOISE + "The following packages have unmet dependencies:\n a : Depends: b but it is not installable\n")
    assert str(error).splitlines()[1:] == ["a : Depends: b but it is not installable"]


@pytest.mark.parametrize(
    ("line", "kind", "word"),
    [
        ("cp: error writing 'x': No space left on device", SpaceError, "full"),
        ("E: Failed to fetch http://m.test/a.deb  404  Not Found", MirrorError, "http://m.test/a.deb: 404"),
        ("E: The repository 'http://m.test trixie InRelease' is not signed.", MirrorError, "http://m.test trixie"),
        ("W: GPG error: http://m.test trixie: NO_PUBKEY 1", MirrorError, "NO_PUBKEY 1"),
        ("the image must hold exactly one kernel, found: */vmlinuz", BuildError, "found: none"),
        ("the image must hold exactly one kernel, found: a/vmlinuz b/vmlinuz", BuildError, "found: a/vmlinuz b"),
    ],
)
def test_a_cause_decides_the_kind_of_error(line: str, kind: type[ImageBuildError], word: str) -> None:
    error = told(f"{NOISE}{line}\n{NOISE}")
    assert type(error) is kind
    assert word in str(error)
    assert len(str(error).splitlines()) == 1


def test_an_unknown_cause_shows_the_last_lines_without_noise() -> None:
    lines = str(told("".join(f"line {number}\n" for number in range(50)) + NOISE)).splitlines()
    assert lines[0] == "the step x failed: mkosi failed with exit code 100"
    assert lines[1:] == [f"line {number}" for number in range(40, 50)]


def test_long_lines_are_cut() -> None:
    assert all(len(line) <= 201 for line in last_words("x" * 5000))
