"""Keys folders that change, for tests of rotations."""

from __future__ import annotations

from pathlib import Path

from keys.changes import rotate
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import TufRole
from tests.fakes.builds import Publisher
from updater.repository.access import KeyAccess


def with_folder(workshop: Publisher, folder: Path) -> Publisher:
    """The same workshop with the keys of a folder, as they are now."""
    return Publisher(workshop.folder, KeyAccess(Keyring.load(folder), NoPassphrase()))


def reloaded(workshop: Publisher) -> Publisher:
    """The same workshop after its keys folder changed."""
    return with_folder(workshop, workshop.access.keyring.folder)


def with_rotated(workshop: Publisher, role: TufRole) -> Publisher:
    """The same workshop with new keys of a role, which the repository does not know yet."""
    rotate(workshop.access.keyring.folder, role, NoPassphrase())
    return reloaded(workshop)
