"""One published release from wherever its repository is: a folder as it is, a URL through a verified copy in the cache.

The copy holds the documents and the objects of the releases that were asked for, and never goes back; expired documents
are accepted, for an old release does not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bedrock.digest import bytes_sha256
from bedrock.progress import Progress
from updater.repository.channels import ReleaseChoice
from updater.repository.layout import Layout
from updater.repository.mirror.copying import copy
from updater.repository.mirror.sources import is_url, open_source
from updater.repository.mirror.staging import Anchor

_DIGITS = 16


@dataclass(frozen=True)
class LocalRepository:
    """A repository's folder, and the root document to read it by; None: the repository's own."""

    base: Path
    trusted_root: bytes | None


def local_repository(
    place: str, choice: ReleaseChoice, anchor: Anchor | None, *, cache: Path, now: datetime, progress: Progress
) -> LocalRepository:
    """The folder of a repository that has a release; of a URL a copy in the cache (writes to the disk).

    Args:
        place: A folder or an http(s) URL.
        choice: The release.
        anchor: Where trust begins; a URL needs it.
        cache: A folder for everything that can be made again.
        now: The time.
        progress: Receives progress on objects, in bytes.

    Raises:
        RepositoryError: There is no repository, or no such release in it.
        RefusedError: Something does not verify, or the repository went back.
        FetchError: It cannot be reached.
    """
    source = open_source(place)
    base = Path(place)
    if is_url(place):
        if anchor is None:
            raise TypeError("a repository at a URL is read from a root that somebody trusts")
        base = cache / "repositories" / bytes_sha256(source.shown.encode())[:_DIGITS]
        base.mkdir(parents=True, exist_ok=True)
        copy(source, base, anchor, now=now, progress=progress, only=choice, allow_expired=True)
    return LocalRepository(base, None if anchor is None else anchor.newest_root(Layout(base)).raw)
