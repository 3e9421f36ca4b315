"""A copy is verified, goes on where it stopped, never goes back, and is whole for its readers at any moment."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tuf.api.metadata import Metadata, Root

from bedrock.progress import Silent
from keys.changes import revoke_retiring, rotate
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import TufRole
from partitions.version import Version
from tests.fakes.builds import NOW, Publisher, snapshot_of
from tests.fakes.forgery import expire, own_keys, resign, strangers_key, swap_release
from tests.fakes.provisions import CERTIFICATE
from tests.fakes.tampering import flip_bits
from tests.fakes.web_server import WebAnswer, answering, web_server
from updater.documents.release import Architecture
from updater.errors import ConflictError, FetchError, RefusedError, RepositoryError
from updater.repository.access import KeyAccess
from updater.repository.channels import ChannelChange, ReleaseChoice, set_channel
from updater.repository.extract import extract
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.mirror.copying import Copied, copy
from updater.repository.mirror.sources import FolderFiles, RepositorySource, open_source
from updater.repository.mirror.staging import Anchor
from updater.repository.revocation.revoke import TrustWriting, publish_change, trusting
from updater.repository.upkeep.refresh import refresh
from updater.repository.upkeep.verify import verify


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    made = Publisher.make(tmp_path / "source")
    made.publish("1.0.0")
    change = ChannelChange(release=ReleaseChoice("host", Version("1.0.0")))
    set_channel(made.base, "stable", change, access=made.access, lifetimes=Lifetimes(), now=NOW)
    return made


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def anchor(workshop: Publisher, version: int = 1) -> Anchor:
    return Anchor(root=(workshop.base / f"metadata/{version}.root.json").read_bytes())


def copied(workshop: Publisher, dest: Path, *, source: RepositorySource | None = None, **more: Any) -> Copied:
    wanted: dict[str, Any] = {"now": NOW, "progress": Silent(), **more}
    trust = wanted.pop("trust", None) or anchor(workshop)
    return copy(source or FolderFiles(workshop.base), dest, trust, **wanted)


def is_sound(base: Path, now: datetime = NOW) -> bool:
    report = verify(base, now=now, progress=Silent())
    assert not report.problems, report.problems
    return not report.notes


@dataclass
class Counting(FolderFiles):
    """A folder that says what was fetched of it, and breaks after so many pieces."""

    base: Path
    read_paths: list[str] = field(default_factory=list)
    fetched: list[tuple[str, int]] = field(default_factory=list)
    breaks_at: int | None = None

    def __post_init__(self) -> None:
        super().__init__(self.base)

    def read(self, path: str, most: int) -> bytes:
        self.read_paths.append(path)
        return super().read(path, most)

    def fetch(
        self, path: str, size_bytes: int, done: int, write: Callable[[bytes], object], again: Callable[[], object]
    ) -> None:
        self.fetched.append((path, done))

        def part(chunk: bytes) -> None:
            if self.breaks_at is not None and done + len(chunk) > self.breaks_at:
                write(chunk[: max(0, self.breaks_at - done)])
                raise FetchError("the line broke")
            write(chunk)

        super().fetch(path, size_bytes, done, part, again)


def test_a_copy_is_a_whole_repository_with_the_same_bytes(workshop: Publisher, dest: Path) -> None:
    done = copied(workshop, dest)
    assert (done.new, done.releases, done.fetched_objects) == (True, 1, done.objects)
    assert is_sound(dest)
    source, there = snapshot_of(workshop.base), snapshot_of(dest)
    assert {name: source[name] for name in there} == there
    assert {name for name in source if not name.startswith("metadata/")} <= there.keys()


def test_the_second_copy_fetches_only_what_is_new(workshop: Publisher, dest: Path) -> None:
    copied(workshop, dest)
    before = snapshot_of(dest)
    source = Counting(workshop.base)
    assert not copied(workshop, dest, source=source).new
    assert snapshot_of(dest) == before
    assert source.fetched == []
    assert not [path for path in source.read_paths if path.startswith("targets/")]
    workshop.publish("1.0.1", seed=2)
    source = Counting(workshop.base)
    done = copied(workshop, dest, source=source)
    assert (done.new, done.releases) == (True, 2)
    assert 0 < done.fetched_objects == len(source.fetched) < done.objects
    assert is_sound(dest)


def test_a_transfer_that_broke_goes_on_where_it_stopped(workshop: Publisher, dest: Path) -> None:
    with pytest.raises(FetchError, match="broke"):
        copied(workshop, dest, source=Counting(workshop.base, breaks_at=1000))
    assert not (dest / "metadata/timestamp.json").exists()
    source = Counting(workshop.base)
    assert copied(workshop, dest, source=source).new
    assert source.fetched[0][1] == 1000
    assert is_sound(dest)


def test_what_is_left_of_another_object_is_fetched_again(workshop: Publisher, dest: Path) -> None:
    with pytest.raises(FetchError):
        copied(workshop, dest, source=Counting(workshop.base, breaks_at=1000))
    (left,) = (dest / "objects").glob(".incoming-*")
    flip_bits(left)
    assert copied(workshop, dest).new
    assert is_sound(dest)


def test_a_damaged_object_of_the_copy_is_replaced(workshop: Publisher, dest: Path) -> None:
    copied(workshop, dest)
    flip_bits(next(dest.glob("objects/??/*")))
    assert copied(workshop, dest).fetched_objects == 1
    assert is_sound(dest)


def test_a_damaged_object_of_the_source_is_refused_and_nothing_becomes_visible(workshop: Publisher, dest: Path) -> None:
    flip_bits(next(workshop.base.glob("objects/??/*")))
    with pytest.raises(RefusedError, match="not the signed one"):
        copied(workshop, dest)
    assert not (dest / "metadata/timestamp.json").exists()


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_an_object_of_another_length_is_refused(
    workshop: Publisher, dest: Path, change: Callable[[bytes], bytes]
) -> None:
    path = next(workshop.base.glob("objects/??/*"))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(RefusedError, match="bytes"):
        copied(workshop, dest)


def test_the_root_decides_whose_repository_it_is(workshop: Publisher, dest: Path) -> None:
    key = strangers_key()
    foreign: Metadata[Root] = Metadata(Root(expires=NOW + timedelta(days=9)))
    foreign.signed.add_key(key.public_key, "root")
    foreign.sign(key)
    with pytest.raises(RefusedError, match="another one than the trusted root"):
        copied(workshop, dest, trust=Anchor(root=foreign.to_bytes()))
    assert not (dest / "metadata/timestamp.json").exists()


def test_public_keys_are_an_anchor_too(workshop: Publisher, dest: Path) -> None:
    assert copied(workshop, dest, trust=Anchor(keyring=workshop.access.keyring)).new
    assert is_sound(dest)


@pytest.mark.parametrize("role", [TufRole.TIMESTAMP, TufRole.SNAPSHOT, TufRole.TARGETS, TufRole.RELEASES])
def test_what_a_stranger_signed_is_refused(workshop: Publisher, dest: Path, role: TufRole) -> None:
    resign(workshop, role, [strangers_key()])
    with pytest.raises(RefusedError, match=f"{role.value} metadata"):
        copied(workshop, dest)
    assert not (dest / "metadata/timestamp.json").exists()


def test_a_changed_document_is_refused(workshop: Publisher, dest: Path) -> None:
    flip_bits(next(workshop.base.glob("targets/releases/host/1.0.0/*")))
    with pytest.raises(RefusedError, match="not the target that was signed"):
        copied(workshop, dest)


def test_what_is_added_to_the_firmware_of_hosts_is_copied(workshop: Publisher, dest: Path) -> None:
    certificate = x509.load_pem_x509_certificate(CERTIFICATE.encode())
    change = trusting("host", Architecture.X86_64, certificate, "renewed")
    publish_change(workshop.base, change, TrustWriting(workshop.access, Lifetimes(), NOW))
    copied(workshop, dest)
    assert list(dest.glob("targets/boot/host/*.json"))
    assert is_sound(dest)


def test_a_rotated_root_comes_with_those_before_it(workshop: Publisher, dest: Path) -> None:
    copied(workshop, dest)
    later = NOW + timedelta(days=340)
    refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=later)
    done = copied(workshop, dest, now=later)
    assert done.new
    assert {path.name for path in dest.glob("metadata/*.root.json")} == {"1.root.json", "2.root.json"}
    assert is_sound(dest, later)
    # A copy that begins from the newer root has the older one as well: hosts of old images start there.
    fresh = dest.parent / "fresh"
    copied(workshop, fresh, now=later, trust=anchor(workshop, 2))
    assert (fresh / "metadata/1.root.json").is_file()


def test_a_source_without_its_first_roots_is_copied_from_the_trusted_one_on(workshop: Publisher, dest: Path) -> None:
    later = NOW + timedelta(days=340)
    refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=later)
    trust = anchor(workshop, 2)
    (workshop.base / "metadata/1.root.json").unlink()
    assert copied(workshop, dest, now=later, trust=trust).new
    assert is_sound(dest, later)


def test_a_copy_does_not_go_back(workshop: Publisher, dest: Path) -> None:
    old = dest.parent / "old"
    shutil.copytree(workshop.base, old)
    refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    copied(workshop, dest)
    before = snapshot_of(dest)
    with pytest.raises(RefusedError, match=r"has version \d+ of the snapshot metadata, and the source has"):
        copied(workshop, dest, source=FolderFiles(old))
    assert snapshot_of(dest) == before


def test_a_copy_that_a_stolen_key_led_astray_comes_back_when_the_key_was_exchanged(
    workshop: Publisher, dest: Path
) -> None:
    astray = Publisher(dest.parent / "astray", workshop.access)
    shutil.copytree(workshop.base, astray.base)

    def far_ahead(signed: Any) -> None:
        signed.version = 900

    for role in (TufRole.SNAPSHOT, TufRole.TIMESTAMP):
        resign(astray, role, own_keys(astray, role), change=far_ahead)
    copied(astray, dest)
    refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    with pytest.raises(RefusedError, match="has version 900 of the snapshot metadata"):
        copied(workshop, dest)
    keys = workshop.access.keyring.folder
    for role in (TufRole.SNAPSHOT, TufRole.TIMESTAMP):
        rotate(keys, role, NoPassphrase())
    refresh(workshop.base, access=KeyAccess(Keyring.load(keys), NoPassphrase()), lifetimes=Lifetimes(), now=NOW)
    revoke_retiring(keys)
    refresh(workshop.base, access=KeyAccess(Keyring.load(keys), NoPassphrase()), lifetimes=Lifetimes(), now=NOW)
    assert copied(workshop, dest).new
    assert load_state(Layout(dest), None).snapshot.signed.version < 900
    assert verify(dest, now=NOW, progress=Silent()).problems == ()
    # The root itself never goes back.
    with pytest.raises(RefusedError, match="of the root metadata"):
        copied(astray, dest)


def test_another_document_of_the_same_version_is_refused(workshop: Publisher, dest: Path) -> None:
    copied(workshop, dest)
    before = snapshot_of(dest)

    def change(signed: Any) -> None:
        signed.expires += timedelta(days=1)

    resign(workshop, TufRole.CHANNELS, own_keys(workshop, TufRole.CHANNELS), change=change)
    with pytest.raises(RefusedError, match="another version"):
        copied(workshop, dest)
    assert snapshot_of(dest) == before


def test_a_release_that_was_changed_after_it_was_copied_is_refused(workshop: Publisher, dest: Path) -> None:
    copied(workshop, dest)
    refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    swap_release(workshop, "1.0.0", seed=9)
    with pytest.raises(RefusedError, match="was changed after publication"):
        copied(workshop, dest)


def test_a_copy_of_something_else_is_left_alone(workshop: Publisher, dest: Path) -> None:
    other = dest / "notes.txt"
    dest.mkdir()
    other.write_text("mine")
    with pytest.raises(ConflictError, match=r"holds notes\.txt"):
        copied(workshop, dest)
    assert [path.name for path in dest.iterdir()] == ["notes.txt"]


def test_an_expired_source_is_refused_unless_that_is_said(workshop: Publisher, dest: Path) -> None:
    expire(workshop, TufRole.CHANNELS)
    with pytest.raises(RefusedError, match="expired: channels"):
        copied(workshop, dest)
    done = copied(workshop, dest, allow_expired=True)
    assert done.expired == ("channels", "snapshot", "timestamp")


def test_one_release_is_copied_and_can_be_extracted(workshop: Publisher, dest: Path) -> None:
    workshop.publish("1.0.1", seed=2)
    choice = ReleaseChoice("host", Version("1.0.1"))
    source = Counting(workshop.base)
    assert copied(workshop, dest, source=source, only=choice).releases == 1
    assert not [path for path in source.read_paths if "1.0.0" in path]
    taken = extract(dest, choice, dest.parent / "taken", progress=Silent())
    assert str(taken.release.version) == "1.0.1"
    with pytest.raises(RepositoryError, match="not published"):
        copied(workshop, dest, only=ReleaseChoice("host", Version("9.0.0")))


def test_a_repository_is_copied_over_http_through_breaks(workshop: Publisher, dest: Path) -> None:
    files = {f"/repo/{name}": content for name, content in snapshot_of(workshop.base).items()}
    whole, broken = answering(files), set[str]()

    def answer(path: str, headers: Any) -> WebAnswer:
        found = whole(path, headers)
        if found.status == 200 and path not in broken and len(found.body) > 100:
            broken.add(path)
            return WebAnswer(body=found.body, cut=50)
        return found

    with web_server(answer) as server:
        source = open_source(f"{server.url}/repo")
        source.clock = Restless()  # type: ignore[attr-defined]  # no test waits
        assert copied(workshop, dest, source=source).new
    assert len(broken) > 5
    assert is_sound(dest)


def test_a_web_page_instead_of_a_repository_is_told_at_once(workshop: Publisher, dest: Path) -> None:
    with web_server(lambda *_: WebAnswer(body=b"<html>log in first</html>")) as server:
        with pytest.raises(RepositoryError, match=r"1\.root\.json cannot be read as signed metadata"):
            copied(workshop, dest, source=open_source(server.url))
        assert len(server.asked) == 1


class Restless:
    """A clock whose sleeps take no time."""

    def now(self) -> datetime:
        return NOW

    def steady(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        pass


def test_a_place_that_is_no_repository_is_told(workshop: Publisher, dest: Path) -> None:
    with pytest.raises(RepositoryError, match="no repository at"):
        open_source(str(dest))
    dest.mkdir()
    with pytest.raises(RepositoryError, match=r"is it a repository\?"):
        copied(workshop, dest / "x", source=open_source(str(dest)), trust=Anchor(keyring=workshop.access.keyring))
    assert not Layout(dest / "x").timestamp_file.exists()
