"""Versions and their order.

The order is that of the UAPI Version Format Specification as systemd implements it (`strverscmp_improved`), because
that implementation, inside systemd-boot, decides what boots.  Where the specification's text and systemd disagree
(`~` against the end of the text, `^` against the other separators), this module follows systemd.

Pure: no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, total_ordering

MAX_LENGTH = 64

_RELEASE = re.compile(r"[0-9A-Za-z][0-9A-Za-z.~^-]*")
_LEADING_OTHER = re.compile(r"^[^0-9A-Za-z.~^-]+")
_LEADING_DIGITS = re.compile(r"[0-9]*")
_LEADING_LETTERS = re.compile(r"[A-Za-z]*")


@total_ordering
@dataclass(frozen=True)
class Version:
    """The version of a release.

    `_` and `+` are not allowed: in file names `_` separates the image from its version, and `+` the version from its
    boot counter.

    Equality follows the text, so `1.0` and `1.00` are two versions although the specification ranks them equal;
    between such two the text decides, which keeps the order total and consistent with equality.  `compare` gives the
    specification's own answer.  No disk may hold two such versions: see `is_confusable_with`.
    """

    text: str

    def __post_init__(self) -> None:
        if len(self.text) > MAX_LENGTH or not _RELEASE.fullmatch(self.text):
            raise ValueError(
                f"{self.text[: MAX_LENGTH + 1]!r} is not a version: 1 to {MAX_LENGTH} characters of A-Z, a-z, 0-9, "
                "'.', '~', '^' and '-', a letter or digit first"
            )

    @classmethod
    def from_text(cls, text: str) -> Version:
        """Read a version.

        Raises:
            ValueError: The text is empty, too long, or holds characters a version cannot have.
        """
        return cls(text)

    def __str__(self) -> str:
        return self.text

    def is_confusable_with(self, other: Version) -> bool:
        """Whether two different versions are one to what boots them: `1.0` and `1.00`, `1.0-RC1` and `1.0-rc1`.

        The loader ranks the former equal, so that its choice is an accident, and the names of the latter are one name
        on FAT, and one id to the loader.
        """
        return self != other and compare(self.text.lower(), other.text.lower()) == 0

    def __lt__(self, other: Version) -> bool:
        ranked = compare(self.text, other.text)
        return ranked < 0 or (ranked == 0 and self.text < other.text)


@lru_cache(maxsize=4096)
def compare(a: str, b: str) -> int:
    """Rank two texts: -1 when `a` is older, 0 when neither is, 1 when `a` is newer.

    Source: UAPI Version Format Specification, "Version Comparison"; systemd, `strverscmp_improved`.
    """
    while True:
        a, b = _LEADING_OTHER.sub("", a), _LEADING_OTHER.sub("", b)
        ranked, a, b = _skip_mark(a, b, "~")
        if ranked:
            return ranked
        # Only after `~`, which makes a longer text older; from here on the longer one is newer.
        if not a or not b:
            return bool(a) - bool(b)
        for mark in "-^.":
            ranked, a, b = _skip_mark(a, b, mark)
            if ranked:
                return ranked
        ranked, a, b = _skip_segment(a, b)
        if ranked:
            return ranked


def _skip_mark(a: str, b: str, mark: str) -> tuple[int, str, str]:
    """Rank a text that starts with `mark` as older; when both do, both lose it."""
    a_has, b_has = a.startswith(mark), b.startswith(mark)
    if a_has != b_has:
        return (-1 if a_has else 1), a, b
    return (0, a[1:], b[1:]) if a_has else (0, a, b)


def _skip_segment(a: str, b: str) -> tuple[int, str, str]:
    """Rank by the leading digits if either side has any, else by the leading letters; equal segments are dropped."""
    numeric = a[:1] in _DIGITS or b[:1] in _DIGITS
    pattern = _LEADING_DIGITS if numeric else _LEADING_LETTERS
    head_a, head_b = _head(pattern, a), _head(pattern, b)
    rest_a, rest_b = a[len(head_a) :], b[len(head_b) :]
    if not numeric:
        return (head_a > head_b) - (head_a < head_b), rest_a, rest_b
    # A segment of digits is newer than none at all, even when its value is 0.
    key_a, key_b = _number_key(head_a), _number_key(head_b)
    return (key_a > key_b) - (key_a < key_b), rest_a, rest_b


_DIGITS = frozenset("0123456789")


def _head(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.match(text)
    return match[0] if match else ""


def _number_key(digits: str) -> tuple[bool, int, str]:
    """Orders digit strings of any length by value without converting them to numbers."""
    value = digits.lstrip("0")
    return (bool(digits), len(value), value)
