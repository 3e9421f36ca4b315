"""Slots, identities, labels and sizes."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions.hashtree import tree_layout
from partitions.layout import (
    MIB,
    Slot,
    boot_bytes_for,
    identity_of,
    root_types,
    slot_label,
    verity_size_for,
)
from partitions.version import Version

ROOT_HASH = "00112233445566778899aabbccddeeff" + "ffeeddccbbaa99887766554433221100"


def test_each_slot_is_the_others_other() -> None:
    assert Slot.A.other is Slot.B
    assert Slot.B.other is Slot.A


def test_identity_is_the_hash_cut_in_two() -> None:
    identity = identity_of(ROOT_HASH)
    assert str(identity.data_uuid) == "00112233-4455-6677-8899-aabbccddeeff"
    assert str(identity.verity_uuid) == "ffeeddcc-bbaa-9988-7766-554433221100"


@pytest.mark.parametrize("text", ["", "00", ROOT_HASH.upper(), ROOT_HASH + "00", ROOT_HASH + "\n", "g" * 64])
def test_what_is_no_root_hash_has_no_identity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a root hash"):
        identity_of(text)


def test_architectures_have_their_own_types() -> None:
    assert root_types("x86-64").data == UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
    assert root_types("arm64").verity == UUID("df3300ce-d69f-4c92-978c-9bfb0f38d820")
    with pytest.raises(ValueError, match="x86_64"):
        root_types("x86_64")


def test_label_says_image_and_version() -> None:
    assert slot_label("host", Version("1.0.1")) == "host_1.0.1"


def test_label_is_cut_to_what_gpt_holds() -> None:
    label = slot_label("a" * 30, Version("1.0.0-long"))
    assert len(label) == 36
    assert label == "a" * 30 + "_1.0.0"


@given(st.integers(min_value=4096, max_value=1 << 44))
def test_verity_slot_has_room_for_the_tree_of_a_full_slot(root_slot_bytes: int) -> None:
    room = verity_size_for(root_slot_bytes)
    assert room % MIB == 0
    assert 0 <= room - tree_layout(root_slot_bytes // 4096).size_bytes < MIB


def test_the_boot_partition_holds_two_ukis_and_what_fat_takes() -> None:
    assert boot_bytes_for(20 * MIB) == 41 * MIB
