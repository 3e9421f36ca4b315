"""The places of a repository's files.

Rules: names come only from numbers, digests and checked target paths; no input can lead out of the folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from keys.roles import TufRole
from updater.documents.release import StoredObject
from updater.errors import RepositoryError

_PART = re.compile(r"[0-9A-Za-z][0-9A-Za-z.~^_-]*")
_VERSIONED = re.compile(r"([1-9][0-9]{0,9})\.([a-z]+)\.json")


@dataclass(frozen=True)
class Layout:
    """The folders and files below `base`; only names, no I/O."""

    base: Path

    @property
    def metadata(self) -> Path:
        """Signed role documents."""
        return self.base / "metadata"

    @property
    def targets(self) -> Path:
        """Release and channel documents."""
        return self.base / "targets"

    @property
    def objects(self) -> Path:
        """Bulk data by content."""
        return self.base / "objects"

    @property
    def lock_file(self) -> Path:
        """The lock file of a process that changes the repository."""
        return self.base / ".lock"

    @property
    def objects_lock_file(self) -> Path:
        """Held by whoever adds objects or removes them, which may take minutes."""
        return self.base / ".objects.lock"

    @property
    def retired_layouts_file(self) -> Path:
        """The record of retired disk layouts, only for the publisher."""
        return self.base / "retired-layouts.json"

    @property
    def ceremony_file(self) -> Path:
        """The signing request that is under way; no reader needs it, and nobody trusts it."""
        return self.base / "ceremony.json"

    @property
    def timestamp_file(self) -> Path:
        """The one file that is ever replaced."""
        return self.metadata / "timestamp.json"

    def role_file(self, role: TufRole, version: int) -> Path:
        """The document of a role at one of its versions."""
        return self.metadata / f"{version}.{role.value}.json"

    def target_file(self, target_path: str, sha256: str) -> Path:
        """A target under its consistent-snapshot name: the digest comes before the last part.

        Raises:
            RepositoryError: The target path has a part that could lead elsewhere.
        """
        parts = target_path.split("/")
        if not all(_PART.fullmatch(part) for part in parts):
            raise RepositoryError(f"{target_path!r} is not a target path this repository can hold")
        return self.targets.joinpath(*parts[:-1], f"{sha256}.{parts[-1]}")

    def object_file(self, stored: StoredObject) -> Path:
        """The file of an object."""
        return self.base / stored.path

    def versions_on_disk(self, role: TufRole) -> tuple[int, ...]:
        """Every version of a role that has a file, referenced or left over, ascending."""
        if not self.metadata.is_dir():
            return ()
        matches = (_VERSIONED.fullmatch(path.name) for path in self.metadata.iterdir())
        return tuple(sorted(int(match[1]) for match in matches if match and match[2] == role.value))
