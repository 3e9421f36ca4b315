"""Paths with `*` (any part of one name) and `?` (any one character of it); a match covers everything below it.

Standard library only: it also runs inside the tools tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_MERGED = re.compile(r"/(bin|sbin|lib|lib64)/")


def covers(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether one of these patterns matches a path, or a folder that it is in."""
    expressions = [expression(pattern) for pattern in patterns]
    if not expressions:
        return lambda _: False
    compiled = re.compile(f"(?:{'|'.join(expressions)})(?:/.*)?", re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None


def matches(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether one of these patterns matches a path itself."""
    expressions = [expression(pattern) for pattern in patterns]
    if not expressions:
        return lambda _: False
    compiled = re.compile("|".join(expressions), re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None


def expression(pattern: str) -> str:
    """A pattern as a regular expression."""
    escaped = re.escape(merged(pattern.rstrip("/")))
    return re.sub(r"(?:\\\*)+", "[^/]*", escaped).replace(r"\?", "[^/]")


def merged(path: str) -> str:
    """The real path in a file system whose `/bin`, `/sbin`, `/lib` and `/lib64` are links into `/usr`."""
    return f"/usr{path}" if _MERGED.match(path) else path
