"""Which documents an image accepts, and which of those received is applied.  Pure: decided from values alone.

Documents come from the machine's firmware (SMBIOS, fw_cfg) or the boot partition.  Neither proves who wrote them, so
unsigned ones count at the first boot only, unless the image says otherwise; a document signed by a key of the image
always counts, unless it is older than the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from securesystemslib.signer import SSlibKey

from bedrock import strict
from updater.provision.reading import Offered
from updater.provision.record import ProvisionRecord, Way

POLICY_FILE = "/usr/lib/twinhull/provision.json"
FORMAT = 1
PublicKey = Annotated[str, strict.Pattern(r"[0-9a-f]{64}", "an Ed25519 public key of 64 hexadecimal digits")]


class Unsigned(Enum):
    """When unsigned documents and credentials count."""

    FIRST_BOOT = "first-boot"
    NEVER = "never"
    ALWAYS = "always"


class UpdaterFrom(Enum):
    """Which documents may set where updates come from."""

    ANY = "any"
    SIGNED = "signed"
    NEVER = "never"


@dataclass(frozen=True)
class Policy:
    """`/usr/lib/twinhull/provision.json`, baked into the image and verified with it.

    The initrd searches the text of this file for the value of `unsigned`, so it is written by `strict.dump_json`.
    """

    unsigned: Unsigned = Unsigned.FIRST_BOOT
    keys: tuple[PublicKey, ...] = ()
    updater: UpdaterFrom = UpdaterFrom.ANY
    format: Annotated[int, strict.Range(FORMAT, FORMAT)] = FORMAT

    @property
    def public_keys(self) -> tuple[SSlibKey, ...]:
        """The keys whose signatures count."""
        return tuple(key_of(value) for value in self.keys)

    def admits_unsigned(self, record: ProvisionRecord) -> bool:
        """Whether unsigned documents count at this boot."""
        if self.unsigned is Unsigned.FIRST_BOOT:
            return not record.first_boot_over
        return self.unsigned is Unsigned.ALWAYS


@dataclass(frozen=True)
class Candidate:
    """A document that was read without errors, and the way it came."""

    way: Way
    offered: Offered


@dataclass(frozen=True)
class Ignored:
    """A document that does not count, and why."""

    way: Way
    reason: str


@dataclass(frozen=True)
class Decision:
    """The document to apply (None: none, or the one in force) and the ones that were passed over."""

    apply: Candidate | None = None
    ignored: tuple[Ignored, ...] = field(default=())


def key_of(public: str) -> SSlibKey:
    """An Ed25519 key; its id is the start of the key itself, which is all that a reader needs."""
    return SSlibKey(public[:16], "ed25519", "ed25519", {"public": public})


def decide(
    candidates: Sequence[Candidate], record: ProvisionRecord, policy: Policy, *, again: bool = False
) -> Decision:
    """Choose: signed before unsigned, of signed ones the newest, of unsigned ones the firmware's.

    Args:
        candidates: The documents received, most trusted way first.
        record: What this host applied before.
        policy: What the image allows.
        again: Whether the document in force is applied at each boot that brings it.
    """
    ignored: list[Ignored] = []
    good: list[Candidate] = []
    for candidate in candidates:
        reason = _refusal(candidate.offered, record, policy, again=again)
        if reason is None:
            good.append(candidate)
        elif reason:
            ignored.append(Ignored(candidate.way, reason))
    # `max` takes the first of equal ones.
    chosen = max(good, key=_rank, default=None)
    ignored += [
        Ignored(other.way, "another document takes precedence")
        for other in good
        if chosen is not None and other is not chosen and other.offered.sha256 != chosen.offered.sha256
    ]
    return Decision(chosen, tuple(ignored))


def _rank(candidate: Candidate) -> int:
    offered = candidate.offered
    return (offered.document.serial or 0) if offered.signed_by else -1


def _refusal(offered: Offered, record: ProvisionRecord, policy: Policy, *, again: bool) -> str | None:
    """Why a document must not be applied; empty when it is already in force, None when it may be applied.

    The record is on a disk that anybody may have written, so what it says lets no unsigned document in.
    """
    if record.applied is not None and offered.sha256 == record.applied.sha256:
        return None if again and (offered.signed_by is not None or policy.admits_unsigned(record)) else ""
    reason = _unsigned_refusal(record, policy) if offered.signed_by is None else _serial_refusal(offered, record)
    if reason is None and offered.document.updater is not None and not _may_set_updater(offered, policy):
        reason = "it sets where updates come from, which the image does not allow"
    return reason


def _unsigned_refusal(record: ProvisionRecord, policy: Policy) -> str | None:
    if not policy.admits_unsigned(record):
        over = policy.unsigned is Unsigned.FIRST_BOOT
        return "it is not signed, and the first boot is over" if over else "it is not signed"
    return None if record.newest_serial is None else "it is not signed, and this host follows signed documents"


def _serial_refusal(offered: Offered, record: ProvisionRecord) -> str | None:
    serial, newest = offered.document.serial, record.newest_serial
    if serial is None or newest is None or serial > newest:
        return None
    if serial == newest:
        return f"its serial {serial} was used before by another document"
    return f"its serial {serial} is older than {newest}, which this host applied"


def _may_set_updater(offered: Offered, policy: Policy) -> bool:
    if policy.updater is UpdaterFrom.SIGNED:
        return offered.signed_by is not None
    return policy.updater is UpdaterFrom.ANY
