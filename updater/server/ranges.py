"""What a request's `Range` asks for.  Pure.

A range that is not understood is ignored and the whole file is the answer, and so are several of which some lie beyond
the file's end; if all do, the answer is 416.
Source: RFC 9110 14.1.2 (byte ranges), 14.2 (what is ignored), 15.5.17 (416).
"""

from __future__ import annotations

import re
from enum import Enum

# More would cost the server a part of an answer each, and no client of a repository asks for that many.
MOST_RANGES = 100
_ONE = re.compile(r"(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+)")
_DIGITS = 19


class RangeVerdict(Enum):
    """What becomes of a `Range`."""

    IGNORED = "ignored"
    SERVED = "served"
    BEYOND = "beyond the end"


def judge_range(value: str, size_bytes: int) -> RangeVerdict:
    """What becomes of the header's value for a file of so many bytes."""
    unit, equals, rest = value.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return RangeVerdict.IGNORED
    # A list may have empty elements (RFC 9110 5.6.1.2).
    pieces = [piece for piece in (each.strip(" \t") for each in rest.split(",")) if piece]
    found = [_ONE.fullmatch(piece) for piece in pieces]
    if not 0 < len(found) <= MOST_RANGES or not all(found):
        return RangeVerdict.IGNORED
    verdicts = {_judge(match, size_bytes) for match in found if match}
    return verdicts.pop() if len(verdicts) == 1 else RangeVerdict.IGNORED


def _judge(match: re.Match[str], size_bytes: int) -> RangeVerdict:
    if any(len(digits) > _DIGITS for digits in match.groups("")):
        return RangeVerdict.IGNORED
    if match["suffix"]:
        # Of an empty file the last bytes are all that there is, and no part of it could be named.
        wanted = RangeVerdict.SERVED if size_bytes else RangeVerdict.IGNORED
        return wanted if int(match["suffix"]) else RangeVerdict.BEYOND
    if match["last"] and int(match["last"]) < int(match["first"]):
        return RangeVerdict.IGNORED
    return RangeVerdict.SERVED if int(match["first"]) < size_bytes else RangeVerdict.BEYOND
