"""Lists of faults that were seen once, with the tests that hold each off: the tests that a list names exist."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# By the number of a fault: what was seen, and its tests by their files, as paths from the repository's root.
Faults = dict[str, tuple[str, dict[str, tuple[str, ...]]]]


@cache
def names_in(path: str) -> frozenset[str]:
    """The functions at the top of a file, by its path from the repository's root."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def check_fault(faults: Faults, number: str) -> None:
    """Assert that a fault says what was seen, and that its tests exist."""
    seen, tests = faults[number]
    assert seen
    assert tests
    for path, names in tests.items():
        assert set(names) <= names_in(path), (number, path)
