"""The partitions of a Twinhull disk, and how to tell the two slots apart.

The order of the partitions identifies A and B: esp, xbootldr, root-a, root-a-verity, root-b, root-b-verity, state,
var.  The partition UUIDs of a slot come from the root hash of its content, so that stock systemd tools find it.
Sources: UAPI Discoverable Partitions Specification (type UUIDs, "Verity", attribute flags); UEFI 2.10, 5.3 (GPT).

Pure: no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from partitions.gpt import LABEL_UNITS
from partitions.hashtree import BLOCK_SIZE, tree_layout
from partitions.version import Version

MIB = 1 << 20

TYPE_ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
TYPE_XBOOTLDR = UUID("bc13c2ff-59e6-4262-a352-b275fd6f7172")
# Twinhull's own: the agent's memory and the host's /etc.  data/tree/usr/lib/repart.d/60-state.conf names it as well.
TYPE_STATE = UUID("cb64ef99-b638-4a1b-b892-419b1c5b1e0a")
TYPE_VAR = UUID("4d21b016-b534-45c2-a9fb-5c16e091fd2d")
TYPE_ROOT_X86_64 = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
TYPE_ROOT_X86_64_VERITY = UUID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")
TYPE_ROOT_ARM64 = UUID("b921b045-1df0-41c3-af44-4c6f280d3fae")
TYPE_ROOT_ARM64_VERITY = UUID("df3300ce-d69f-4c92-978c-9bfb0f38d820")

STATE_BYTES = 64 * MIB

# What every disk is built with; a host gives its own disk others at its first boot.
BUILT_ESP_UUID = UUID("a7f4cac0-372c-41d0-bcb5-c4e44bdf42c0")
BUILT_XBOOTLDR_UUID = UUID("0cfc6ae8-596b-40bc-a018-c98b688596e7")

ESP_LABEL = "esp"
XBOOTLDR_LABEL = "xbootldr"
EMPTY_LABEL = "_empty"

ATTRIBUTE_READ_ONLY = 1 << 60
ATTRIBUTE_NO_AUTO = 1 << 63
WRITTEN_ATTRIBUTES = ATTRIBUTE_READ_ONLY
EMPTY_ATTRIBUTES = ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_AUTO

# The overhead of a FAT filesystem of some hundred MiB.
_FAT_SLACK_BYTES = MIB
_ROOT_HASH = re.compile(r"[0-9a-f]{64}")


class Slot(Enum):
    """One of the two places for a system."""

    A = "a"
    B = "b"

    @property
    def other(self) -> Slot:
        """The slot that is not this one."""
        return Slot.B if self is Slot.A else Slot.A


@dataclass(frozen=True)
class RootTypes:
    """The partition types of a root slot of one architecture: the data and its verity tree."""

    data: UUID
    verity: UUID


ROOT_TYPES = {
    "x86-64": RootTypes(TYPE_ROOT_X86_64, TYPE_ROOT_X86_64_VERITY),
    "arm64": RootTypes(TYPE_ROOT_ARM64, TYPE_ROOT_ARM64_VERITY),
}


def root_types(architecture: str) -> RootTypes:
    """The slot partition types of an architecture, given in systemd's spelling.

    Raises:
        ValueError: Not a known architecture.
    """
    try:
        return ROOT_TYPES[architecture]
    except KeyError:
        raise ValueError(f"{architecture!r} is not one of the architectures {', '.join(ROOT_TYPES)}") from None


@dataclass(frozen=True)
class SlotIdentity:
    """The partition UUIDs of a written slot."""

    data_uuid: UUID
    verity_uuid: UUID


def identity_of(root_hash: str) -> SlotIdentity:
    """The identity of the slot that holds `root_hash`: its first 128 bits name the data, its last 128 the tree.

    Raises:
        ValueError: Not 64 lowercase hexadecimal digits.
    """
    if not _ROOT_HASH.fullmatch(root_hash):
        raise ValueError(f"{root_hash[:80]!r} is not a root hash of 64 hexadecimal digits")
    return SlotIdentity(data_uuid=UUID(hex=root_hash[:32]), verity_uuid=UUID(hex=root_hash[-32:]))


def slot_label(image: str, version: Version) -> str:
    """The label of a written slot's partitions: `<image>_<version>`, cut to what a GPT label can hold."""
    raw = f"{image}_{version}".encode("utf-16-le")[: 2 * LABEL_UNITS]
    return raw.decode("utf-16-le", errors="ignore")


def verity_size_for(root_slot_bytes: int) -> int:
    """The size of the tree over a full root slot, superblock included, rounded up to 1 MiB.

    Raises:
        ValueError: The slot has no room for a single block.
    """
    return _round_up(tree_layout(root_slot_bytes // BLOCK_SIZE).size_bytes)


def boot_bytes_for(uki_bytes: int) -> int:
    """The space the boot partition needs for UKIs of this size: one per slot, and FAT's own overhead."""
    return 2 * uki_bytes + _FAT_SLACK_BYTES


def _round_up(size_bytes: int) -> int:
    return -(-size_bytes // MIB) * MIB
