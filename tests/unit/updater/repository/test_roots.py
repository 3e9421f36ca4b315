from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Timestamp

from bedrock.progress import Silent
from keys.roles import TufRole
from tests.fakes.builds import NOW, Publisher
from tests.fakes.key_holders import reloaded, with_rotated
from updater.errors import RefusedError
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.roots import ROOT_OF_TRUST_FILE, former_roots, keep_root, trusted_root_of
from updater.repository.upkeep.refresh import refresh
from updater.repository.upkeep.verify import verify


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    return Publisher.make(tmp_path)


def rotated(workshop: Publisher, role: TufRole) -> Publisher:
    workshop = with_rotated(workshop, role)
    refresh(workshop.base, access=workshop.access, lifetimes=Lifetimes(), now=NOW)
    return workshop


def newest(workshop: Publisher) -> bytes:
    return trusted_root_of(Layout(workshop.base), workshop.access.keyring).raw


def test_the_root_next_to_the_keys_follows(workshop: Publisher) -> None:
    layout, keyring = Layout(workshop.base), workshop.access.keyring
    path = keyring.folder / ROOT_OF_TRUST_FILE
    assert keep_root(layout, keyring, newest(workshop)) is None
    first = path.read_bytes()
    workshop = rotated(workshop, TufRole.TIMESTAMP)
    assert keep_root(layout, keyring, newest(workshop)) is None
    assert path.read_bytes() == newest(workshop) != first


def test_a_root_of_another_repository_is_left_alone(workshop: Publisher, tmp_path: Path) -> None:
    path = workshop.access.keyring.folder / ROOT_OF_TRUST_FILE
    shutil.copytree(workshop.base, tmp_path / "second")
    workshop = rotated(workshop, TufRole.TIMESTAMP)
    path.write_bytes(newest(workshop))
    second = Layout(tmp_path / "second")
    assert keep_root(second, workshop.access.keyring, second.role_file(TufRole.ROOT, 1).read_bytes()) is None
    assert path.read_bytes() == newest(workshop)


def test_a_root_that_cannot_be_written_is_reported(workshop: Publisher) -> None:
    (workshop.access.keyring.folder / ROOT_OF_TRUST_FILE).mkdir()
    told = keep_root(Layout(workshop.base), workshop.access.keyring, newest(workshop))
    assert told is not None
    assert "cannot be written" in told


def test_root_keys_that_were_all_exchanged_are_followed_from_the_root_next_to_the_keys(workshop: Publisher) -> None:
    """Nothing in the keys folder has signed the root that the chain begins with, but for that file."""
    old = workshop.without_keys("nothing")
    keep_root(Layout(old.base), old.access.keyring, newest(old))
    for _ in range(2):
        workshop = rotated(workshop, TufRole.ROOT)
    assert newest(old) == newest(workshop)
    # Without it, its keys signed the first root, and the chain leads on from there.
    (old.access.keyring.folder / ROOT_OF_TRUST_FILE).unlink()
    assert newest(reloaded(old)) == newest(workshop)


def test_a_forged_older_root_vouches_for_nothing(workshop: Publisher) -> None:
    """It names the real root keys next to the attacker's, so that the next root seems to follow from it."""
    workshop = rotated(workshop, TufRole.SNAPSHOT)
    layout = Layout(workshop.base)
    theirs = CryptoSigner.generate_ed25519()
    forged = load_state(layout, None).root.copy()
    forged.version = 1
    forged.add_key(theirs.public_key, "root")
    forged.add_key(theirs.public_key, "timestamp")
    metadata = Metadata(forged)
    metadata.sign(theirs)
    layout.role_file(TufRole.ROOT, 1).write_bytes(metadata.to_bytes())
    root = trusted_root_of(layout, workshop.access.keyring)
    assert former_roots(layout, root, workshop.access.keyring) == ()
    # So a timestamp of theirs is refused.
    stamp: Metadata[Timestamp] = Metadata.from_bytes(layout.timestamp_file.read_bytes())
    stamp.signatures.clear()
    stamp.sign(theirs)
    layout.timestamp_file.write_bytes(stamp.to_bytes())
    with pytest.raises(RefusedError, match="timestamp"):
        load_state(layout, workshop.access.keyring)
    assert not verify(workshop.base, now=NOW, progress=Silent()).ok
