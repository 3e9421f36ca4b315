"""The schemas of documents that people write; every key of these is documented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from imagebuild.definition.schemas import image_schema, settings_schema

ROOT = Path(__file__).parents[4]
SCHEMAS = {"image": image_schema(), "updater": settings_schema()}
PAGES = {"image": "docs/image-definition.md", "updater": "docs/updater-settings.md"}


def keys_of(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of a schema by its path, those of nested parts included."""
    for name, value in schema.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        yield where, value
        for part in (value, value.get("items", {}), *value.get("anyOf", ())):
            # The settings have a page of their own.
            if where != "updater":
                yield from keys_of(part, where)


KEYS = [(name, path) for name, schema in SCHEMAS.items() for path, _ in keys_of(schema)]


@pytest.mark.parametrize(("name", "path"), KEYS)
def test_every_key_is_documented(name: str, path: str) -> None:
    key = path.rpartition(".")[2]
    text = (ROOT / PAGES[name]).read_text()
    assert f"`{key}`" in text or f"`{path}`" in text, f"{PAGES[name]} does not say what `{path}` is"


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_has_a_description_or_parts_that_have(name: str) -> None:
    silent = [path for path, value in keys_of(SCHEMAS[name]) if not described(value)]
    assert not silent, f"without a line in the `Attributes:` of their dataclass: {silent}"


def described(value: dict[str, Any]) -> bool:
    """Whether an editor has something to show for a key."""
    return "description" in value or "description" in value.get("items", {}) or "properties" in value


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_are_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def test_patterns_are_those_of_other_languages_too() -> None:
    """JSON Schema's are ECMAScript's, which knows no `(?P<name>…)`, `\\A` or `\\Z`."""
    text = yaml.safe_dump(SCHEMAS)
    assert not any(odd in text for odd in ("(?P", "\\A", "\\Z", "(?x", "(?i"))


@pytest.mark.parametrize("path", ["examples/container-host/image.yaml", "imagebuild/data/image.yaml"])
def test_definitions_we_ship_fit_the_schema(path: str) -> None:
    jsonschema.Draft202012Validator(SCHEMAS["image"]).validate(yaml.safe_load((ROOT / path).read_text()))
