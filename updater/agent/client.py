"""The signed metadata: the only module of the agent that knows TUF.

Everything returned here was verified from the root baked into the image; metadata already seen is kept on `/var`, so
that older metadata is refused later.  Errors of the library become `RefusedError` (verification) or
`FetchError` (transport).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    RepositoryError,
    SlowRetrievalError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater
from urllib3.exceptions import HTTPError

from bedrock import persist
from bedrock.clock import Clock
from bedrock.digest import bytes_sha256
from bedrock.errors import DocumentError
from partitions.version import Version
from updater.agent.fetch import pause_s
from updater.agent.http import RETRYABLE_STATUS, joined
from updater.documents import channel as channels
from updater.documents import release as releases
from updater.documents.channel import Channel
from updater.documents.release import Architecture, SignedRelease
from updater.errors import FetchError, PolicyError, RefusedError

CHUNK_BYTES = 64 << 10
TRIES = 3
_HTTP_ERROR = 400
# The bounds of documents whose length no verified metadata names.
_LIMITS = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=8,
    root_max_length=256 << 10,
    timestamp_max_length=16 << 10,
    snapshot_max_length=1 << 20,
    targets_max_length=8 << 20,
)


@dataclass(frozen=True)
class Origin:
    """What this host accepts: repository URL, image and architecture."""

    url: str
    image: str
    architecture: Architecture


class TrustedRepository:
    """The repository as its signatures describe it; one object per request, which refreshes metadata once."""

    def __init__(
        self,
        origin: Origin,
        *,
        metadata_dir: Path,
        root: bytes,
        http: urllib3.PoolManager,
        clock: Clock,
        document_s: float,
    ) -> None:
        """Open the metadata kept in `metadata_dir` (written to), rooted in the baked `root`.

        Raises:
            RefusedError: The baked root does not verify.
        """
        self._origin = origin
        self._metadata_dir = metadata_dir
        metadata_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        fetcher = _Fetcher(http, clock, document_s)
        with _translated(origin.url):
            self._updater = Updater(
                metadata_dir=str(metadata_dir),
                metadata_base_url=joined(origin.url, "metadata/"),
                target_base_url=joined(origin.url, "targets/"),
                fetcher=fetcher,
                config=_LIMITS,
                bootstrap=root,
            )

    def refresh(self) -> None:
        """Fetch and verify the newest metadata and keep them on the disk, durably.

        Raises:
            RefusedError: Signature, threshold, version or expiry do not hold.
            FetchError: The server cannot be reached.
        """
        with _translated(self._origin.url):
            self._updater.refresh()
        self._sync()

    def channel(self, name: str) -> Channel:
        """The verified channel document.

        Raises:
            RefusedError: It does not verify, or is meant for another image or architecture.
            FetchError: It cannot be fetched, or there is no channel with that name.
        """
        path = channels.channel_path(name)
        data = self._target(self._info(path), channels.MAX_DOCUMENT_BYTES)
        with _refusing_bad_documents(path):
            found = channels.parse_channel(data, source=path)
        if found.name != name:
            raise RefusedError(f"{path} says it is channel {found.name!r}")
        self._check_meant_for_us(path, found.image, found.architecture)
        return found

    def release(self, version: Version, *, sha256: str | None) -> SignedRelease:
        """The verified release document of this host's image and architecture.

        Args:
            version: The version.
            sha256: What its document must hash to: whoever chose the release named these bytes; None when nobody did.

        Raises:
            PolicyError: It was withdrawn.
            RefusedError: It does not verify, is not what its path says, or not the document that was chosen.
            FetchError: It cannot be fetched, or there is no release with that version.
        """
        path = releases.release_path(self._origin.image, version, self._origin.architecture)
        info = self._info(path)
        if isinstance(info.custom, dict) and releases.WITHDRAWN in info.custom:
            raise PolicyError(f"{version} was withdrawn: {info.custom[releases.WITHDRAWN]}")
        data = self._target(info, releases.MAX_DOCUMENT_BYTES)
        digest = bytes_sha256(data)
        if sha256 is not None and digest != sha256:
            raise RefusedError(
                f"{path} is signed and has the SHA-256 {digest}, but {sha256} was chosen: it was changed after that"
            ).with_hint("nothing was changed; tell whoever runs the update repository")
        with _refusing_bad_documents(path):
            found = releases.parse_release(data, source=path)
        if str(found.version) != str(version):
            raise RefusedError(f"{path} says it is version {found.version}")
        self._check_meant_for_us(path, found.image, found.architecture)
        return SignedRelease(found, digest)

    def _check_meant_for_us(self, path: str, image: str, architecture: Architecture) -> None:
        if (image, architecture) != (self._origin.image, self._origin.architecture):
            raise RefusedError(
                f"{path} is meant for image {image} on {architecture.value}, "
                f"this host runs {self._origin.image} on {self._origin.architecture.value}"
            )

    def _info(self, path: str) -> TargetFile:
        """What the verified metadata say of a target."""
        with _translated(self._origin.url):
            info = self._updater.get_targetinfo(path)
        if info is None:
            raise FetchError(f"{self._origin.url} has no {path}")
        return info

    def _target(self, info: TargetFile, limit: int) -> bytes:
        if info.length > limit:
            raise RefusedError(f"{info.path} is {info.length} bytes long, at most {limit} are read")
        with tempfile.TemporaryDirectory(prefix="twinhull-") as folder, _translated(self._origin.url):
            data = Path(self._updater.download_target(info, str(Path(folder) / "document"))).read_bytes()
        self._sync()
        return data

    def _sync(self) -> None:
        """The library replaces files without syncing them; a power cut must not bring an older one back."""
        for path in sorted(self._metadata_dir.rglob("*.json")):
            if path.is_file() and not path.is_symlink():
                _sync_file(path)
        for folder in (self._metadata_dir / "root_history", self._metadata_dir):
            persist.sync_folder(folder)


class _Fetcher(FetcherInterface):
    """Metadata and target documents over the shared pool, each within a bounded time."""

    def __init__(self, http: urllib3.PoolManager, clock: Clock, document_s: float) -> None:
        self._http = http
        self._clock = clock
        self._document_s = document_s

    def _fetch(self, url: str) -> Iterator[bytes]:
        for tries in range(1, TRIES + 1):
            try:
                response = self._http.request("GET", url, preload_content=False, decode_content=False)
            except HTTPError as error:
                if tries == TRIES:
                    raise DownloadError(f"{url}: {error}") from error
            else:
                if response.status < _HTTP_ERROR:
                    return self._chunks(response, url)
                response.close()
                if response.status not in RETRYABLE_STATUS or tries == TRIES:
                    raise DownloadHTTPError(f"{url}: the server answers {response.status}", response.status)
            self._clock.sleep(pause_s(tries, 0.5))
        raise DownloadError(f"{url}: gave up")

    def _chunks(self, response: urllib3.response.BaseHTTPResponse, url: str) -> Iterator[bytes]:
        deadline = self._clock.steady() + self._document_s
        try:
            # `read1` returns the available bytes; `read` would wait past any deadline for a full chunk.
            while chunk := response.read1(CHUNK_BYTES):
                if self._clock.steady() > deadline:
                    raise SlowRetrievalError(f"{url}: not complete after {self._document_s:g} s")
                yield chunk
        except HTTPError as error:
            raise DownloadError(f"{url}: {error}") from error
        finally:
            response.close()


@contextmanager
def _refusing_bad_documents(path: str) -> Iterator[None]:
    """Refuse a signed document that cannot be read, like an unsigned one."""
    try:
        yield
    except DocumentError as error:
        raise RefusedError(f"{path} is signed, but this agent cannot read it: {error}") from error


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except DownloadLengthMismatchError as error:
        raise RefusedError(f"{url}: {_told(error)}") from error
    except DownloadError as error:
        raise FetchError(f"the update server cannot be asked: {_told(error)}") from error
    except RepositoryError as error:
        refused = RefusedError(f"{url}: metadata refused: {_told(error)}")
        refused.add_note("nothing was changed; report this to the operator of the update repository")
        raise refused from error


def _told(error: BaseException) -> str:
    cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
    return f"{error or type(error).__name__}{cause}"


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
