"""Revoking what boots, and trusting another certificate: published like everything else, by offline keys alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding

from bedrock.progress import Silent
from imagebuild.cli import twinhull
from keys.ceremony.request import PayloadKind, request_bytes
from keys.ceremony.signing import at_hand, by_keyring, explain, read_request, signed_with
from keys.certificates import certificate_pem, read_certificate, self_signed
from keys.errors import MissingKeyError, PeFormatError, RequestMismatchError, UnrequestedKeyError
from keys.passphrase import NoPassphrase
from keys.roles import BootRole
from keys.secureboot.pe import authenticode_digest
from keys.secureboot.requests import boot_words
from keys.secureboot.siglist import BootVariable, ListedSignature, SignatureKind
from tests.fakes.bootable_builds import uki_of, write_bootable
from tests.fakes.builds import NOW, Publisher, snapshot_of
from updater.documents.boot_trust import parse_boot_trust
from updater.documents.release import Architecture
from updater.errors import PolicyError, RepositoryError
from updater.repository.ceremony.pending import apply
from updater.repository.channels import ChannelChange, ReleaseChoice, set_channel
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.revocation.boot_trust import read_boot_trust
from updater.repository.revocation.revoke import (
    BootTrustChanged,
    TrustWriting,
    publish_change,
    revocation_of,
)
from updater.repository.upkeep.garbage import collect
from updater.repository.upkeep.verify import verify

REASON = "a hole in the initrd"


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    made = Publisher.make(tmp_path)
    made.publish_folders(*(write_bootable(tmp_path / version, version) for version in ("1.0.0", "1.0.1", "1.0.2")))
    return made


def choices(*texts: str) -> list[ReleaseChoice]:
    return [ReleaseChoice.from_text(text) for text in texts]


def point(workshop: Publisher, release: str, **change: object) -> None:
    wanted = ChannelChange(release=ReleaseChoice.from_text(release), **change)  # type: ignore[arg-type]
    set_channel(workshop.base, "stable", wanted, access=workshop.access, lifetimes=Lifetimes(), now=NOW)


def revoke(workshop: Publisher, *releases: str, force: bool = False) -> BootTrustChanged:
    change = revocation_of(workshop.base, choices(*releases), REASON, force=force)
    return publish_change(workshop.base, change, TrustWriting(workshop.access, Lifetimes(), NOW))


def digest_of(version: str, folder: Path) -> bytes:
    path = folder / f"{version}.efi"
    path.write_bytes(uki_of(version))
    return authenticode_digest(path)


def test_a_revoked_uki_is_named_by_its_digest_in_a_target_of_the_offline_role(
    workshop: Publisher, tmp_path: Path
) -> None:
    done = revoke(workshop, "host/1.0.0")
    assert done.new
    assert done.trust.revoked == {digest_of("1.0.0", tmp_path)}
    assert done.trust.updates[0].reason == f"host 1.0.0: {REASON}"
    state = load_state(Layout(workshop.base), None)
    assert list(state.targets.signed.targets) == ["boot/host/x86-64.json"]
    assert not any(path.startswith("boot/") for path in state.releases.signed.targets)
    assert verify(workshop.base, now=NOW, progress=Silent()).problems == ()


def test_several_are_revoked_together_and_later_ones_are_added(workshop: Publisher, tmp_path: Path) -> None:
    revoke(workshop, "host/1.0.0")
    done = revoke(workshop, "host/1.0.1", "host/1.0.2")
    assert len(done.trust.updates) == 2
    assert done.trust.revoked == {digest_of(version, tmp_path) for version in ("1.0.0", "1.0.1", "1.0.2")}


def test_what_is_revoked_is_not_revoked_again(workshop: Publisher) -> None:
    revoke(workshop, "host/1.0.0", "host/1.0.1")
    before = snapshot_of(workshop.base)
    assert not revoke(workshop, "host/1.0.1").new
    assert snapshot_of(workshop.base) == before


@pytest.mark.parametrize("named", ["host/1.0.1", "host/1.0.0"])
def test_what_a_channel_or_its_floor_names_is_not_revoked_unless_forced(workshop: Publisher, named: str) -> None:
    point(workshop, "host/1.0.1", floor=choices("host/1.0.0")[0].version)
    before = snapshot_of(workshop.base)
    with pytest.raises(PolicyError, match=f"the channel stable sends hosts to {named.replace('/', ' ')}") as caught:
        revoke(workshop, named)
    assert "--force" in caught.value.hints[0]
    assert snapshot_of(workshop.base) == before
    assert revoke(workshop, named, force=True).new


def test_releases_of_two_images_are_not_revoked_together(workshop: Publisher, tmp_path: Path) -> None:
    workshop.publish_folders(write_bootable(tmp_path / "other", "1.0.0", image="other"))
    with pytest.raises(PolicyError, match="one image and one architecture"):
        revoke(workshop, "host/1.0.0", "other/1.0.0")


def test_what_is_not_published_or_no_program_is_not_revoked(workshop: Publisher) -> None:
    with pytest.raises(RepositoryError, match=r"host/9\.9\.9 is not published"):
        revoke(workshop, "host/9.9.9")
    workshop.publish("2.0.0")
    with pytest.raises(PeFormatError, match="is not a program"):
        revoke(workshop, "host/2.0.0")


def test_without_kek_nothing_is_revoked(workshop: Publisher) -> None:
    before = snapshot_of(workshop.base)
    with pytest.raises(MissingKeyError, match=r"KEK\.pem") as caught:
        revoke(workshop.without_keys("KEK"), "host/1.0.0")
    assert "--request" in caught.value.hints[-1]
    assert snapshot_of(workshop.base) == before


@pytest.mark.parametrize("missing", ["targets", "timestamp"])
def test_without_the_key_of_targets_or_online_keys_hosts_see_nothing_yet(workshop: Publisher, missing: str) -> None:
    before = snapshot_of(workshop.base)
    here = workshop.without_keys(missing)
    done = revoke(here, "host/1.0.0")
    assert done.ceremony is not None
    assert done.ceremony.complete == (missing == "timestamp")
    assert metadata_of(snapshot_of(workshop.base)) == metadata_of(before)
    with pytest.raises(RepositoryError, match="signatures are being collected"):
        revoke(here, "host/1.0.1")
    asked = done.ceremony
    signed = signed_with(asked, at_hand(asked, workshop.access.keyring, NoPassphrase()))
    step = apply(workshop.base, [signed], access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    assert step.finished
    assert not revoke(workshop, "host/1.0.0").new
    assert verify(workshop.base, now=NOW, progress=Silent()).problems == ()


def metadata_of(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path.startswith("metadata/")}


def test_garbage_collection_keeps_the_document(workshop: Publisher) -> None:
    revoke(workshop, "host/1.0.0")
    revoke(workshop, "host/1.0.1")
    later = NOW + timedelta(days=3650)
    collect(workshop.base, older_than=timedelta(0), now=later, remove=True)
    state = load_state(Layout(workshop.base), None)
    assert len(read_boot_trust(Layout(workshop.base), state, "host", Architecture.X86_64).updates) == 2


def test_verify_reports_a_document_that_was_changed(workshop: Publisher) -> None:
    revoke(workshop, "host/1.0.0")
    (path,) = (workshop.base / "targets/boot/host").iterdir()
    path.write_bytes(path.read_bytes().replace(b"hole", b"mole"))
    problems = verify(workshop.base, now=NOW, progress=Silent()).problems
    assert any("boot/host/" in problem and "not the target that was signed" in problem for problem in problems)


def run(workshop: Publisher, *words: str | Path) -> Result:
    arguments: Sequence[str] = [str(word) for word in ("keys", *words, "--keys", workshop.access.keyring.folder)]
    return CliRunner().invoke(twinhull, arguments, standalone_mode=False)


def sign(request: Path, workshop: Publisher) -> str:
    asked = read_request(request)
    told = explain(asked, {PayloadKind.SECURE_BOOT: boot_words})
    request.write_bytes(request_bytes(signed_with(asked, by_keyring(asked, workshop.access.keyring, NoPassphrase()))))
    return "\n".join(told)


def test_kek_may_sign_somewhere_else(workshop: Publisher, tmp_path: Path) -> None:
    here, request = workshop.without_keys("KEK"), tmp_path / "revoke.json"
    words = ("revoke-boot", workshop.base, "host/1.0.0", "--reason", REASON, "--request", request)
    before = snapshot_of(workshop.base)
    written = run(here, *words)
    assert (written.return_value, snapshot_of(workshop.base)) == (5, before)
    unsigned = run(here, *words)
    assert isinstance(unsigned.exception, UnrequestedKeyError)
    assert f"{digest_of('1.0.0', tmp_path).hex()} never starts again" in sign(request, workshop)
    done = run(here, *words)
    assert done.return_value == 0, done.exception
    assert "never starts again" in done.output
    assert run(here, *words).return_value == 4


def test_a_request_for_something_else_is_refused(workshop: Publisher, tmp_path: Path) -> None:
    request = tmp_path / "revoke.json"
    run(workshop, "revoke-boot", workshop.base, "host/1.0.0", "--reason", REASON, "--request", request)
    sign(request, workshop)
    other = run(workshop, "revoke-boot", workshop.base, "host/1.0.1", "--reason", REASON, "--request", request)
    assert isinstance(other.exception, RequestMismatchError)


def test_another_certificate_of_db_is_announced_before_it_signs(workshop: Publisher, tmp_path: Path) -> None:
    private = generate_private_key(65537, 2048)
    certificate = self_signed(private, common_name="db 2027", now=NOW, lifetime=timedelta(days=365))
    path = tmp_path / "db-2027.crt"
    path.write_bytes(certificate_pem(certificate))
    words = ("trust-boot", workshop.base, "host", "--certificate", path, "--reason", "db is renewed")
    done = run(workshop, *words, "--json")
    assert done.return_value == 0, done.exception
    assert "CN=db 2027" in json.loads(done.output)["lines"][0]
    state = load_state(Layout(workshop.base), None)
    (update,) = read_boot_trust(Layout(workshop.base), state, "host", Architecture.X86_64).updates
    assert update.variable is BootVariable.DB
    assert update.signatures == {ListedSignature(SignatureKind.X509, certificate.public_bytes(Encoding.DER))}
    assert run(workshop, *words).return_value == 4


def test_what_is_published_is_signed_by_kek(workshop: Publisher) -> None:
    (update,) = revoke(workshop, "host/1.0.0").trust.updates
    kek = read_certificate(workshop.access.keyring.boot_key(BootRole.KEK).certificate)
    assert kek.public_bytes(Encoding.DER) in update.bytes_to_append
    data = (workshop.base / "targets/boot/host").iterdir()
    assert parse_boot_trust(next(data).read_bytes(), source="x").updates == (update,)
