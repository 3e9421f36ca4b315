from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tuf.api.metadata import MetaFile, TargetFile

from bedrock.progress import Silent
from keys.generate import init
from keys.passphrase import NoPassphrase
from keys.roles import Profile, TufRole
from partitions.version import Version
from tests.fakes.builds import NOW, Publisher, snapshot_of
from tests.fakes.forgery import expire, own_keys, resign, resign_timestamp, strangers_key, swap_release
from updater.documents.release import Artifact, Compression, StoredObject
from updater.errors import RepositoryError
from updater.repository.access import KeyAccess
from updater.repository.channels import ChannelChange, ReleaseChoice, set_channel
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.objects import check_object
from updater.repository.publish import init_repository
from updater.repository.targets import write_target
from updater.repository.upkeep.verify import Verification, verify

RELEASE = "releases/host/1.0.0/x86-64.json"


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    made = Publisher.make(tmp_path)
    made.publish("1.0.0")
    change = ChannelChange(release=ReleaseChoice("host", Version("1.0.0")))
    set_channel(made.base, "stable", change, access=made.access, lifetimes=Lifetimes(), now=NOW)
    assert checked(made).problems == ()
    return made


def checked(workshop: Publisher, **more: Any) -> Verification:
    return verify(workshop.base, now=more.pop("now", NOW), progress=Silent(), **more)


def only_problem(workshop: Publisher) -> str:
    (problem,) = checked(workshop).problems
    return problem


def test_sound_repository_is_counted_and_left_alone(workshop: Publisher) -> None:
    before = snapshot_of(workshop.base)
    report = checked(workshop)
    assert (report.ok, report.releases, report.channels, report.objects) == (True, 1, 1, 3)
    assert report.notes == ()
    assert set(report.expires) == {role.value for role in TufRole}
    assert snapshot_of(workshop.base) == before


@pytest.mark.parametrize("role", list(TufRole))
def test_signature_of_a_wrong_key_is_found(workshop: Publisher, role: TufRole) -> None:
    resign(workshop, role, [strangers_key()])
    assert f"the {role.value} metadata" in "\n".join(checked(workshop).problems)


def test_releases_key_cannot_sign_channels(workshop: Publisher) -> None:
    resign(workshop, TufRole.CHANNELS, own_keys(workshop, TufRole.RELEASES))
    assert "the channels metadata" in only_problem(workshop)


def test_channels_key_cannot_sign_releases(workshop: Publisher) -> None:
    resign(workshop, TufRole.RELEASES, own_keys(workshop, TufRole.CHANNELS))
    assert "the releases metadata" in "\n".join(checked(workshop).problems)


def test_releases_role_cannot_name_a_channel(workshop: Publisher) -> None:
    def smuggle(signed: Any) -> None:
        signed.targets["channels/evil.json"] = TargetFile.from_data("channels/evil.json", b"{}", ["sha256"])

    resign(workshop, TufRole.RELEASES, own_keys(workshop, TufRole.RELEASES), change=smuggle)
    assert "names channels/evil.json, which is not its to name" in only_problem(workshop)


def test_one_signature_of_two_needed_is_below_the_threshold(tmp_path: Path) -> None:
    keyring = init(tmp_path / "keys", Profile.PRODUCTION, NoPassphrase())
    workshop = Publisher(tmp_path, KeyAccess(keyring, NoPassphrase()))
    init_repository(workshop.base, workshop.access, lifetimes=Lifetimes(), now=NOW)
    assert checked(workshop).ok
    signers = own_keys(workshop, TufRole.ROOT)
    assert len(signers) == 3
    resign(workshop, TufRole.ROOT, signers[:1])
    assert "1/2" in only_problem(workshop)


@pytest.mark.parametrize("role", list(TufRole))
def test_expired_role_is_found(workshop: Publisher, role: TufRole) -> None:
    expire(workshop, role)
    assert f"the {role.value} metadata expired" in "\n".join(checked(workshop).problems)


def test_expiry_is_judged_at_the_given_moment(workshop: Publisher) -> None:
    assert checked(workshop, now=NOW + timedelta(days=6)).ok
    assert not checked(workshop, now=NOW + timedelta(days=7)).ok


def test_changed_target_is_found(workshop: Publisher) -> None:
    (path,) = (workshop.base / "targets" / "channels").iterdir()
    path.write_bytes(path.read_bytes().replace(b"1.0.0", b"6.6.6"))
    assert "not the target that was signed" in only_problem(workshop)


def test_missing_target_is_found(workshop: Publisher) -> None:
    (path,) = (workshop.base / "targets" / "channels").iterdir()
    path.unlink()
    assert "cannot be read" in only_problem(workshop)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "missing"])
def test_damaged_object_is_found(workshop: Publisher, damage: str) -> None:
    (path,) = [file for file in (workshop.base / "objects").glob("*/*") if file.stat().st_size == 5001]
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        changed = {
            "flipped": bytes([content[0] ^ 1]) + content[1:],
            "truncated": content[:-1],
            "longer": content + b"x",
        }
        path.write_bytes(changed[damage])
    assert path.name in only_problem(workshop)


def test_every_damage_is_listed(workshop: Publisher) -> None:
    for path in (workshop.base / "objects").glob("*/*"):
        path.write_bytes(b"damaged")
    assert len(checked(workshop).problems) == 3


def test_channel_to_an_unpublished_release_is_found(workshop: Publisher) -> None:
    resign(
        workshop, TufRole.RELEASES, own_keys(workshop, TufRole.RELEASES), change=lambda signed: signed.targets.clear()
    )
    assert f"points to {RELEASE}, which is not published" in "\n".join(checked(workshop).problems)


def test_release_document_of_another_release_is_found(workshop: Publisher) -> None:
    state = load_state(Layout(workshop.base), None)
    raw = next((workshop.base / "targets" / "releases").rglob("*.json")).read_bytes()
    other = "releases/host/2.0.0/x86-64.json"
    assert RELEASE in state.releases.signed.targets

    def rename(signed: Any) -> None:
        signed.targets[other] = write_target(Layout(workshop.base), other, raw)

    resign(workshop, TufRole.RELEASES, own_keys(workshop, TufRole.RELEASES), change=rename)
    assert f"{other} describes {RELEASE}" in only_problem(workshop)


def test_a_release_changed_after_publication_is_found_with_and_without_a_channel(workshop: Publisher) -> None:
    workshop.publish("1.0.1", seed=2)
    swap_release(workshop, "1.0.0", seed=7)
    swap_release(workshop, "1.0.1", seed=8)
    said = checked(workshop).problems
    other = RELEASE.replace("1.0.0", "1.0.1")
    assert sum(f"{RELEASE} was changed after publication" in problem for problem in said) == 1
    assert sum(f"{other} was changed after publication" in problem for problem in said) == 1
    assert sum(problem.startswith(f"channels/stable.json points to {RELEASE}") for problem in said) == 1


def test_a_release_changed_after_publication_is_found_by_its_channel_alone(workshop: Publisher) -> None:
    swap_release(workshop, "1.0.0", seed=7)
    for older in ("1", "2"):
        (workshop.base / "metadata" / f"{older}.releases.json").unlink()
    (problem,) = checked(workshop).problems
    assert "changed after publication" in problem


def test_role_put_back_alone_is_found(workshop: Publisher) -> None:
    layout = Layout(workshop.base)
    old = layout.role_file(TufRole.RELEASES, 1).read_bytes()

    def put_back(signed: Any) -> None:
        signed.version += 1
        signed.meta["releases.json"] = MetaFile.from_data(1, old, ["sha256"])

    resign(workshop, TufRole.SNAPSHOT, own_keys(workshop, TufRole.SNAPSHOT), change=put_back)
    assert "rolled back: releases.json was at version 2" in "\n".join(checked(workshop).problems)


def test_timestamp_put_back_is_noted(workshop: Publisher) -> None:
    layout = Layout(workshop.base)
    old = layout.role_file(TufRole.SNAPSHOT, 2).read_bytes()
    resign_timestamp(workshop, MetaFile.from_data(2, old, ["sha256"]))
    (note,) = checked(workshop).notes
    assert "3.snapshot.json is newer than the timestamp says" in note


def test_root_of_somebody_else_is_not_trusted(workshop: Publisher, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    stranger = Publisher(folder, KeyAccess(init(folder / "keys", Profile.DEV, NoPassphrase()), NoPassphrase()))
    init_repository(stranger.base, stranger.access, lifetimes=Lifetimes(), now=NOW)
    root = (stranger.base / "metadata" / "1.root.json").read_bytes()
    assert not checked(workshop, trusted_root=root).ok
    assert checked(stranger, trusted_root=root).ok


@pytest.mark.parametrize("root", [b"", b"{}", b"no"])
def test_given_root_that_is_none_is_an_error(workshop: Publisher, root: bytes) -> None:
    with pytest.raises(RepositoryError, match="root"):
        checked(workshop, trusted_root=root)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"signed": {}, "signatures": []}'])
@pytest.mark.parametrize("name", ["timestamp.json", "1.root.json", "3.snapshot.json", "2.releases.json"])
def test_unreadable_metadata_is_a_problem_not_a_crash(workshop: Publisher, name: str, content: bytes) -> None:
    path = workshop.base / "metadata" / name
    assert path.exists()
    path.write_bytes(content)
    assert not checked(workshop).ok


def test_folder_that_is_no_repository_is_told(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="no repository"):
        verify(tmp_path, now=NOW, progress=Silent())


def test_object_that_unpacks_to_more_than_was_signed_is_cut_short(tmp_path: Path) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    path = tmp_path / "bomb"
    path.write_bytes(bomb)
    stored = StoredObject(_sha256(bomb), len(bomb), Compression.ZSTD)
    (problem,) = check_object(path, stored, Artifact("0" * 64, 4096))
    assert "more than the signed 4096 bytes" in problem


def test_object_with_a_wide_window_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = compressor.compress(bytes(4096)) + compressor.flush()
    path = tmp_path / "wide"
    path.write_bytes(packed)
    stored = StoredObject(_sha256(packed), len(packed), Compression.ZSTD)
    (problem,) = check_object(path, stored, Artifact(_sha256(bytes(4096)), 4096))
    assert "cannot be unpacked" in problem


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
