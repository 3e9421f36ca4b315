"""YAML text as plain values: the loader behind `strict.parse_yaml`.

Rules: a key is given once; dates stay text; lists and mappings are nested only so deep; aliases stand for only so much,
and never for what holds them.  An error says where it is (line and column) and quotes nothing of the text but keys: it
is printed and logged, and the text may hold secrets.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

MAX_DEPTH = 64
# What aliases (`*name`) come to beyond what is written out, in values.
MAX_ALIASED = 100_000


def load(text: str | bytes) -> object:
    """The values of one document.

    Raises:
        ValueError: It is not YAML, or breaks a rule above.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader subclass
    except yaml.YAMLError as error:
        raise ValueError(_without_quotes(error)) from error


class _Loader(yaml.SafeLoader):
    """A SafeLoader that keeps the rules of this module."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._depth = 0
        self._values = 0

    def get_single_node(self) -> yaml.Node | None:
        """The document's node, which is small enough to be turned into values."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _require_small(node, self._values)
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node and what is in it."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # the library's stubs lack it
        if isinstance(event, yaml.AliasEvent) and event.anchor not in self.anchors:
            raise _error("an alias (*) names nothing; text that begins with * needs quotes", event)
        if self._depth == MAX_DEPTH:
            raise _error(f"more than {MAX_DEPTH} lists and mappings are nested", event)
        self._depth += 1
        self._values += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - the library's signature
        """The value of a node."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError) as error:
            raise _error(f"this is not a value of the kind {node.tag.rpartition(':')[2]}", node) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - the library's signature
        """The values of a mapping."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise _error(f"key {key!r} is given twice", key_node)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def keep_date(self, node: yaml.Node) -> Any:
        """A date that is marked as one (`!!timestamp`) is text like any other."""
        return self.construct_yaml_str(node)

    def refuse_tag(self, node: yaml.Node) -> Any:
        """There are no tags but YAML's own, and of those not the one of `<<`."""
        raise _error("neither tags (!) nor << are read here; text that begins so needs quotes", node)


_DATE = "tag:yaml.org,2002:timestamp"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if tag != _DATE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor(_DATE, _Loader.keep_date)
_Loader.add_constructor(None, _Loader.refuse_tag)


def _require_small(root: yaml.Node, written: int) -> None:
    """Refuse aliases that stand for more than `MAX_ALIASED` values, or for what they are in."""
    sizes: dict[int, int] = {}
    within: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in within:
            raise _error("an alias (*) stands for what it is in", node)
        within.add(id(node))
        children = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else []
        children += node.value if isinstance(node, yaml.SequenceNode) else []
        sizes[id(node)] = 1 + sum(size(child) for child in children)
        within.remove(id(node))
        return sizes[id(node)]

    if size(root) > written + MAX_ALIASED:
        raise _error(f"its aliases (*) stand for more than {MAX_ALIASED} values", root)


def _error(problem: str, at: Any) -> yaml.constructor.ConstructorError:
    """An error at a node or an event."""
    return yaml.constructor.ConstructorError(None, None, problem, at.start_mark)


def _without_quotes(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the library's excerpt of the text."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    what = ", ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    return what if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {what}"
