"""Files by their SHA-256, below the cache: a file is fetched only once, wherever it came from.

Rules: a file gets its name only after all of it was hashed; a download is bounded by the signed size; a file that does
not match its name is never returned.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import urllib3

from bedrock.partial import new_file
from bedrock.progress import Progress
from imagebuild.definition.sources import LOCAL, OWN_ARCHIVES, SECURITY
from imagebuild.errors import BuildError, ImageBuildError, MirrorError, RefusedInputError
from imagebuild.inputs.lockfile import LockedPackage

_CHUNK_BYTES = 1 << 18
_THREADS = 4
_TIMEOUT_S = 60
_RETRIES = urllib3.Retry(total=4, backoff_factor=0.5, status_forcelist=(500, 502, 503, 504))
_OK = 200


class Store:
    """A folder of files by hash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """The path of a file with that hash, whether or not it exists."""
        return self._folder / sha256[:2] / sha256

    def missing(self, packages: Iterable[LockedPackage]) -> tuple[LockedPackage, ...]:
        """The packages that are not in the store."""
        return tuple(package for package in packages if not self.path(package.sha256).is_file())

    def put(self, chunks: Iterable[bytes], *, sha256: str, size_bytes: int, what: str) -> Path:
        """Write a file to the disk under its hash.

        Raises:
            RefusedInputError: It is not what was promised.
        """
        target = self.path(sha256)
        with new_file(target) as partial, partial.open("wb") as sink:
            _copy(chunks, sink, sha256=sha256, size_bytes=size_bytes, what=what)
        return target


def fetch_packages(
    store: Store, packages: Iterable[LockedPackage], bases: Mapping[str, str], *, progress: Progress, offline: bool
) -> None:
    """Bring what is missing into the store (writes to the disk).

    Args:
        store: Where to.
        packages: What is wanted.
        bases: The base URL of each archive by its name.
        progress: Hears of it.
        offline: Whether nothing but files of this machine may be used.

    Raises:
        MirrorError: A mirror does not answer, or no longer has a file.
        RefusedInputError: It gave a file that is not the locked one.
        BuildError: A file is missing and there is no network to fetch it from.
    """
    missing = store.missing(packages)
    if not missing:
        return
    if offline and (away := [package.name for package in missing if package.archive != LOCAL]):
        raise BuildError(f"{len(away)} packages are not in the bundle: {', '.join(away[:5])}, …")
    progress.step(f"fetch {len(missing)} packages", total=sum(package.size_bytes for package in missing))
    with (
        urllib3.PoolManager(maxsize=_THREADS, retries=_RETRIES, timeout=_TIMEOUT_S) as pool,
        ThreadPoolExecutor(_THREADS) as workers,
    ):
        jobs = [workers.submit(_fetch, store, package, bases, pool, progress) for package in missing]
        problems = [error for job in jobs if (error := job.exception()) is not None]
    _raise_all(problems)


def _raise_all(problems: list[BaseException]) -> None:
    """One error for all failures: the most severe kind, each message once."""
    for problem in problems:
        if not isinstance(problem, ImageBuildError):
            raise problem
    if not problems:
        return
    kind = next((type(each) for each in problems if isinstance(each, RefusedInputError)), type(problems[0]))
    error = kind("\n".join(dict.fromkeys(map(str, problems))))
    for note in dict.fromkeys(note for each in problems for note in getattr(each, "__notes__", ())):
        error.add_note(note)
    raise error


def _fetch(
    store: Store, package: LockedPackage, bases: Mapping[str, str], pool: urllib3.PoolManager, progress: Progress
) -> None:
    base = bases.get(package.archive) or _unknown(package)
    chunks = _local(base, package) if base.startswith(("file:", "copy:")) else _remote(base, package, pool)
    what = f"{package.name} {package.version}"
    store.put(_told(chunks, progress), sha256=package.sha256, size_bytes=package.size_bytes, what=what)


def _remote(base: str, package: LockedPackage, pool: urllib3.PoolManager) -> Iterator[bytes]:
    url = f"{base}/{package.path.replace('%', '%25')}"
    try:
        with closing(pool.request("GET", url, preload_content=False)) as answer:
            if answer.status != _OK:
                raise _gone(package, f"it answered {answer.status}")
            yield from answer.stream(_CHUNK_BYTES, decode_content=False)
            # Read to its end, the connection serves the next file.
            answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise MirrorError(f"the mirror did not give {package.path}: {error}") from error


def _local(base: str, package: LockedPackage) -> Iterator[bytes]:
    path = Path(re.sub(r"^(file|copy):/*", "/", base)) / package.path
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError as error:
        raise _gone(package, "there is no such file") from error


def _unknown(package: LockedPackage) -> str:
    if package.archive == SECURITY:
        raise MirrorError(f"{package.name} comes from the security archive, and no mirror of it is known").with_hint(
            "set security_mirror: in image.yaml, or TWINHULL_SECURITY_MIRROR"
        )
    place = "Debian's archive" if package.archive in OWN_ARCHIVES else f"the source {package.archive}"
    raise MirrorError(f"{package.name} comes from {place}, and image.yaml does not name it").with_hint(
        "`twinhull lock --update` makes a lock that fits"
    )


def _gone(package: LockedPackage, reason: str) -> MirrorError:
    what = f"{package.name} {package.version} ({package.path}): {reason}"
    if package.archive == LOCAL:
        return MirrorError(f"the definition no longer has {what}").with_hint("put it back, or `twinhull lock --update`")
    whose = "the mirror" if package.archive in OWN_ARCHIVES else f"the source {package.archive}"
    error = MirrorError(f"{whose} no longer has {what}")
    error.add_note("`twinhull lock --update` locks what it has now; a bundle keeps what was locked for good")
    return error


def _told(chunks: Iterable[bytes], progress: Progress) -> Iterator[bytes]:
    for chunk in chunks:
        progress.advance(len(chunk))
        yield chunk


def _copy(chunks: Iterable[bytes], sink: BinaryIO, *, sha256: str, size_bytes: int, what: str) -> None:
    digest = hashlib.sha256()
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > size_bytes:
            raise RefusedInputError(f"{what} is longer than the locked {size_bytes} bytes")
        digest.update(chunk)
        sink.write(chunk)
    if size != size_bytes:
        raise RefusedInputError(f"{what} has {size} bytes, and {size_bytes} are locked")
    if digest.hexdigest() != sha256:
        raise RefusedInputError(f"{what} has the SHA-256 {digest.hexdigest()}, and {sha256} is locked")
