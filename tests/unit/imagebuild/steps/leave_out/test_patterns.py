"""Paths with `*` and `?`."""

from __future__ import annotations

import pytest

from imagebuild.steps.leave_out.patterns import covers, matches, merged


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/usr/include", "/usr/include", True),
        ("/usr/include", "/usr/include/sys/stat.h", True),
        ("/usr/include", "/usr/include2", False),
        ("/usr/bin/gpg*", "/usr/bin/gpg-agent", True),
        ("/usr/bin/gpg*", "/usr/bin/x/gpg", False),
        ("/var/*", "/var", False),
        ("/var/*", "/var/lib/x", True),
        ("/usr/lib/*/perl", "/usr/lib/a/b/perl", False),
        ("/usr/x?y", "/usr/x,y", True),
        ("/usr/x?y", "/usr/x/y", False),
        ("/bin/ls", "/usr/bin/ls", True),
        ("/usr/bin/[", "/usr/bin/[", True),
    ],
)
def test_a_pattern_covers_what_it_matches_and_everything_below(pattern: str, path: str, *, covered: bool) -> None:
    assert covers((pattern,))(path) is covered


def test_a_match_is_of_the_path_alone() -> None:
    found = matches(("/usr/lib/*.so",))
    assert found("/usr/lib/a.so")
    assert not found("/usr/lib/a.so/b")


def test_no_patterns_cover_nothing() -> None:
    assert not covers(())("/usr")
    assert not matches(())("/usr")


@pytest.mark.parametrize(("path", "place"), [("/lib/x", "/usr/lib/x"), ("/library/x", "/library/x"), ("/lib", "/lib")])
def test_a_path_is_spelled_as_the_merged_tree_spells_it(path: str, place: str) -> None:
    assert merged(path) == place
