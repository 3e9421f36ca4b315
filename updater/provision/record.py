"""The record of the applied document, kept in `/var` and shown by `updater status`.  Pure values.

It is written last, when everything else is on the disk, so an interrupted document is applied again.
It grows by `bedrock.evolution`: after a fall back an older agent reads what a newer one wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from bedrock import evolution, strict
from updater.documents.channel import Instant
from updater.documents.release import Sha256

FORMAT = 1
REASON_LIMIT = 4000


class Way(Enum):
    """The way a document came; `kept`: with an earlier boot, and it was stored on the disk."""

    FIRMWARE = "firmware"
    BOOT_PARTITION = "boot-partition"
    KEPT = "kept"


@dataclass(frozen=True)
class Applied:
    """The document in force.

    Attributes:
        sha256: The hash of its YAML.
        way: The way it came.
        signed_by: The key that signed it; None: nobody.
        serial: Its serial number.
        at: When it was applied.
        files: What it wrote, by path, with the hash of the content.
    """

    sha256: Sha256
    way: Way
    at: Instant
    signed_by: str | None = None
    serial: int | None = None
    files: dict[str, Sha256] = field(default_factory=dict)


@dataclass(frozen=True)
class Trouble:
    """A document that was not applied at the last boot that brought one, and why."""

    way: Way
    reason: str
    at: Instant


@dataclass(frozen=True)
class ProvisionRecord:
    """`/var/lib/twinhull/provision.json`; `bundle_of`: the version whose certificates the host's bundle begins with."""

    format: Annotated[int, strict.Range(FORMAT, FORMAT)] = FORMAT
    first_boot_over: bool = False
    applied: Applied | None = None
    newest_serial: int | None = None
    troubles: Annotated[tuple[Trouble, ...], strict.Alternatives(("way",))] = ()
    bundle_of: str | None = None


def parse_record(data: bytes, *, source: str) -> ProvisionRecord:
    """Read the record.

    Raises:
        DocumentError: It is not a record of this format.
    """
    return evolution.read_json(ProvisionRecord, data, source=source)
