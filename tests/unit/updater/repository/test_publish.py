from __future__ import annotations

import fcntl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import updater.repository.commit as documents
import updater.repository.publish as publishing
from bedrock import strict
from bedrock.persist import write_atomic
from bedrock.progress import Silent
from keys.errors import BadKeyError, MissingKeyError
from keys.generate import init
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import Profile
from tests.fakes.builds import NOW, Publisher, snapshot_of, write_build
from tests.fakes.keyrings import dev_folder
from updater.documents.release import Compression
from updater.errors import BusyError, ConflictError, RefusedError, RepositoryError
from updater.repository.access import KeyAccess
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.publish import init_repository, read_build
from updater.repository.releases import artifacts_of, read_release
from updater.repository.upkeep.verify import verify


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    return Publisher.make(tmp_path)


def is_sound(workshop: Publisher) -> bool:
    report = verify(workshop.base, now=NOW, progress=Silent())
    assert report.problems == ()
    return report.ok


def test_new_repository_holds(workshop: Publisher) -> None:
    assert is_sound(workshop)
    names = {path.name for path in (workshop.base / "metadata").iterdir()}
    roles = ("root", "targets", "snapshot", "releases", "channels")
    assert names == {f"1.{role}.json" for role in roles} | {"timestamp.json"}


def test_init_refuses_a_folder_in_use(workshop: Publisher) -> None:
    before = snapshot_of(workshop.base)
    with pytest.raises(ConflictError, match="not an empty folder"):
        init_repository(workshop.base, workshop.access, lifetimes=Lifetimes(), now=NOW)
    assert snapshot_of(workshop.base) == before


def test_init_with_a_key_that_is_not_one_leaves_nothing(tmp_path: Path) -> None:
    keys = dev_folder(tmp_path)
    (keys / "channels-1.pem").write_text("junk")
    access = KeyAccess(Keyring.load(keys), NoPassphrase())
    with pytest.raises(BadKeyError):
        init_repository(tmp_path / "repo", access, lifetimes=Lifetimes(), now=NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys"]


def test_published_release_is_served_from_objects(workshop: Publisher) -> None:
    (done,) = workshop.publish("1.0.0")
    assert done.new
    assert is_sound(workshop)
    state = load_state(Layout(workshop.base), None)
    release = read_release(Layout(workshop.base), state, "releases/host/1.0.0/x86-64.json")
    assert release == done.release
    by_name = {name: artifact.objects[0].compression for name, artifact in artifacts_of(release).items()}
    # Noise is stored raw, repetitions are compressed.
    assert by_name == {"uki": Compression.NONE, "root": Compression.ZSTD, "verity": Compression.ZSTD}
    assert done.stored_bytes < done.raw_bytes


def test_same_version_with_same_content_changes_nothing(workshop: Publisher) -> None:
    workshop.publish("1.0.0")
    before = snapshot_of(workshop.base)
    (again,) = workshop.publish("1.0.0")
    assert not again.new
    assert again.stored_bytes > 0
    assert snapshot_of(workshop.base) == before


def test_same_version_with_other_content_is_a_conflict(workshop: Publisher) -> None:
    workshop.publish("1.0.0", seed=1)
    before = snapshot_of(workshop.base)
    with pytest.raises(ConflictError, match="published before with other content"):
        workshop.publish("1.0.0", seed=2)
    assert snapshot_of(workshop.base) == before


CONFUSABLE = [("1.0", "1.00"), ("1.0.1-RC1", "1.0.1-rc1"), ("1.0-rc01", "1.0-RC1")]


@pytest.mark.parametrize(("first", "second"), CONFUSABLE)
def test_a_version_that_differs_in_case_or_zeros_only_is_a_conflict(
    workshop: Publisher, first: str, second: str
) -> None:
    workshop.publish(first)
    before = snapshot_of(workshop.base)
    with pytest.raises(ConflictError, match="case or in zeros") as caught:
        workshop.publish(second, seed=2)
    assert caught.value.hints
    assert snapshot_of(workshop.base) == before


@pytest.mark.parametrize(("first", "second"), CONFUSABLE)
def test_two_builds_that_differ_in_case_or_zeros_only_are_not_published_together(
    workshop: Publisher, tmp_path: Path, first: str, second: str
) -> None:
    folders = [
        write_build(tmp_path / f"build{seed}", version=each, seed=seed) for seed, each in ((1, first), (2, second))
    ]
    before = snapshot_of(workshop.base)
    with pytest.raises(ConflictError, match="case or in zeros"):
        workshop.publish_folders(*folders)
    assert snapshot_of(workshop.base) == before


def test_two_different_builds_of_one_version_are_a_conflict(workshop: Publisher, tmp_path: Path) -> None:
    folders = [write_build(tmp_path / f"b{seed}", seed=seed) for seed in (1, 2)]
    with pytest.raises(ConflictError, match="differ"):
        workshop.publish_folders(*folders)


def test_several_builds_become_visible_together(workshop: Publisher, tmp_path: Path) -> None:
    folders = [write_build(tmp_path / version, version=version, seed=3) for version in ("1.0.0", "1.0.1")]
    done = workshop.publish_folders(*folders)
    assert [publication.new for publication in done] == [True, True]
    state = load_state(Layout(workshop.base), None)
    assert len(state.releases.signed.targets) == 2
    assert state.timestamp.signed.version == 2


def test_a_debug_build_is_refused_unless_it_is_allowed(workshop: Publisher, tmp_path: Path) -> None:
    folders = [
        write_build(tmp_path / "plain", version="1.0.0"),
        write_build(tmp_path / "open", version="1.0.1", profile="debug"),
    ]
    before = snapshot_of(workshop.base)
    with pytest.raises(RefusedError, match=r"open was built with --profile debug"):
        workshop.publish_folders(*folders)
    assert snapshot_of(workshop.base) == before
    done = workshop.publish_folders(*folders, allow_debug=True)
    assert [publication.release.profile for publication in done] == [None, "debug"]
    assert is_sound(workshop)


def test_an_unsigned_build_is_refused_unless_it_is_allowed(workshop: Publisher, tmp_path: Path) -> None:
    folder = write_build(tmp_path / "waiting")
    (folder / "signing-request.json").write_text("{}")
    before = snapshot_of(workshop.base)
    with pytest.raises(RefusedError, match="waiting is unsigned") as caught:
        workshop.publish_folders(folder)
    assert snapshot_of(workshop.base) == before
    assert "twinhull finish" in caught.value.hints[0]
    assert workshop.publish_folders(folder, allow_unsigned=True)
    assert is_sound(workshop)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "missing"])
def test_file_that_differs_from_its_release_is_refused_before_anything_is_written(
    workshop: Publisher, tmp_path: Path, damage: str
) -> None:
    folder = write_build(tmp_path / "build")
    path = folder / "root.erofs"
    content = path.read_bytes()
    changed = {"flipped": b"\xff" + content[1:], "truncated": content[:-1], "longer": content + b"\0"}
    if damage == "missing":
        path.unlink()
    else:
        assert changed[damage] != content
        path.write_bytes(changed[damage])
    before = snapshot_of(workshop.base)
    with pytest.raises(RefusedError, match=r"root\.erofs"):
        workshop.publish_folders(folder)
    assert snapshot_of(workshop.base) == before


def test_every_wrong_file_is_listed(workshop: Publisher, tmp_path: Path) -> None:
    folder = write_build(tmp_path / "build")
    for name in ("uki.efi", "root.verity"):
        (folder / name).write_bytes(b"other")
    with pytest.raises(RefusedError) as caught:
        workshop.publish_folders(folder)
    assert "uki.efi" in str(caught.value)
    assert "root.verity" in str(caught.value)


def test_folder_without_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="not the output of a build"):
        read_build(tmp_path)


def test_publishing_needs_only_releases_snapshot_and_timestamp_keys(workshop: Publisher) -> None:
    (done,) = workshop.without_keys("root", "targets", "channels").publish("1.0.0")
    assert done.new
    assert is_sound(workshop)


@pytest.mark.parametrize("role", ["releases", "snapshot", "timestamp"])
def test_publishing_without_a_needed_key_writes_nothing(workshop: Publisher, role: str) -> None:
    """With one of the online keys and not the other, somebody lost one: that is no submission."""
    before = snapshot_of(workshop.base)
    with pytest.raises(MissingKeyError, match=role):
        workshop.without_keys(role).publish("1.0.0")
    assert {name: data for name, data in snapshot_of(workshop.base).items() if name != ".lock"} == before


def test_second_publisher_is_told_to_wait(workshop: Publisher, tmp_path: Path) -> None:
    with Layout(workshop.base).lock_file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(BusyError):
            workshop.publish_folders(write_build(tmp_path / "build"), signing_wait_s=0)
    assert workshop.publish("1.0.0")[0].new


def test_keys_of_another_repository_are_refused(workshop: Publisher, tmp_path: Path) -> None:
    stranger = KeyAccess(init(tmp_path / "strange", Profile.DEV, NoPassphrase()), NoPassphrase())
    with pytest.raises(RefusedError, match="was not made with the root keys"):
        Publisher(workshop.folder, stranger).publish("1.0.0")


class CutError(Exception):
    """The machine stops here."""


WRITES: dict[str, str] = {
    "object": "put_object",
    "release document": "write_target",
    "metadata": "commit",
}


@pytest.mark.parametrize("step", WRITES)
def test_publish_interrupted_before_a_step_shows_nothing_and_completes_later(
    workshop: Publisher, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = load_state(Layout(workshop.base), None).timestamp.raw

    def cut(*_args: object, **_kwargs: object) -> None:
        raise CutError

    with monkeypatch.context() as patched:
        patched.setattr(publishing, WRITES[step], cut)
        with pytest.raises(CutError):
            workshop.publish("1.0.0")
    assert load_state(Layout(workshop.base), None).timestamp.raw == seen
    assert is_sound(workshop)
    assert workshop.publish("1.0.0")[0].new
    assert is_sound(workshop)


def cut_at(write: Callable[..., None], number: int) -> Callable[..., None]:
    """`write`, until its `number`th call."""
    count = 0

    def cutting(*args: object, **kwargs: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise CutError
        write(*args, **kwargs)

    return cutting


@pytest.mark.parametrize("number", [1, 2, 3])
def test_publish_interrupted_between_metadata_files_keeps_the_old_state_readable(
    workshop: Publisher, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.publish("1.0.0")
    seen = load_state(Layout(workshop.base), None).timestamp.raw
    with monkeypatch.context() as patched:
        patched.setattr(documents, "write_atomic", cut_at(write_atomic, number))
        with pytest.raises(CutError):
            workshop.publish("1.0.1", seed=2)
    assert load_state(Layout(workshop.base), None).timestamp.raw == seen
    assert is_sound(workshop)
    left_over = snapshot_of(workshop.base / "metadata")
    assert workshop.publish("1.0.1", seed=2)[0].new
    assert is_sound(workshop)
    # A left-over file may have been cached somewhere, so it is never written again.
    now_there = snapshot_of(workshop.base / "metadata")
    assert all(now_there[name] == data for name, data in left_over.items() if name != "timestamp.json")


def test_half_written_object_is_cleaned_up_by_the_next_publish(workshop: Publisher) -> None:
    half = workshop.base / "objects" / ".incoming-1"
    half.write_bytes(b"half")
    workshop.publish("1.0.0")
    assert not half.exists()


def test_damaged_object_is_replaced_when_published_under_a_new_version(workshop: Publisher) -> None:
    (done,) = workshop.publish("1.0.0")
    path = Layout(workshop.base).object_file(done.release.artifacts.root.objects[0])
    path.write_bytes(b"damaged")
    workshop.publish("1.0.1", seed=1)
    assert is_sound(workshop)


def test_tampered_store_is_not_signed_again(workshop: Publisher) -> None:
    workshop.publish("1.0.0")
    path = workshop.base / "metadata" / "2.releases.json"
    data = path.read_bytes().replace(b"releases/host/1.0.0", b"releases/host/6.6.6")
    assert data != path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="not the file that was signed"):
        workshop.publish("1.0.1", seed=2)


def test_lifetimes_follow_the_role(workshop: Publisher) -> None:
    state = load_state(Layout(workshop.base), None)
    left = {role.value: document.signed.expires - NOW for role, document in state.documents().items()}
    assert left == {
        "root": timedelta(days=365),
        "targets": timedelta(days=365),
        "releases": timedelta(days=90),
        "channels": timedelta(days=90),
        "snapshot": timedelta(days=7),
        "timestamp": timedelta(days=7),
    }


def test_full_disk_is_told_before_anything_is_written(workshop: Publisher) -> None:
    before = snapshot_of(workshop.base)
    with pytest.raises(RepositoryError, match="bytes free"):
        workshop.publish("1.0.0", free_bytes=lambda _: 10)
    assert {name: data for name, data in snapshot_of(workshop.base).items() if name != ".lock"} == before


def test_release_document_is_deterministic(workshop: Publisher, tmp_path: Path) -> None:
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    (first,) = workshop.publish("1.0.0")
    (second,) = Publisher.make(other_folder).publish("1.0.0")
    assert strict.dump_json(first.release) == strict.dump_json(second.release)
