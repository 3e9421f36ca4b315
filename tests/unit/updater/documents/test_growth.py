"""Every document that crosses the wire: today's readers hold against tomorrow's documents.

The documents are those of `tests/fakes/wired.py`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import DocumentError
from tests.fakes.wired import AT, CHANNEL, DOCUMENTS, HASH, HINTS, RELEASE, Wired
from updater.agent.objects import chosen_object
from updater.agent.state import parse_hints
from updater.documents.channel import parse_channel, parse_channel_to_change
from updater.documents.release import Compression, ObjectKind, StoredObject, parse_release
from updater.errors import RefusedError

BY_NAME = {wired.name: json.loads(wired.data) for wired in DOCUMENTS}
EVERY = pytest.mark.parametrize("wired", DOCUMENTS, ids=str)


def mappings(value: object, name: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every mapping with keys of a type's own, with the path to it; those by name (attachments) have no such keys."""
    found: list[tuple[str, dict[str, Any]]] = []
    if isinstance(value, dict):
        by_name = name in ("attachments", "certificates", "files", "measured")
        found = [] if by_name else [(name, value)]
        return found + [each for key, item in value.items() for each in mappings(item, key)]
    if isinstance(value, list):
        return [each for item in value for each in mappings(item, name)]
    return found


def read(wired: Wired, document: object) -> object:
    return wired.parse(strict.dump_json(document), source=wired.name)


@EVERY
def test_a_new_key_anywhere_changes_nothing(wired: Wired) -> None:
    document = json.loads(wired.data)
    for _, mapping in mappings(document):
        mapping["new-next-year"] = {"deep": [1, None, "x"]}
    assert read(wired, document) == read(wired, json.loads(wired.data))


@EVERY
@given(
    key=st.text(min_size=1, max_size=20),
    value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists),
)
def test_any_new_key_at_the_top_changes_nothing(wired: Wired, key: str, value: object) -> None:
    document = json.loads(wired.data)
    if key in document or key == "critical":
        return
    assert read(wired, document | {key: value}) == read(wired, document)


@EVERY
def test_a_new_critical_key_is_refused_by_name(wired: Wired) -> None:
    with pytest.raises(DocumentError, match=r"critical: .*'new-next-year'"):
        read(wired, json.loads(wired.data) | {"new-next-year": 1, "critical": ["new-next-year"]})


@EVERY
def test_keys_of_today_may_be_critical(wired: Wired) -> None:
    document = json.loads(wired.data)
    named = [key for key in document if not key.startswith("_") and key != "predicateType"]
    assert read(wired, document | {"critical": named}) == read(wired, document)


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {"statement"}))
def test_another_format_is_refused(name: str) -> None:
    wired = next(each for each in DOCUMENTS if each.name == name)
    with pytest.raises(DocumentError, match="format"):
        read(wired, json.loads(wired.data) | {"format": 2})


def with_objects(*objects: dict[str, Any]) -> bytes:
    document = json.loads(strict.dump_json(RELEASE))
    document["artifacts"]["root"]["objects"] = list(objects)
    return strict.dump_json(document)


FULL = {"kind": "full", "sha256": HASH, "size_bytes": 9, "compression": "zstd"}
PATCH = {"kind": "patch", "sha256": HASH, "from": HASH, "size_bytes": 1, "compression": "zstd"}
PACKED = {"kind": "full", "sha256": HASH, "size_bytes": 1, "compression": "brotli"}


@pytest.mark.parametrize("new", [PATCH, PACKED, {**PATCH, "size_bytes": "nothing a reader of today could know"}])
def test_an_object_of_a_new_kind_is_passed_over_for_one_that_is_known(new: dict[str, Any]) -> None:
    artifact = parse_release(with_objects(new, FULL), source="release").artifacts.root
    assert chosen_object(artifact) == StoredObject(HASH, 9, Compression.ZSTD, ObjectKind.FULL)


def test_an_artifact_that_only_new_objects_carry_is_refused() -> None:
    artifact = parse_release(with_objects(PATCH, PACKED), source="release").artifacts.root
    with pytest.raises(RefusedError, match="no object"):
        chosen_object(artifact)


def test_an_architecture_that_is_new_here_is_refused() -> None:
    with pytest.raises(DocumentError, match="architecture"):
        parse_release(strict.dump_json(BY_NAME["release"] | {"architecture": "riscv64"}), source="release")


def test_a_new_kind_of_event_is_passed_over_and_the_operators_wishes_stay() -> None:
    document = dict(BY_NAME["state"])
    document["history"] = [{"at": str(AT), "kind": "teleported", "text": "x"}, *document["history"]]
    assert parse_hints(strict.dump_json(document), source="state.json") == HINTS


def test_a_channel_of_tomorrow_is_followed_and_not_written_again_by_todays_program() -> None:
    document = strict.dump_json(BY_NAME["channel"] | {"waves": [1, 10, 100]})
    assert parse_channel(document, source="stable.json") == CHANNEL
    with pytest.raises(DocumentError, match="waves"):
        parse_channel_to_change(document, source="stable.json")
