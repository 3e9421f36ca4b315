"""A module whose docstring calls it pure imports nothing that does I/O."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuild.paths import SOURCE_ROOT

_CALLED_PURE = re.compile(r"(?:^|(?<=\.  ))Pure(?= values|[.;:])", re.MULTILINE)
_CONTRACT = "Pure modules import nothing that does I/O"


def contract() -> dict[str, list[str]]:
    settings = tomllib.loads((SOURCE_ROOT / "pyproject.toml").read_text())
    (found,) = [each for each in settings["tool"]["importlinter"]["contracts"] if each["name"] == _CONTRACT]
    return dict(found)


def pure_modules() -> Iterator[Path]:
    for package in ("bedrock", "partitions", "keys", "updater", "imagebuild"):
        for path in sorted((SOURCE_ROOT / package).rglob("*.py")):
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            if path.name != "__init__.py" and _CALLED_PURE.search(text):
                yield path


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", list(pure_modules()), ids=lambda path: str(path.relative_to(SOURCE_ROOT)))
def test_a_module_that_calls_itself_pure_does_no_io(path: Path) -> None:
    forbidden = contract()["forbidden_modules"]
    broken = [name for name in imports(path) if any(name == each or name.startswith(f"{each}.") for each in forbidden)]
    assert broken == []


def test_modules_of_the_contract_exist() -> None:
    # A contract about modules that were renamed would hold nothing.
    modules = contract()["source_modules"]
    assert len(modules) > 40
    assert [name for name in modules if not (SOURCE_ROOT / f"{name.replace('.', '/')}.py").is_file()] == []
