"""The signed metadata: what a host takes and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from partitions.version import Version
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, document_sha256, reference_to, some_reference
from tests.fakes.http_server import Site, serving
from tests.fakes.network import LocalNetwork
from tests.fakes.tuf_site import SignedSite
from tests.fakes.twin_host import built
from updater.agent.client import Accepted, TrustedRepository
from updater.documents.channel import Instant
from updater.documents.release import Architecture, SignedRelease
from updater.errors import FetchError, PolicyError, RefusedError

RELEASE = built("1.0.1").release
CHANNEL = channel_at(reference_to(RELEASE), Instant(START))


@pytest.fixture
def signed() -> Iterator[SignedSite]:
    with serving(Site()) as site:
        made = SignedSite(site)
        made.put(RELEASE.target_path, RELEASE)
        made.put(CHANNEL.target_path, CHANNEL)
        made.write()
        yield made


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


def test_channel_and_release_are_handed_out_verified(signed: SignedSite, tmp_path: Path) -> None:
    repository = refreshed(signed, tmp_path)
    assert repository.channel("stable") == CHANNEL
    found = repository.release(RELEASE.version, sha256=CHANNEL.release.sha256)
    assert found == SignedRelease(RELEASE, document_sha256(RELEASE))
    assert repository.release(RELEASE.version, sha256=None) == found


def test_a_second_look_takes_a_newer_channel(signed: SignedSite, tmp_path: Path) -> None:
    refreshed(signed, tmp_path)
    moved = replace(CHANNEL, release=some_reference("1.0.2"))
    signed.put(moved.target_path, moved)
    signed.write()
    assert refreshed(signed, tmp_path).channel("stable") == moved


def test_expired_metadata_are_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.timestamp_expires = datetime.now(tz=UTC).replace(microsecond=0) - timedelta(days=1)
    signed.write()
    with pytest.raises(RefusedError, match="expired"):
        refreshed(signed, tmp_path)


def test_an_edge_that_is_behind_is_not_newer_and_no_attack(signed: SignedSite, tmp_path: Path) -> None:
    before = dict(signed.site.files)
    moved = replace(CHANNEL, release=some_reference("1.0.2"))
    signed.put(moved.target_path, moved)
    signed.write()
    refreshed(signed, tmp_path).channel("stable")
    behind = before["/metadata/timestamp.json"]
    signed.site.files["/metadata/timestamp.json"] = behind
    repository = refreshed(signed, tmp_path)
    assert repository.is_stale
    assert "older metadata" in "; ".join(repository.remarks)
    # What this host knew still counts; nothing goes back.
    assert repository.channel("stable") == moved


def test_a_snapshot_that_goes_back_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.write()
    refreshed(signed, tmp_path)
    # Whoever has the key of timestamps alone names the older, honestly signed snapshot again.
    signed.write(timestamp=lambda stamp: setattr(stamp.snapshot_meta, "version", 1))
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_metadata_signed_by_the_wrong_key_are_refused(signed: SignedSite, tmp_path: Path, role: str) -> None:
    signed.signers[role] = CryptoSigner.generate_ed25519()
    signed.write()
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path)


def test_the_release_key_cannot_sign_a_channel(signed: SignedSite, tmp_path: Path) -> None:
    signed.signers["channels"] = signed.signers["releases"]
    signed.write()
    repository = refreshed(signed, tmp_path)
    with pytest.raises(RefusedError):
        repository.channel("stable")


def test_a_tampered_document_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    path = next(path for path in signed.site.files if path.endswith(".stable.json"))
    signed.site.files[path] = signed.site.files[path].replace(b'"halted": false', b'"halted": true ')
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path).channel("stable")


def test_an_endless_document_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.site.files["/metadata/timestamp.json"] += b" " * (1 << 20)
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path)


def test_another_root_of_trust_refuses_everything(signed: SignedSite, tmp_path: Path) -> None:
    other = SignedSite(Site()).root_bytes
    with pytest.raises(RefusedError):
        client(signed, tmp_path, root=other).refresh()


def test_a_broken_root_of_trust_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        client(signed, tmp_path, root=b"{}")


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    gone = SignedSite(Site(url="http://127.0.0.1:1"))
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:1/metadata/2\.root\.json: .*refused \(after 3 tries\)"):
        refreshed(gone, tmp_path)


def test_a_busy_server_is_asked_again(signed: SignedSite, tmp_path: Path) -> None:
    signed.site.status["/metadata/timestamp.json"] = [503, 503]
    refreshed(signed, tmp_path)


def test_a_channel_that_is_not_there_is_told(signed: SignedSite, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"has no channels/beta\.json"):
        refreshed(signed, tmp_path).channel("beta")


def test_documents_for_another_image_are_refused(signed: SignedSite, tmp_path: Path) -> None:
    repository = client(signed, tmp_path, image="other")
    repository.refresh()
    with pytest.raises(RefusedError, match="meant for image host"):
        repository.channel("stable")


def test_a_release_under_another_versions_path_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.put(RELEASE.target_path.replace("1.0.1", "1.0.9"), RELEASE)
    signed.write()
    with pytest.raises(RefusedError, match=r"says it is version 1\.0\.1"):
        refreshed(signed, tmp_path).release(Version.from_text("1.0.9"), sha256=None)


def test_a_signed_document_that_cannot_be_read_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.put(CHANNEL.target_path, b'{"format": 2}')
    signed.write()
    with pytest.raises(RefusedError, match="cannot read"):
        refreshed(signed, tmp_path).channel("stable")


def test_kept_metadata_torn_by_a_power_cut_do_not_block_the_host(signed: SignedSite, tmp_path: Path) -> None:
    refreshed(signed, tmp_path).channel("stable")
    for path in (tmp_path / "tuf").rglob("*.json"):
        path.write_bytes(b"")
    assert refreshed(signed, tmp_path).channel("stable") == CHANNEL


def test_a_withdrawn_release_is_refused_with_the_reason(signed: SignedSite, tmp_path: Path) -> None:
    signed.withdraw(RELEASE.target_path, "loses the network")
    signed.write()
    for chosen in (CHANNEL.release.sha256, None):
        with pytest.raises(PolicyError, match=r"1\.0\.1 was withdrawn: loses the network"):
            refreshed(signed, tmp_path).release(RELEASE.version, sha256=chosen)
