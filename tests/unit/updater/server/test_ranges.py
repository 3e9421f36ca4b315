from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.server.ranges import MOST_RANGES, RangeVerdict, judge_range

SIZE = 1000


@pytest.mark.parametrize(
    "value",
    [
        "bytes=0-0",
        "bytes=0-",
        "bytes=-1",
        "bytes=999-",
        "bytes=0-99999",
        "bytes=-5000",
        "BYTES=1-2",
        "bytes=0-1, 5-6,,",
    ],
)
def test_what_can_be_served(value: str) -> None:
    assert judge_range(value, SIZE) is RangeVerdict.SERVED


@pytest.mark.parametrize(
    "value",
    [
        "bytes=5-1",
        "abc",
        "lines=0-5",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=1_0-20",
        "bytes=+1-5",
        "bytes=1-+5",
        "bytes= 1 - 5",
        "bytes=1-5-9",
        "bytes=٣-٤",
        "bytes=0-1,x",
        "bytes=0-1,5-2",
        "bytes=0-1,5000-",
        "bytes=" + "9" * 5000 + "-",
        "bytes=" + "0-1," * (MOST_RANGES + 1),
    ],
)
def test_what_is_not_understood_is_ignored(value: str) -> None:
    assert judge_range(value, SIZE) is RangeVerdict.IGNORED


@pytest.mark.parametrize(("value", "size"), [("bytes=1000-", SIZE), ("bytes=-0", SIZE), ("bytes=0-", 0)])
def test_what_lies_beyond_the_end(value: str, size: int) -> None:
    assert judge_range(value, size) is RangeVerdict.BEYOND


def test_the_last_bytes_of_an_empty_file_are_the_whole_file() -> None:
    assert judge_range("bytes=-1", 0) is RangeVerdict.IGNORED


@given(st.text(max_size=40), st.integers(0, 5))
def test_every_text_has_a_verdict(text: str, size: int) -> None:
    assert judge_range(f"bytes={text}", size) in RangeVerdict


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_a_range_is_served_exactly_when_it_has_bytes(first: int, last: int, size: int) -> None:
    wanted = RangeVerdict.IGNORED if last < first else RangeVerdict.SERVED if first < size else RangeVerdict.BEYOND
    assert judge_range(f"bytes={first}-{last}", size) is wanted
