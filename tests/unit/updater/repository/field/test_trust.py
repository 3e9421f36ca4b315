"""A build whose hosts could not go on with this repository is not published by accident."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from tuf.api.metadata import Metadata, Root

from bedrock.digest import bytes_sha256
from keys.certificates import certificate_pem, self_signed
from keys.roles import TufRole
from tests.fakes.attested import attested_build, signatures_with
from tests.fakes.builds import NOW, Publisher, snapshot_of
from tests.fakes.forgery import strangers_key
from tests.fakes.provisions import CERTIFICATE
from updater.documents.release import Architecture
from updater.documents.signatures import dump_signatures
from updater.errors import RefusedError
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.revocation.revoke import TrustWriting, publish_change, trusting
from updater.repository.upkeep.refresh import refresh

MakeBuild = Callable[..., Path]


def other_certificate() -> str:
    key = generate_private_key(65537, 2048)
    made = self_signed(key, common_name="other", now=datetime(2026, 3, 1, tzinfo=UTC), lifetime=timedelta(days=9))
    return certificate_pem(made).decode()


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    return Publisher.make(tmp_path)


@pytest.fixture
def make(workshop: Publisher) -> MakeBuild:
    def made(version: str, *, certificate: str = CERTIFICATE, root: str | None = None) -> Path:
        return attested_build(
            workshop.folder / version,
            version=version,
            seed=sum(version.encode()),
            root=root or workshop.root_sha256,
            signatures=dump_signatures(signatures_with(certificate)),
        )

    return made


def test_a_build_for_another_root_is_refused_and_nothing_is_written(workshop: Publisher, make: MakeBuild) -> None:
    before = snapshot_of(workshop.base)
    with pytest.raises(RefusedError, match=r"host 1\.0\.0 \(x86-64\) trusts the root .*abababababababab") as caught:
        workshop.publish_folders(make("1.0.0", root="ab" * 32))
    assert "--allow-other-trust" in caught.value.hints[0]
    assert snapshot_of(workshop.base) == before


def test_a_build_for_another_root_is_published_when_that_is_said(workshop: Publisher, make: MakeBuild) -> None:
    assert workshop.publish_folders(make("1.0.0", root="ab" * 32), allow_other_trust=True)[0].new


def test_a_rotated_root_is_the_same_trust_and_so_is_the_one_before(workshop: Publisher, make: MakeBuild) -> None:
    later = NOW + timedelta(days=340)
    done = refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=later)
    assert TufRole.ROOT in done.signed
    old = workshop.root_sha256
    new = bytes_sha256(load_state(Layout(workshop.base), None).root.raw)
    assert old != new
    for version, root in (("1.0.0", old), ("1.0.1", new)):
        assert workshop.publish_folders(make(version, root=root), now=later)[0].new


def test_a_root_that_lies_here_and_leads_nowhere_is_another_trust(workshop: Publisher, make: MakeBuild) -> None:
    later = NOW + timedelta(days=340)
    refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=later)
    ours = workshop.root_sha256
    key = strangers_key()
    foreign: Metadata[Root] = Metadata(Root(expires=later))
    foreign.signed.add_key(key.public_key, "root")
    foreign.sign(key)
    (workshop.base / "metadata/1.root.json").write_bytes(foreign.to_bytes())
    assert workshop.root_sha256 != ours
    with pytest.raises(RefusedError, match="trusts the root"):
        workshop.publish_folders(make("1.0.0"), now=later)


def test_other_secure_boot_certificates_than_before_are_refused(workshop: Publisher, make: MakeBuild) -> None:
    workshop.publish_folders(make("1.0.0"))
    before = snapshot_of(workshop.base)
    with pytest.raises(RefusedError, match=r"host 1\.0\.1 .* has the Secure Boot certificate .* 1\.0\.0 has"):
        workshop.publish_folders(make("1.0.1", certificate=other_certificate()))
    assert snapshot_of(workshop.base) == before


def test_builds_published_together_have_the_same_certificates(workshop: Publisher, make: MakeBuild) -> None:
    with pytest.raises(RefusedError, match=r"host 1\.0\.1 .* Secure Boot"):
        workshop.publish_folders(make("1.0.1", certificate=other_certificate()), make("1.0.0"))


def test_once_other_certificates_were_allowed_the_next_release_keeps_to_them(
    workshop: Publisher, make: MakeBuild
) -> None:
    other = other_certificate()
    workshop.publish_folders(make("1.0.0"))
    workshop.publish_folders(make("1.0.1", certificate=other), allow_other_trust=True)
    assert workshop.publish_folders(make("1.0.2", certificate=other))[0].new
    with pytest.raises(RefusedError, match=r"host 1\.0\.3"):
        workshop.publish_folders(make("1.0.3"))


def test_a_certificate_that_hosts_were_told_to_trust_before_is_no_other_one(
    workshop: Publisher, make: MakeBuild
) -> None:
    other = other_certificate()
    workshop.publish_folders(make("1.0.0"))
    change = trusting("host", Architecture.X86_64, x509.load_pem_x509_certificate(other.encode()), "renewed")
    publish_change(workshop.base, change, TrustWriting(workshop.access, Lifetimes(), NOW))
    assert workshop.publish_folders(make("1.0.1", certificate=other))[0].new


def test_a_certificate_that_cannot_be_read_is_refused(workshop: Publisher, make: MakeBuild) -> None:
    with pytest.raises(RefusedError, match="the certificate db cannot be read"):
        workshop.publish_folders(make("1.0.0", certificate="-----BEGIN CERTIFICATE-----"))


def test_a_build_that_says_nothing_is_published(workshop: Publisher) -> None:
    assert workshop.publish("1.0.0")[0].new
