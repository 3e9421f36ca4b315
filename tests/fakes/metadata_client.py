"""A client of signed metadata, as an image carries it, that asks a site in this process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.fakes.clock import START
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.network import LocalNetwork
from tests.fakes.tuf_site import SignedSite
from tests.fakes.twin_host import built
from updater.agent.client import Accepted, TrustedRepository
from updater.documents.channel import Instant
from updater.documents.release import Architecture

RELEASE = built("1.0.1").release
CHANNEL = channel_at(reference_to(RELEASE), Instant(START))


def client(
    signed: SignedSite, folder: Path, *, image: str = "host", root: bytes | None = None, now: datetime | None = None
) -> TrustedRepository:
    return TrustedRepository(
        Accepted(image, Architecture.X86_64),
        metadata_dir=folder / "tuf",
        root=root or signed.root_bytes,
        network=LocalNetwork([signed.site.url]),
        now=now or datetime.now(tz=UTC),
    )


def refreshed(signed: SignedSite, folder: Path) -> TrustedRepository:
    made = client(signed, folder)
    made.refresh()
    return made
