from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import DocumentError
from partitions.version import Version
from updater.documents.release import (
    MAX_DOCUMENT_BYTES,
    Architecture,
    Compression,
    Release,
    StoredObject,
    parse_release,
    release_path,
)

HASH = "0123456789abcdef" * 4


def document(**changes: Any) -> dict[str, Any]:
    artifact = {"sha256": HASH, "size_bytes": 8192, "objects": []}
    base = {
        "format": 1,
        "image": "host",
        "version": "1.0.0",
        "architecture": "x86-64",
        "root_hash": HASH,
        "artifacts": {"uki": dict(artifact), "root": dict(artifact), "verity": dict(artifact)},
    }
    return {**base, **changes}


def parse(value: object) -> Release:
    return parse_release(strict.dump_json(value), source="release.json")


def refusal(value: object) -> str:
    with pytest.raises(DocumentError) as caught:
        parse(value)
    return str(caught.value)


def edited(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    value = document()
    change(value)
    return value


def test_release_is_read() -> None:
    release = parse(document())
    assert release.version == Version("1.0.0")
    assert release.architecture is Architecture.X86_64
    assert release.artifacts.uki.size_bytes == 8192
    assert release.target_path == "releases/host/1.0.0/x86-64.json"


def test_attachments_are_read_even_those_nobody_here_knows() -> None:
    assert parse(document()).attachments == {}
    artifact = document()["artifacts"]["uki"]
    assert set(parse(document(attachments={"sbom": artifact, "poem": artifact})).attachments) == {"sbom", "poem"}


def test_a_release_with_many_attachments_stays_a_small_document() -> None:
    artifact = document()["artifacts"]["uki"] | {"objects": [{"sha256": HASH, "size_bytes": 5, "compression": "zstd"}]}
    release = parse(document(attachments={f"name-{number}": artifact for number in range(100)}))
    assert len(strict.dump_json(release)) < MAX_DOCUMENT_BYTES // 10


def test_what_is_written_reads_back_the_same() -> None:
    value = document()
    value["artifacts"]["root"]["objects"] = [{"sha256": HASH, "size_bytes": 5, "compression": "zstd"}]
    release = parse(value)
    assert release.artifacts.root.objects == (StoredObject(HASH, 5, Compression.ZSTD),)
    assert parse_release(strict.dump_json(release), source="again") == release


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda value: value.update(format=2), "format"),
        (lambda value: value.update(image="Host"), "image"),
        (lambda value: value.update(image="../x"), "image"),
        (lambda value: value.update(version="1_0"), "version"),
        (lambda value: value.update(version=1), "version"),
        (lambda value: value.update(architecture="vax"), "architecture"),
        (lambda value: value.update(root_hash=HASH.upper()), "root_hash"),
        (lambda value: value.update(critical=["more"], more=1), "critical"),
        (lambda value: value.pop("root_hash"), "root_hash"),
        (lambda value: value["artifacts"].pop("uki"), "artifacts.uki"),
        (lambda value: value["artifacts"]["uki"].update(size_bytes=0), "artifacts.uki.size_bytes"),
        (lambda value: value["artifacts"]["uki"].update(size_bytes=True), "artifacts.uki.size_bytes"),
        (lambda value: value["artifacts"]["uki"].update(size_bytes=1 << 45), "artifacts.uki.size_bytes"),
        (lambda value: value["artifacts"]["root"].update(size_bytes=4097), "artifacts"),
        (lambda value: value["artifacts"]["verity"].update(size_bytes=4097), "artifacts"),
        (lambda value: value["artifacts"]["uki"].update(objects={}), "artifacts.uki.objects"),
        (lambda value: value.update(attachments={"SBOM": value["artifacts"]["uki"]}), "attachments"),
        (lambda value: value.update(attachments={"sbom": {}}), "attachments.sbom.sha256"),
        (
            lambda value: value["artifacts"]["uki"].update(
                objects=[{"sha256": HASH, "size_bytes": 1, "compression": 7}]
            ),
            "artifacts.uki.objects[0].compression",
        ),
    ],
)
def test_error_is_refused_and_located(change: Callable[[dict[str, Any]], None], path: str) -> None:
    assert f"release.json: {path}: " in refusal(edited(change))


def test_all_errors_are_told_together() -> None:
    told = refusal(document(format=2, image="Host", version="", root_hash="00"))
    assert len(told.splitlines()) == 4


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"format": 1, "format": 1}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_release_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_release(data, source="release.json")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_release_or_a_document_error(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_release(data, source="release.json")


def test_object_lies_under_its_first_two_digits() -> None:
    assert StoredObject(HASH, 1, Compression.NONE).path == f"objects/01/{HASH}"


def test_path_of_a_release_names_image_version_and_architecture() -> None:
    assert release_path("host", Version("2~rc1"), Architecture.ARM64) == "releases/host/2~rc1/arm64.json"
