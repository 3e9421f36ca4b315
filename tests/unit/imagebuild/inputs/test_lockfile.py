from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.inputs.lockfile import Lock, LockedWheel, changes, read_lock, write_lock
from tests.fakes.definitions import lock_of, package, selection_of

LOCK = lock_of(package("podman"), package("crun"))


def test_a_lock_is_read_as_it_was_written() -> None:
    assert read_lock(write_lock(LOCK), source="lock") == LOCK


def test_the_digest_knows_packages_and_not_their_order_or_origin() -> None:
    one, two = package("podman"), package("crun")
    assert selection_of(one, two).digest == selection_of(two, one).digest
    assert selection_of(one).digest != selection_of(package("podman", b"rebuilt")).digest
    assert selection_of(one).digest != selection_of(package("podman", version="2")).digest


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("path", "../../etc/shadow", "path below an archive"),
        ("path", "/etc/shadow", "path below an archive"),
        ("path", "pool/a/../../x.deb", "path below an archive"),
        ("sha256", "abc", "64 hexadecimal digits"),
        ("size_bytes", 0, "size_bytes"),
        ("name", "Podman\n", "package name"),
        ("version", "1; rm", "version"),
        ("archive", "Else/where", "archive"),
    ],
)
def test_a_package_that_cannot_be_is_refused_by_its_path(key: str, value: object, said: str) -> None:
    document = json.loads(write_lock(LOCK))
    document["image_packages"]["packages"][1][key] = value
    with pytest.raises(DocumentError, match=r"image_packages\.packages\[1\]") as caught:
        read_lock(json.dumps(document).encode(), source="image.lock")
    assert said in str(caught.value)


def test_another_format_or_an_unknown_key_is_refused() -> None:
    document = json.loads(write_lock(LOCK))
    with pytest.raises(DocumentError, match="format"):
        read_lock(json.dumps(document | {"format": 1}).encode(), source="lock")
    with pytest.raises(DocumentError, match="nonsense"):
        read_lock(json.dumps(document | {"nonsense": 1}).encode(), source="lock")


def test_a_package_named_twice_is_refused() -> None:
    raw = strict.plain(LOCK)
    raw["image_packages"]["packages"] *= 2
    with pytest.raises(DocumentError, match="more than once"):
        strict.read(Lock, raw, source="lock")


def test_changes_are_told_by_part_and_name() -> None:
    new = replace(
        lock_of(package("podman", version="2"), package("jq")),
        wheels=(LockedWheel("tuf-7.0.2-py3-none-any.whl", 1, "b" * 64),),
    )
    told = {(change.part, change.name): (change.old, change.new) for change in changes(LOCK, new)}
    assert set(told) == {("image", "podman"), ("image", "crun"), ("image", "jq"), ("agent", "tuf")}
    assert told["image", "crun"][1] is None
    assert told["image", "jq"][0] is None
    assert str(told["image", "podman"][1]).startswith("2 (")
    assert changes(LOCK, LOCK) == ()


def test_the_same_version_of_other_bytes_is_a_change() -> None:
    assert [each.name for each in changes(LOCK, lock_of(package("podman", b"rebuilt"), package("crun")))] == ["podman"]
