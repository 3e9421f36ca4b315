"""Versions and their order."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions.version import Version, compare

# systemd's own list, oldest first.
ASCENDING = (
    *("~1", "", "ab", "abb", "abc", "0001", "002", "12", "122", "122.9", "123~rc1", "123", "123-a", "123-a.1"),
    *("123-a1", "123-a1.1", "123-3", "123-3.1", "123^patch1", "123^1", "123.a-1", "123.1-1", "123a-1", "124"),
)
OLDER_NEWER = (
    ("123.45-67.88", "123.45-67.89"),
    ("123.45-67.89", "123.45-67.89a"),
    ("123.45-67.ab", "123.45-67.89"),
    ("123.45-67.9", "123.45-67.89"),
    ("123.45-67", "123.45-67.89"),
    ("123.45-66.89", "123.45-67.89"),
    ("123.45-9.99", "123.45-67.89"),
    ("123.42-99.99", "123.45-67.89"),
    ("123-99.99", "123.45-67.89"),
    ("123~rc1-99.99", "123.45-67.89"),
    ("123~rc1-99.99", "123-45.67.89"),
    ("123~rc1-99.99", "123~rc2-67.89"),
    ("123~rc1-99.99", "123^aa2-67.89"),
    ("123~rc1-99.99", "123aa2-67.89"),
    ("123-99.99", "123^aa2-67.89"),
    ("123-99.99", "123aa2-67.89"),
    ("123^45-67.89", "123.45-67.89"),
    ("123^aa1-99.99", "123^aa2-67.89"),
    ("123^aa2-67.89", "123aa2-67.89"),
    ("123.aa2-67.89", "123aa2-67.89"),
    ("bar-123", "foo-123"),
    ("123", "123a"),
    ("123", "123.a"),
    ("123.a", "123.b"),
    ("123.a", "123a"),
    ("A", "a"),
    ("", "0"),
    ("0", "0."),
    ("0", "0.0"),
    ("~", "0"),
    ("~", ""),
    ("1_", "1.2"),
    ("1.3.3", "1_2_3"),
    ("1+", "1.2"),
    ("1.3.3", "1+2+3"),
)
EQUAL = (
    ("11", "11"),
    ("systemd-123", "systemd-123"),
    ("11α", "11β"),
    ("1_", "1"),
    ("_1", "1"),
    ("1+", "1"),
    ("+1", "1"),
    ("123", "0123"),
    ("1.0", "1.00"),
)
HARD = st.text(alphabet="01aB~^-._+α", max_size=8)
RELEASES = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.~^-]{0,10}", fullmatch=True)


@pytest.mark.parametrize(("older", "newer"), [*combinations(ASCENDING, 2), *OLDER_NEWER])
def test_published_vectors_rank_as_published(older: str, newer: str) -> None:
    assert compare(older, newer) == -1
    assert compare(newer, older) == 1


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_published_equals_rank_equal(one: str, other: str) -> None:
    assert compare(one, other) == 0
    assert compare(other, one) == 0


@given(HARD, HARD)
def test_order_is_antisymmetric(one: str, other: str) -> None:
    assert compare(one, other) == -compare(other, one)


@given(HARD, HARD, HARD)
def test_order_is_transitive(one: str, two: str, three: str) -> None:
    if compare(one, two) <= 0 and compare(two, three) <= 0:
        assert compare(one, three) <= 0


@given(st.lists(RELEASES, max_size=6))
def test_versions_sort_in_one_way_only(texts: list[str]) -> None:
    versions = sorted(Version.from_text(text) for text in texts)
    assert versions == sorted(Version.from_text(text) for text in reversed(texts))
    assert all(compare(str(one), str(other)) <= 0 for one, other in combinations(versions, 2))


@given(RELEASES, RELEASES)
def test_equality_agrees_with_order_and_hash(one: str, other: str) -> None:
    a, b = Version.from_text(one), Version.from_text(other)
    assert (a == b) == (not a < b and not b < a) == (one == other)
    assert a != b or hash(a) == hash(b)


def test_huge_numbers_are_ranked_without_becoming_numbers() -> None:
    assert compare("1" * 100_000, "1" * 99_999 + "2") == -1


def test_versions_that_rank_equal_are_still_two() -> None:
    assert Version("1.0") != Version("1.00")
    assert Version("1.0") < Version("1.00")


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.0", "1.00"), ("1.0.1-RC1", "1.0.1-rc1"), ("01.0a", "1.000A"), ("a", "A"), ("1.0-rc01", "1.0-RC1")],
)
def test_versions_that_differ_in_case_or_zeros_only_are_confusable(one: str, other: str) -> None:
    assert Version(one).is_confusable_with(Version(other))
    assert Version(other).is_confusable_with(Version(one))


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.0"), ("1.0", "1.0.0"), ("1.0-rc1", "1.0-rc2"), ("1.0", "1.01")])
def test_versions_that_are_one_or_rank_apart_are_not_confusable(one: str, other: str) -> None:
    assert not Version(one).is_confusable_with(Version(other))


@given(RELEASES, RELEASES, RELEASES)
def test_confusable_versions_form_groups(one: str, two: str, three: str) -> None:
    a, b, c = Version(one), Version(two), Version(three)
    assert a.is_confusable_with(b) == b.is_confusable_with(a)
    if a.is_confusable_with(b) and b.is_confusable_with(c):
        assert a == c or a.is_confusable_with(c)


@given(RELEASES)
def test_two_names_that_fat_takes_for_one_are_confusable(text: str) -> None:
    assert text == text.swapcase() or Version(text).is_confusable_with(Version(text.swapcase()))


def test_text_is_kept() -> None:
    assert str(Version.from_text("2026.11.23~rc1-2^p")) == "2026.11.23~rc1-2^p"


@pytest.mark.parametrize(
    "text", ["", ".1", "-1", "~1", "^1", "1_0", "1+2", "1/2", "1 ", "1\n", "1\0", "..", "ü", "٣", "1" * 65]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        Version.from_text(text)


def test_longest_version_is_accepted() -> None:
    assert str(Version.from_text("1" * 64)) == "1" * 64
