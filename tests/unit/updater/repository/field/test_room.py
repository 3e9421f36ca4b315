"""What fits, and when growth reaches a limit."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import DocumentError
from partitions.layout import boot_bytes_for
from partitions.version import Version
from tests.fakes.builds import slots_of
from updater.documents.release import FORMAT, Architecture, Artifact, Artifacts, Release
from updater.documents.slot_layout import BoundPartition, parse_layout
from updater.repository.field.room import Known, family_problems, fill, in_mib, misfits, need, outlooks, releases_left

MIB = 1 << 20
SLOTS = replace(slots_of(), root_bytes=64 * MIB, verity_bytes=MIB, boot_bytes=41 * MIB)
SIZES = st.lists(st.integers(1, 1 << 40), min_size=2, max_size=12)


def release(version: str = "1.0.0", *, root: int = 32 * MIB, verity: int = 4096, uki: int = MIB) -> Release:
    """A release that needs `root` bytes of the root partition, the copy of its UKI and its record among them."""
    copy = -(-uki // 4096) * 4096 + 4096
    sizes = {"root": root - copy, "verity": verity, "uki": uki}
    return Release(
        format=FORMAT,
        image="host",
        version=Version(version),
        architecture=Architecture.X86_64,
        root_hash="ab" * 32,
        artifacts=Artifacts(**{name: Artifact("cd" * 32, size) for name, size in sizes.items()}),
    )


def known(*, retired: bool = False) -> Known:
    return Known(SLOTS, (Version("1.0.0"), Version("1.0.3")), retired)


def document(**changes: Any) -> bytes:
    return json.dumps({**strict.plain(SLOTS), **changes}).encode()


def test_a_layout_survives_its_document() -> None:
    assert parse_layout(strict.dump_json(SLOTS), source="layout.json") == SLOTS
    assert parse_layout(document(), source="layout.json").id == SLOTS.id


def test_layouts_that_differ_have_other_ids() -> None:
    others = (
        replace(SLOTS, root_bytes=65 * MIB),
        replace(SLOTS, boot_bytes=42 * MIB),
        replace(SLOTS, image="other"),
        replace(SLOTS, architecture=Architecture.ARM64),
    )
    assert len({each.id for each in (SLOTS, *others)}) == 5


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"root_bytes": -1}, "root_bytes: must be from 1"),
        ({"boot_bytes": 0}, "boot_bytes: must be from 1"),
        ({"verity_bytes": 1.5}, "verity_bytes: must be a whole number"),
        ({"root_bytes": "64M"}, "root_bytes: must be a whole number"),
        ({"esp_bytes": 1, "critical": ["esp_bytes"]}, "critical: .*esp_bytes"),
        ({"format": 2}, "format: must be from 1 to 1"),
        ({"architecture": "sparc"}, "architecture: must be one of"),
        ({"image": "../up"}, "image: "),
    ],
)
def test_a_malformed_layout_names_the_place(changes: dict[str, object], place: str) -> None:
    with pytest.raises(DocumentError, match=place):
        parse_layout(document(**changes), source="layout.json")


def test_a_layout_of_another_architecture_or_image_is_told() -> None:
    assert family_problems(SLOTS, release()) == ()
    for other in (replace(SLOTS, architecture=Architecture.ARM64), replace(SLOTS, image="other")):
        (problem,) = family_problems(other, release())
        assert str(other.family) in problem


@pytest.mark.parametrize(
    ("part", "fits", "too_large"),
    [
        (BoundPartition.ROOT, release(root=64 * MIB), release(root=64 * MIB + 4096)),
        (BoundPartition.VERITY, release(verity=MIB), release(verity=MIB + 4096)),
        (BoundPartition.BOOT, release(uki=20 * MIB), release(uki=20 * MIB + 1)),
    ],
)
def test_a_release_fits_up_to_the_last_byte(part: BoundPartition, fits: Release, too_large: Release) -> None:
    assert misfits([fits], [known()]) == ()
    (found,) = misfits([too_large], [known()])
    assert found.part is part
    assert found.missing_bytes == need(too_large, part) - need(fits, part)


def test_a_retired_layout_bounds_nothing() -> None:
    assert misfits([release(root=65 * MIB)], [known(retired=True)]) == ()


def test_a_misfit_names_sizes_versions_and_what_is_missing() -> None:
    (found,) = misfits([release("1.0.4", root=66 * MIB)], [known()])
    assert str(found) == (
        "host 1.0.4: the root filesystem has 69206016 bytes, and the root partition has 67108864: 2097152 missing "
        f"(layout {SLOTS.id}: root 64 MiB, verity 1 MiB, boot 41 MiB; installed with 1.0.0, 1.0.3)"
    )


@given(st.integers(1, 1 << 30), st.integers(1, 1 << 32))
def test_a_uki_fits_exactly_when_two_and_the_slack_do(uki: int, boot: int) -> None:
    slots = replace(SLOTS, boot_bytes=boot)
    found = misfits([release(uki=uki)], [replace(known(), slots=slots)])
    assert bool(found) == (boot_bytes_for(uki) > boot) == (fill(release(uki=uki), slots, BoundPartition.BOOT) > 1)


@given(SIZES, st.integers(1, 1 << 41))
def test_the_release_named_is_the_first_that_does_not_fit(sizes: list[int], room: int) -> None:
    left = releases_left(sizes, room)
    growth = Fraction(sizes[-1] - sizes[0], len(sizes) - 1)
    if growth <= 0:
        assert left is None
    else:
        assert left is not None
        assert sizes[-1] + left * growth > room
        assert sizes[-1] + (left - 1) * growth <= room


@pytest.mark.parametrize("sizes", [[], [5], [5, 5], [9, 1], [1, 9, 1]])
def test_what_does_not_grow_is_never_full(sizes: list[int]) -> None:
    assert releases_left(sizes, 10) is None


def test_a_limit_that_is_reached_within_the_span_is_told() -> None:
    history = [release(f"1.0.{n}", root=(40 + n) * MIB) for n in range(20)]
    # 59 of 64 MiB, 1 MiB more each: the sixth from now does not fit.
    assert outlooks(history, [known()], within=5) == ()
    (found,) = outlooks(history, [known()], within=6)
    assert (found.part, found.releases_left, found.growth_bytes, found.over_releases) == (
        BoundPartition.ROOT,
        6,
        MIB,
        8,
    )
    assert str(found) == (
        f"host (x86-64): 6 more releases will outgrow the root partition of layout {SLOTS.id}: 59 MiB of 64 MiB are "
        "needed now, 1048576 bytes more per release (mean of the last 8)"
    )


def test_growth_of_the_uki_counts_twice() -> None:
    history = [release("1", uki=16 * MIB), release("2", uki=17 * MIB)]
    (found,) = outlooks(history, [known()], within=12)
    assert (found.part, found.releases_left, found.growth_bytes) == (BoundPartition.BOOT, 4, 2 * MIB)


def test_only_the_last_releases_tell_the_growth() -> None:
    once = [release("0.1", root=2 * MIB)]
    steady = [release(f"1.0.{n}", root=60 * MIB) for n in range(8)]
    assert outlooks(once + steady, [known()], within=1000) == ()


def test_a_layout_that_is_too_small_already_is_told() -> None:
    history = [release("1", root=60 * MIB), release("2", root=70 * MIB)]
    (found,) = outlooks(history, [known()], within=1)
    assert found.releases_left <= 0
    assert "the newest outgrew the root partition" in str(found)


@pytest.mark.parametrize("layouts", [[], [known(retired=True)]])
def test_nothing_is_told_of_layouts_nobody_has(layouts: list[Known]) -> None:
    history = [release("1", root=60 * MIB), release("2", root=63 * MIB)]
    assert outlooks(history, layouts, within=12) == ()


def test_no_history_and_a_span_of_nothing_tell_nothing() -> None:
    assert outlooks([], [known()], within=12) == ()
    history = [release("1", root=60 * MIB), release("2", root=63 * MIB)]
    assert outlooks(history, [known()], within=0) == ()


def test_mebibytes_are_short_when_they_are_whole() -> None:
    assert (in_mib(512 * MIB), in_mib(MIB + MIB // 2)) == ("512 MiB", "1.5 MiB")


def test_many_versions_are_named_by_the_first_and_the_last() -> None:
    versions = tuple(Version(f"1.0.{number}") for number in range(4))
    assert replace(known(), versions=versions[:3]).installed_with == "1.0.0, 1.0.1, 1.0.2"
    assert replace(known(), versions=versions).installed_with == "1.0.0 to 1.0.3 (4 releases)"
