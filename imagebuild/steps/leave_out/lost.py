"""Checks the files that stay: no program may lack a library, no script on the path its interpreter.  Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from imagebuild.steps.leave_out.facts import TreeFacts, TreeItem
from imagebuild.steps.leave_out.patterns import merged
from imagebuild.steps.leave_out.reach import LeaveOutDecision
from imagebuild.steps.leave_out.survey import PATH_FOLDERS


def losses(tree: TreeFacts, decision: LeaveOutDecision) -> tuple[str, ...]:
    """The files that stay but lack something, each with what it lacks, sorted.

    A library that no package of the image brought counts only for programs on the path: others, such as a plugin for
    a program that is not installed, are useless anyway.
    """
    there = {path for path in tree.items if path not in decision.out and _leads_somewhere(tree, decision, path)}
    names = {posixpath.basename(path) for path in there}
    brought = {posixpath.basename(path) for path in (*tree.items, *tree.owners)}
    found = (
        line
        for path, item in tree.items.items()
        if path not in decision.out
        for line in (*_libraries(item, names, brought), *_interpreter(tree, item, there))
    )
    return tuple(sorted(found))


def _libraries(item: TreeItem, names: set[str], brought: set[str]) -> Iterator[str]:
    for name in item.needed:
        if name not in names and (name in brought or _is_on_path(item)):
            yield f"{item.path} needs {name}"


def _interpreter(tree: TreeFacts, item: TreeItem, there: set[str]) -> Iterator[str]:
    if item.interpreter and item.executable and _is_on_path(item):
        places = (tree.through_folders(merged(path)) for path in tree.interpreters(item))
        if there.isdisjoint(places):
            yield f"{item.path} wants {item.interpreter}"


def _is_on_path(item: TreeItem) -> bool:
    return posixpath.dirname(item.path) in PATH_FOLDERS


def _leads_somewhere(tree: TreeFacts, decision: LeaveOutDecision, path: str) -> bool:
    """Whether a name is not a link, or a link whose target stays."""
    if tree.items[path].target is None:
        return True
    end = tree.way(path)[-1]
    return tree.items[end].target is None and end not in decision.out
