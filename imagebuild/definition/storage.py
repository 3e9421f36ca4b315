"""`var:` of `image.yaml`, what a host does about a damaged `/var`, and how the image carries its policies.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from bedrock import strict
from imagebuild.definition.reset import ResetPolicy

STORAGE_FILE = "/usr/lib/twinhull/storage.json"


class OnDamage(Enum):
    """What is done about a `/var` that `e2fsck -p` gives up on."""

    REPAIR = "repair"
    RESET = "reset"
    VOLATILE = "volatile"


@dataclass(frozen=True)
class VarPolicy:
    """What a host does about a damaged `/var`; it boots in any case.

    Attributes:
        on_damage: `repair`: as far as `e2fsck -y` can, and memory in place of what it cannot; `reset`: made anew if it
            cannot be repaired; `volatile`: memory at once.
    """

    on_damage: OnDamage = OnDamage.REPAIR


@dataclass(frozen=True)
class StoragePolicy:
    """`/usr/lib/twinhull/storage.json`; the initrd searches the text of this file, written by `strict.dump_json`."""

    var: VarPolicy = field(default_factory=VarPolicy)
    reset: ResetPolicy = field(default_factory=ResetPolicy)


def baked_storage(var: VarPolicy, reset: ResetPolicy) -> bytes:
    """The policy as the image carries it."""
    return strict.dump_json(StoragePolicy(var, reset))
