"""A repository to copy from: a folder, or a URL.

Nothing here trusts what it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from updater.errors import RefusedError, RepositoryError
from updater.repository.mirror.web import MissingFileError, WebFiles

_CHUNK_BYTES = 1 << 20


class RepositorySource(Protocol):
    """Where files of a repository come from."""

    @property
    def shown(self) -> str:
        """Its name in messages, without credentials."""

    def read(self, path: str, most: int) -> bytes:
        """A small file, of at most `most` bytes.

        Raises:
            MissingFileError: It is not there.
            RefusedError: It is longer.
            UpdaterError: It cannot be read.
        """

    def fetch(
        self, path: str, size_bytes: int, done: int, write: Callable[[bytes], object], again: Callable[[], object]
    ) -> None:
        """Pass the bytes from `done` on of a file of `size_bytes` to `write`; `again`: they begin with the first one.

        Raises:
            MissingFileError: It is not there.
            RefusedError: It has another length.
            UpdaterError: It cannot be read.
        """


class FolderFiles:
    """A repository in a folder, such as a disk that was carried here."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.shown = str(base)

    def read(self, path: str, most: int) -> bytes:
        """A small file."""
        found: list[bytes] = []
        self._pass_on(path, most, 0, found.append)
        return b"".join(found)

    def fetch(
        self,
        path: str,
        size_bytes: int,
        done: int,
        write: Callable[[bytes], object],
        again: Callable[[], object],  # noqa: ARG002 - a file can always be gone on with
    ) -> None:
        """The bytes of a file from `done` on."""
        found = self._pass_on(path, size_bytes, done, write)
        if found < size_bytes:
            raise RefusedError(f"{self._base / path} has {found} bytes, not {size_bytes}")

    def _pass_on(self, path: str, most: int, done: int, write: Callable[[bytes], object]) -> int:
        """How long the file is, at least up to one byte more than `most`."""
        try:
            with (self._base / path).open("rb") as stream:
                stream.seek(done)
                while chunk := stream.read(min(_CHUNK_BYTES, most + 1 - done)):
                    done += len(chunk)
                    if done > most:
                        raise RefusedError(f"{self._base / path} is longer than the {most} bytes it may have")
                    write(chunk)
        except FileNotFoundError as error:
            raise MissingFileError(f"{self._base / path} is missing") from error
        except OSError as error:
            raise RepositoryError(f"{self._base / path} cannot be read: {error.strerror}") from error
        return done


def open_source(place: str) -> RepositorySource:
    """The repository at a place: a folder, or an http(s) URL.

    Raises:
        RepositoryError: It is neither.
        FetchError: It is not a URL that can be fetched from.
    """
    if is_url(place):
        return WebFiles(place)
    if not Path(place).is_dir():
        raise RepositoryError(f"there is no repository at {place}").with_hint("name its folder, or its http(s) URL")
    return FolderFiles(Path(place))


def is_url(place: str) -> bool:
    """Whether a place is a URL and not a folder."""
    return place.lower().startswith(("http://", "https://"))
