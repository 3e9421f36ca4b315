"""Bill of materials and provenance on their way through a repository."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer

from bedrock import strict
from bedrock.errors import DocumentError
from bedrock.progress import Silent
from keys.roles import TufRole
from tests.fakes.attested import artifact, attested_build, edit_json, sha256, signatures_with, with_attachment
from tests.fakes.builds import NOW, Publisher, snapshot_of
from tests.fakes.forgery import own_keys, resign, strangers_key
from tests.fakes.provisions import CERTIFICATE
from tests.fakes.tampering import flip_bits
from updater.documents.envelope import seal, unseal
from updater.documents.release import Release
from updater.documents.signatures import dump_signatures
from updater.documents.statement import PAYLOAD_TYPE, parse_statement
from updater.errors import ConflictError, RefusedError, RepositoryError
from updater.repository.layout import Layout
from updater.repository.metadata import load_state
from updater.repository.objects import put_object
from updater.repository.releases import artifacts_of, read_release
from updater.repository.targets import write_target
from updater.repository.upkeep.verify import verify

PATH = "releases/host/1.0.0/x86-64.json"


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    return Publisher.make(tmp_path)


@pytest.fixture
def published(workshop: Publisher, tmp_path: Path) -> Publisher:
    workshop.publish_folders(attested(workshop, "build"))
    assert problems(workshop) == ()
    return workshop


def attested(workshop: Publisher, name: str, **wanted: Any) -> Path:
    """A build that trusts the workshop's repository."""
    return attested_build(workshop.folder / name, root=workshop.root_sha256, **wanted)


def problems(workshop: Publisher) -> tuple[str, ...]:
    return verify(workshop.base, now=NOW, progress=Silent()).problems


def release_of(workshop: Publisher) -> Release:
    layout = Layout(workshop.base)
    return read_release(layout, load_state(layout, None), PATH)


def replace_release(workshop: Publisher, change: Callable[[Release], Release]) -> None:
    """What somebody with the releases key can do: name another document."""
    changed = strict.dump_json(change(release_of(workshop)))

    def edit(signed: Any) -> None:
        signed.targets[PATH] = write_target(Layout(workshop.base), PATH, changed)

    resign(workshop, TufRole.RELEASES, own_keys(workshop, TufRole.RELEASES), change=edit)


def replace_attachment(workshop: Publisher, name: str, content: bytes) -> None:
    """Let the release name other bytes for an attachment, carried by a good object."""
    source = workshop.folder / "forged"
    source.write_bytes(content)
    stored = put_object(Layout(workshop.base), source, artifact(content), level=3, progress=Silent()).stored
    forged = replace(artifact(content), objects=(stored,))
    replace_release(workshop, lambda release: replace(release, attachments={**release.attachments, name: forged}))


def envelope(
    workshop: Publisher, signer: Signer, *, change: Callable[[dict[str, Any]], None] = lambda _: None
) -> bytes:
    """The build's provenance, changed and sealed by somebody."""
    statement = json.loads((workshop.folder / "build/provenance.json").read_bytes())
    change(statement)
    return seal(strict.dump_json(statement), payload_type=PAYLOAD_TYPE, signers=[signer])


def test_attachments_are_carried_and_nothing_is_orphaned(published: Publisher) -> None:
    release = release_of(published)
    assert set(release.attachments) == {"sbom", "provenance"}
    assert all(len(each.objects) == 1 for each in release.attachments.values())
    report = verify(published.base, now=NOW, progress=Silent())
    assert (report.problems, report.notes, report.objects) == ((), (), 5)


def test_a_host_is_told_to_fetch_artifacts_only(published: Publisher, tmp_path: Path) -> None:
    (again,) = published.publish_folders(tmp_path / "build")
    assert set(artifacts_of(again.release)) == {"uki", "root", "verity"}
    assert again.stored_bytes == sum(each.objects[0].size_bytes for each in artifacts_of(again.release).values())


def test_the_same_build_twice_is_nothing_to_do(published: Publisher, tmp_path: Path) -> None:
    before = snapshot_of(published.base)
    (again,) = published.publish_folders(tmp_path / "build")
    assert not again.new
    assert snapshot_of(published.base) == before


def test_nothing_to_do_needs_no_releases_key(published: Publisher, tmp_path: Path) -> None:
    assert not published.without_keys("releases").publish_folders(tmp_path / "build")[0].new


def test_another_bill_of_materials_is_another_release(published: Publisher, tmp_path: Path) -> None:
    other = attested(published, "other", digest="other inputs")
    with pytest.raises(ConflictError):
        published.publish_folders(other)


def test_a_build_of_before_is_published_without_attachments(workshop: Publisher) -> None:
    (done,) = workshop.publish()
    assert done.release.attachments == {}
    assert problems(workshop) == ()


LOCK = b'{"format": 1}\n'
SIGNATURES = dump_signatures(signatures_with(CERTIFICATE))


def test_lock_and_signatures_are_carried(workshop: Publisher, tmp_path: Path) -> None:
    workshop.publish_folders(attested(workshop, "build", lock=LOCK, signatures=SIGNATURES))
    assert set(release_of(workshop).attachments) == {"sbom", "provenance", "lock", "signatures"}
    assert problems(workshop) == ()


def test_a_lock_that_the_provenance_does_not_speak_of_is_refused(workshop: Publisher, tmp_path: Path) -> None:
    build = with_attachment(attested(workshop, "build"), "lock", "image.lock", LOCK)
    with pytest.raises(RefusedError, match="the provenance describes the lock none"):
        workshop.publish_folders(build)


def test_another_lock_than_the_provenances_is_refused(workshop: Publisher, tmp_path: Path) -> None:
    build = with_attachment(attested(workshop, "build", lock=LOCK), "lock", "image.lock", LOCK + b"\n")
    with pytest.raises(RefusedError, match="the provenance describes the lock"):
        workshop.publish_folders(build)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"{}", "signatures.json: files"), (SIGNATURES.replace(b"ZGVy", b"Z*Vy"), "is not base64")],
)
def test_malformed_signatures_are_told_by_verify(workshop: Publisher, content: bytes, told: str) -> None:
    workshop.publish_folders(attested(workshop, "build", signatures=SIGNATURES))
    replace_attachment(workshop, "signatures", content)
    assert told in " ".join(problems(workshop))


def test_malformed_signatures_are_not_published(workshop: Publisher) -> None:
    with pytest.raises(DocumentError, match=r"signatures\.json: files"):
        workshop.publish_folders(attested(workshop, "build", signatures=b"{}"))


@pytest.mark.parametrize("name", ["sbom.cdx.json", "provenance.json"])
def test_a_build_that_lost_a_document_is_refused(workshop: Publisher, tmp_path: Path, name: str) -> None:
    build = attested(workshop, "build")
    (build / name).unlink()
    before = snapshot_of(workshop.base)
    with pytest.raises(RefusedError, match=f"{name} is missing"):
        workshop.publish_folders(build)
    assert snapshot_of(workshop.base) == before


def test_a_bill_of_materials_changed_after_the_build_is_refused(workshop: Publisher, tmp_path: Path) -> None:
    build = attested(workshop, "build")
    edit_json(build / "sbom.cdx.json", "libc6", "libc7")
    with pytest.raises(RefusedError, match="SHA-256"):
        workshop.publish_folders(build)


def test_provenance_of_another_build_is_not_signed(workshop: Publisher, tmp_path: Path) -> None:
    build, other = attested(workshop, "build"), attested(workshop, "other", seed=2)
    (build / "provenance.json").write_bytes((other / "provenance.json").read_bytes())
    with pytest.raises(RefusedError, match=r"names root\.erofs with the SHA-256"):
        workshop.publish_folders(build)


def test_malformed_provenance_names_file_and_place(workshop: Publisher, tmp_path: Path) -> None:
    build = attested(workshop, "build")
    edit_json(build / "provenance.json", '"toolsTree"', '"tolsTree"')
    with pytest.raises(DocumentError, match=r"provenance\.json: predicate.*toolsTree: is missing"):
        workshop.publish_folders(build)


def test_an_unknown_attachment_of_a_build_is_told(workshop: Publisher, tmp_path: Path) -> None:
    build = attested(workshop, "build")
    edit_json(build / "release.json", '"sbom"', '"poem"')
    with pytest.raises(RepositoryError, match="attachment poem"):
        workshop.publish_folders(build)


@pytest.mark.parametrize("name", ["sbom", "provenance"])
def test_an_altered_attachment_is_found(published: Publisher, name: str) -> None:
    stored = release_of(published).attachments[name].objects[0]
    path = Layout(published.base).object_file(stored)
    flip_bits(path)
    assert f"{PATH}: {name}: " in "\n".join(problems(published))


@pytest.mark.parametrize("name", ["sbom", "provenance"])
def test_a_missing_attachment_is_found(published: Publisher, name: str) -> None:
    Layout(published.base).object_file(release_of(published).attachments[name].objects[0]).unlink()
    assert any(f"{name}: objects/" in each and "is missing" in each for each in problems(published))


@pytest.mark.parametrize("name", ["sbom", "provenance"])
def test_one_document_without_the_other_is_found(published: Publisher, name: str) -> None:
    replace_release(published, lambda each: replace(each, attachments={name: each.attachments[name]}))
    assert any(" and no " in each for each in problems(published))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no", "not JSON"),
        (b"{}", "bomFormat: must be CycloneDX"),
        (b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "nonsense"}]}', "not CycloneDX"),
    ],
)
def test_a_malformed_bill_of_materials_is_found(published: Publisher, content: bytes, words: str) -> None:
    replace_attachment(published, "sbom", content)
    assert any(words in each for each in problems(published))


def test_provenance_signed_by_a_stranger_is_found(published: Publisher) -> None:
    replace_attachment(published, "provenance", envelope(published, strangers_key()))
    (problem,) = problems(published)
    assert "the signature of provenance.intoto.json is refused" in problem


def test_provenance_signed_by_another_role_is_found(published: Publisher) -> None:
    replace_attachment(published, "provenance", envelope(published, own_keys(published, TufRole.CHANNELS)[0]))
    assert "the signature of provenance.intoto.json is refused" in "\n".join(problems(published))


def test_a_payload_changed_under_its_signature_is_found(published: Publisher) -> None:
    good = json.loads(envelope(published, own_keys(published, TufRole.RELEASES)[0]))
    good["payload"] = json.loads(envelope(published, strangers_key(), change=lambda it: it.pop("subject")))["payload"]
    replace_attachment(published, "provenance", strict.dump_json(good))
    assert "is refused" in "\n".join(problems(published))


def test_every_subject_that_does_not_fit_is_listed(published: Publisher) -> None:
    def change(statement: dict[str, Any]) -> None:
        statement["subject"][0]["name"] = "other.efi"
        statement["subject"][1]["digest"]["sha256"] = "00" * 32

    replace_attachment(
        published, "provenance", envelope(published, own_keys(published, TufRole.RELEASES)[0], change=change)
    )
    found = problems(published)
    assert len(found) == 3
    assert any("names other.efi, which is not part of the release" in each for each in found)
    assert any("does not name" in each for each in found)
    assert any("00" * 32 in each for each in found)


@pytest.mark.parametrize("data", [b"no", b"[]", b"{}", b'{"payload": "!", "payloadType": "x", "signatures": []}'])
def test_what_is_no_envelope_is_told(data: bytes) -> None:
    with pytest.raises((DocumentError, RefusedError), match=r"e\.json"):
        unseal(data, payload_type=PAYLOAD_TYPE, keys=[strangers_key().public_key], threshold=1, source="e.json")


def test_an_envelope_is_the_same_each_time(workshop: Publisher) -> None:
    signers = own_keys(workshop, TufRole.RELEASES)
    first, second = (seal(b"payload", payload_type=PAYLOAD_TYPE, signers=signers) for _ in range(2))
    assert first == second
    keys = [signer.public_key for signer in signers]
    assert unseal(first, payload_type=PAYLOAD_TYPE, keys=keys, threshold=1, source="e") == b"payload"


def test_the_envelope_carries_the_very_bytes_of_the_build(published: Publisher, tmp_path: Path) -> None:
    data = (tmp_path / "build/provenance.json").read_bytes()
    statement = parse_statement(data, source="provenance.json")
    assert statement.digests["sbom.cdx.json"] == sha256((tmp_path / "build/sbom.cdx.json").read_bytes())


@pytest.mark.parametrize("data", [b"[]", b"{}", b'{"_type": "https://in-toto.io/Statement/v0.1"}'])
def test_another_kind_of_statement_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="provenance"):
        parse_statement(data, source="provenance")


def test_a_profile_that_the_release_document_hides_is_refused(workshop: Publisher, tmp_path: Path) -> None:
    build = attested(workshop, "build")
    edit_json(build / "provenance.json", '"profile": ""', '"profile": "debug"')
    with pytest.raises(RefusedError, match="the provenance has the profile debug, and the release none"):
        workshop.publish_folders(build)
