"""One class name is one idea: no two modules of the packages define a class of the same name."""

from __future__ import annotations

import ast
from collections import defaultdict

from imagebuild.paths import SOURCE_ROOT


def test_a_class_name_is_defined_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for package in ("bedrock", "partitions", "keys", "updater", "imagebuild", "setup"):
        for path in sorted((SOURCE_ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(str(path.relative_to(SOURCE_ROOT)))
    assert len(places) > 300
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
