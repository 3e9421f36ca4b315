"""Writes files of a host, only below `/etc` and `/var`, whatever links exist there.

Owners are looked up in the host's own `/etc/passwd` and `/etc/group`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bedrock.digest import bytes_sha256
from bedrock.persist import sync_folder
from updater.errors import UpdaterError
from updater.provision.files import TargetFile

_PLACES = ("etc", "var")
# Folders that systemd-tmpfiles makes later in a boot, with their modes.
_FOLDER_MODES = {"/var/roothome": 0o700}


@dataclass(frozen=True)
class Account:
    """A user as `/etc/passwd` has it."""

    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class HostFiles:
    """The files below `root`, which is `/`, or another folder in tests."""

    root: Path = Path("/")

    def account(self, name: str) -> Account | None:
        """A user of this host."""
        for fields in self._table("etc/passwd"):
            if fields[0] == name:
                return Account(int(fields[2]), int(fields[3]), fields[5])
        return None

    def user_of(self, uid: int) -> str | None:
        """The name of the user with a number."""
        return next((fields[0] for fields in self._table("etc/passwd") if fields[2] == str(uid)), None)

    def group(self, name: str) -> int | None:
        """A group of this host."""
        return next((int(fields[2]) for fields in self._table("etc/group") if fields[0] == name), None)

    def require_place(self, path: str) -> Path:
        """The real place of a path, with links resolved.

        Raises:
            UpdaterError: A link in the path leads out of `/etc` and `/var`, or the path is a folder.
        """
        given = self.root / path.lstrip("/")
        place = Path(os.path.realpath(given.parent)) / given.name
        self._require_allowed(path, place)
        if place.is_dir() and not place.is_symlink():
            raise UpdaterError(f"{path} is a folder on this host")
        for above in place.parents:
            if above.exists() and not above.is_dir():
                raise UpdaterError(f"{above}, on the way to {path}, is not a folder")
        return place

    def folder(self, path: str) -> Path:
        """The real place of a folder, which need not exist yet, with links resolved.

        Raises:
            UpdaterError: That is not below `/etc` or `/var`.
        """
        place = Path(os.path.realpath(self.root / path.lstrip("/")))
        self._require_allowed(path, place)
        return place

    def _require_allowed(self, path: str, place: Path) -> None:
        allowed = [Path(os.path.realpath(self.root / name)) for name in _PLACES]
        if not any(place.is_relative_to(folder) and place != folder for folder in allowed):
            raise UpdaterError(f"{path} leads to {place}, which is not below /etc or /var")

    def owner_of(self, target: TargetFile) -> tuple[int, int]:
        """The ids of a file's owner and group.

        Raises:
            UpdaterError: This host does not know them.
        """
        account, gid = self.account(target.owner), self.group(target.group)
        if account is None or gid is None:
            raise UpdaterError(f"{target.path}: this host knows no {target.owner}:{target.group}")
        return account.uid, gid

    def write(self, target: TargetFile, owner: tuple[int, int], *, folder_mode: int = 0o755) -> bool:
        """Write a file to the disk, durably and in one step; False: it was already the same.

        Args:
            target: The file.
            owner: Ids of its user and group; below a home, missing parent folders get them too.
            folder_mode: The mode of missing parent folders.
        """
        place = self.require_place(target.path)
        if _is_just_so(place, target, owner):
            return False
        self._make_folders(place.parent, folder_mode, owner if folder_mode == _PRIVATE else (0, 0))
        temporary = place.with_name(f".{place.name}.provision")
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(target.data)
            os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), target.mode)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(place)
        sync_folder(place.parent)
        return True

    def read(self, path: str) -> bytes | None:
        """The content of a file; None when there is none."""
        place = self.root / path.lstrip("/")
        return place.read_bytes() if place.is_file() else None

    def remove(self, path: str, sha256: str) -> bool:
        """Remove a file from the disk if it still has this content; False: it is gone, or somebody changed it."""
        try:
            place = self.require_place(path)
        except UpdaterError:
            # A folder or a way elsewhere that somebody put there.
            return False
        if place.is_symlink() or not place.is_file() or bytes_sha256(place.read_bytes()) != sha256:
            return False
        place.unlink()
        sync_folder(place.parent)
        return True

    def make_home(self, home: str, account: Account) -> None:
        """Make a user's home folder on the disk; an existing one is not changed."""
        place = self.folder(home)
        if place.is_dir():
            return
        self._make_folders(place.parent, 0o755, (0, 0))
        place.mkdir(mode=_PRIVATE)
        os.chown(place, account.uid, account.gid)

    def _make_folders(self, folder: Path, mode: int, owner: tuple[int, int]) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            known = _FOLDER_MODES.get(f"/{path.relative_to(os.path.realpath(self.root))}")
            path.mkdir(mode=0o700)
            if known is None:
                os.chown(path, *owner) if os.geteuid() == 0 else None
            path.chmod(mode if known is None else known)

    def _table(self, name: str) -> list[list[str]]:
        path = self.root / name
        lines = path.read_text().splitlines() if path.is_file() else []
        return [line.split(":") for line in lines if line.count(":") >= 3]  # noqa: PLR2004 - the fields of a group


_PRIVATE = 0o700


def _is_just_so(place: Path, target: TargetFile, owner: tuple[int, int]) -> bool:
    if place.is_symlink() or not place.is_file():
        return False
    found = place.stat()
    same = (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (*owner, target.mode)
    return same and place.read_bytes() == target.data
