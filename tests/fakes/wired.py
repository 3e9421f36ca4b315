"""One of each document that crosses the wire, as today's program writes it, with today's reader of it.

A new document belongs in this list: what is tried on all of them (growth, fuzzing) is then tried on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cryptography.x509 import load_pem_x509_certificate

from bedrock import strict
from bedrock.base64_bytes import Base64Bytes
from keys.secureboot.siglist import BootVariable, hash_list
from keys.secureboot.variable import Addition
from partitions.version import Version
from tests.fakes.builds import slots_of
from tests.fakes.documents import channel_at, some_reference
from tests.fakes.provisions import CERTIFICATE
from tests.fakes.twin_host import built
from updater.agent.state import EventKind, Hints, Pin, parse_hints
from updater.documents.boot_trust import BootTrust, BootTrustUpdate, parse_boot_trust
from updater.documents.channel import DeadEnd, Instant, Pace, parse_channel
from updater.documents.release import Architecture, parse_release
from updater.documents.signatures import Detached, Signatures, parse_signatures
from updater.documents.slot_layout import parse_layout
from updater.documents.statement import (
    BUILD_TYPE,
    BUILDER_ID,
    BuildDefinition,
    Builder,
    Digest,
    ExternalParameters,
    InternalParameters,
    Provenance,
    Resource,
    RunDetails,
    dump_statement,
    make_statement,
    parse_statement,
)
from updater.provision.record import Applied, ProvisionRecord, Trouble, Way, parse_record

HASH = "ab" * 32
AT = Instant(datetime(2026, 3, 1, tzinfo=UTC))
RELEASE = built("1.0.1").release
CHANNEL = replace(
    channel_at(some_reference("1.0.1"), Pace(AT, 60.0)),
    floor=some_reference("1.0.0"),
    dead_ends=(DeadEnd(Version("0.9"), "old disk"),),
)
SIGNED = Detached.of(b"der", unsigned_sha256=HASH)
SIGNATURES = Signatures(
    1,
    {"PK": "a", "KEK": "b", "db": "c", "pcr": "d"},
    {"uki.efi": SIGNED, "loader.efi": SIGNED},
    {"": Base64Bytes(b"x"), "sysinit": Base64Bytes(b"y")},
)
PROVENANCE = Provenance(
    BuildDefinition(
        BUILD_TYPE,
        ExternalParameters("host", "1.0.1", "", HASH, HASH),
        InternalParameters("1", HASH, "tools", "packages"),
        (Resource("pkg:deb/debian/a@1", Digest(HASH)),),
    ),
    RunDetails(Builder(BUILDER_ID)),
)
HINTS = replace(Hints(pin=Pin(Version("1.0.1"), HASH)), newest_blessed=Version("1.0.0")).with_event(
    EventKind.BLESSED, "well", AT
)

RECORD = ProvisionRecord(
    first_boot_over=True, applied=Applied(HASH, Way.FIRMWARE, AT), troubles=(Trouble(Way.FIRMWARE, "x", AT),)
)
ADDITION = Addition(BootVariable.DBX, AT.when, hash_list([b"\xab" * 32]))
BOOT_TRUST = BootTrust(
    1,
    "host",
    Architecture.X86_64,
    (
        BootTrustUpdate.of(
            ADDITION.payload(b"signature", load_pem_x509_certificate(CERTIFICATE.encode())),
            variable=BootVariable.DBX,
            reason="a hole in the initrd",
        ),
    ),
)


@dataclass(frozen=True)
class Wired:
    """A document of today, today's reader of it, and the writer of what was read."""

    name: str
    data: bytes
    parse: Callable[..., object]
    dump: Callable[[Any], bytes] = strict.dump_json

    def __str__(self) -> str:
        return self.name


DOCUMENTS = (
    Wired("release", strict.dump_json(RELEASE), parse_release),
    Wired("channel", strict.dump_json(CHANNEL), parse_channel),
    Wired("layout", strict.dump_json(slots_of()), parse_layout),
    Wired("signatures", strict.dump_json(SIGNATURES), parse_signatures),
    Wired("statement", dump_statement(make_statement({"uki.efi": HASH}, PROVENANCE)), parse_statement, dump_statement),
    Wired("boot-trust", strict.dump_json(BOOT_TRUST), parse_boot_trust),
    Wired("provisioned", strict.dump_json(RECORD), parse_record),
    Wired("state", strict.dump_json(HINTS), parse_hints),
)
