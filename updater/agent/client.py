"""The signed metadata: the only module of the agent that knows TUF.

Everything returned here was verified from the root baked into the image; metadata already seen are kept, so that older
ones are refused later.  The bytes come from the agent's network side, which is not trusted.
Errors of the library become `RefusedError` (verification) or `FetchError` (transport).
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import IO

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Key, Metadata, Role, Root, Signed, TargetFile, Targets

from bedrock import persist
from bedrock.digest import bytes_sha256
from bedrock.errors import DocumentError
from bedrock.regular_files import read_regular
from partitions.version import Version
from updater.agent.kept_metadata import MAX_METADATA_BYTES
from updater.documents import boot_trust as boot_trusts
from updater.documents import channel as channels
from updater.documents import release as releases
from updater.documents.boot_trust import BootTrust, boot_trust_path
from updater.documents.channel import Channel, Instant
from updater.documents.release import SIGNED_AT, Architecture, SignedRelease
from updater.errors import FetchError, PolicyError, RefusedError
from updater.transfer.connection import NetworkSide, Received


@contextmanager
def _without_its_network() -> Iterator[None]:
    """Import the library without its own way to a server, which brings HTTP and TLS into the process."""
    name = "tuf.ngclient.urllib3_fetcher"
    if name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)
    stand_in.__dict__["Urllib3Fetcher"] = type("Urllib3Fetcher", (), {})
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        # Whoever wants it imports it.
        del sys.modules[name]


with _without_its_network():
    from tuf.ngclient.config import UpdaterConfig
    from tuf.ngclient.fetcher import FetcherInterface
    from tuf.ngclient.updater import Updater

TIMESTAMP_PATH = "metadata/timestamp.json"
_LIMITS = UpdaterConfig(
    # Each has to be signed by the one before; a host that was off for years follows all of them.
    max_root_rotations=4096,
    max_delegations=8,
    root_max_length=256 << 10,
    timestamp_max_length=16 << 10,
    snapshot_max_length=1 << 20,
    targets_max_length=MAX_METADATA_BYTES,
)
_BAD_CONTENT = (RepositoryError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


# How far behind a clock may be before that is worth a word.
CLOCK_TOLERANCE = timedelta(hours=1)


@dataclass(frozen=True)
class Accepted:
    """What this host accepts: releases of this image and architecture."""

    image: str
    architecture: Architecture


class TrustedRepository:
    """The repository as its signatures describe it; one object per request, which refreshes metadata once."""

    def __init__(
        self, accepted: Accepted, *, metadata_dir: Path, root: bytes, network: NetworkSide, now: datetime
    ) -> None:
        """Open the metadata kept in `metadata_dir` (written to), rooted in the baked `root`.

        Raises:
            RefusedError: The baked root cannot be used.
        """
        self._accepted = accepted
        self._metadata_dir = metadata_dir
        self._root = root
        self._now = now
        self._remarks: list[str] = []
        metadata_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._fetcher = _Fetcher(network, metadata_dir)
        self._seen = self._fetcher.kept_timestamp()
        try:
            self._baked = Metadata[Root].from_bytes(root).signed
            _drop_older_roots(metadata_dir, self._baked.version)
            self._updater = self._opened()
        except _BAD_CONTENT as error:
            raise RefusedError(f"the image's own root of trust cannot be used: {_told(error)}").with_hint(
                "update by another disk image: nothing that a server says can be checked against this one"
            ) from error

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of metadata that were accepted: an older edge, a wrong clock."""
        return tuple(self._remarks)

    @property
    def has_news(self) -> bool:
        """Whether the refresh brought a timestamp that this host had not seen."""
        return self._fetcher.kept_timestamp() != self._seen

    def _opened(self) -> Updater:
        return Updater(
            metadata_dir=str(self._metadata_dir),
            metadata_base_url="metadata/",
            target_base_url="targets/",
            fetcher=self._fetcher,
            config=_LIMITS,
            bootstrap=self._root,
        )

    def refresh(self) -> None:
        """Fetch and verify the newest metadata and keep them on the disk, durably.

        Raises:
            RefusedError: Signature, threshold, version or expiry do not hold.
            FetchError: The server cannot be reached.
        """
        try:
            with self._translated():
                self._refresh()
        finally:
            # Also what was followed before something went wrong: the next refresh goes on from there.
            self._sync()
        self._check_kept("root", "timestamp", "snapshot", "targets")

    def _refresh(self) -> None:
        try:
            self._updater.refresh()
        except BadVersionNumberError:
            if not self._fetcher.offers_older:
                raise
            # An edge of a content network may be behind for a while.  The kept timestamp was verified, and its expiry
            # bounds for how long an older one can be shown; so this is not newer, and not an attack either.
            self._remark("the server shows older metadata than this host has seen; those are kept")
            self._fetcher.keeps_timestamp = True
            self._updater = self._opened()
            self._updater.refresh()

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
        path = releases.release_path(self._accepted.image, version, self._accepted.architecture)
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

    def boot_trust(self) -> BootTrust | None:
        """What the firmware of this image's hosts may start or not any more; None when there is nothing.

        Raises:
            RefusedError: It does not verify, or is meant for another image or architecture.
            FetchError: It cannot be fetched.
        """
        path = boot_trust_path(self._accepted.image, self._accepted.architecture)
        info = self._known(path)
        if info is None:
            return None
        data = self._target(info, boot_trusts.MAX_DOCUMENT_BYTES)
        with _refusing_bad_documents(path):
            found = boot_trusts.parse_boot_trust(data, source=path)
        self._check_meant_for_us(path, found.image, found.architecture)
        return found

    def _check_meant_for_us(self, path: str, image: str, architecture: Architecture) -> None:
        wanted = self._accepted
        if (image, architecture) != (wanted.image, wanted.architecture):
            raise RefusedError(
                f"{path} is meant for image {image} on {architecture.value}, "
                f"this host runs {wanted.image} on {wanted.architecture.value}"
            )

    def _info(self, path: str) -> TargetFile:
        """What the verified metadata say of a target, which must be there."""
        info = self._known(path)
        if info is None:
            raise FetchError(f"the update repository has no {path}")
        return info

    def _known(self, path: str) -> TargetFile | None:
        """What the verified metadata say of a target, if they name it."""
        try:
            with self._translated():
                info = self._updater.get_targetinfo(path)
        finally:
            self._sync()
        # The delegated role that signs a target is named like the folder of its path.
        self._check_kept(path.partition("/")[0])
        return info

    def _target(self, info: TargetFile, limit: int) -> bytes:
        if info.length > limit:
            raise RefusedError(f"{info.path} is {info.length} bytes long, at most {limit} are read")
        folder, _, name = info.path.rpartition("/")
        with self._translated():
            data = self._fetcher.download_bytes(
                f"targets/{folder}/{next(iter(info.hashes.values()))}.{name}", info.length
            )
            info.verify_length_and_hashes(data)
        return data

    def _check_kept(self, *roles: str) -> None:
        """Check what the library does not: expiry by a clock that cannot be set back, and keys that count twice.

        Raises:
            RefusedError: A document is expired, or a role of it could be signed by fewer keys than it says.
        """
        documents: dict[str, Signed] = {}
        for path in (self._metadata_dir / f"{role}.json" for role in roles):
            if path.exists():
                with self._translated():
                    documents[path.name] = Metadata.from_bytes(path.read_bytes()).signed
        floor = _signed_at((self._baked, *documents.values()), default=self._now)
        if self._now < floor - CLOCK_TOLERANCE:
            self._remark(f"{self._clock_words()}, and it is after {Instant.of(floor)}")
        for name, signed in documents.items():
            if signed.is_expired(floor):
                raise RefusedError(
                    f"{name} expired at {Instant.of(signed.expires)}, and it is after {Instant.of(floor)}, when what "
                    f"this host trusts was signed; {self._clock_words()}"
                ).with_hint("set the clock of this host, or report this to the operator of the update repository")
            for role, keys in _roles(signed):
                _require_threshold(name, role, keys)

    def _remark(self, text: str) -> None:
        if text not in self._remarks:
            self._remarks.append(text)

    def _sync(self) -> None:
        """The library replaces files without syncing them; a power cut must not bring an older one back."""
        for path in sorted(self._metadata_dir.rglob("*.json")):
            if path.is_file() and not path.is_symlink():
                _sync_file(path)
        for folder in (self._metadata_dir / "root_history", self._metadata_dir):
            if folder.is_dir():
                persist.sync_folder(folder)

    def _clock_words(self) -> str:
        return f"this host's clock says {Instant.of(self._now)}"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the library's errors into ours."""
        try:
            yield
        except ExpiredMetadataError as error:
            raise RefusedError(f"metadata refused: {error}; {self._clock_words()}").with_hint(
                "if the clock is right, report this to the operator of the update repository; nothing was changed"
            ) from error
        except DownloadLengthMismatchError as error:
            raise RefusedError(_told(error)) from error
        except DownloadError as error:
            if isinstance(error.__cause__, FetchError | RefusedError):
                raise error.__cause__ from None
            raise FetchError(f"the update server cannot be asked: {_told(error)}") from error
        except _BAD_CONTENT as error:
            raise RefusedError(f"metadata refused: {_told(error)}").with_hint(
                "nothing was changed; report this to the operator of the update repository"
            ) from error


class _Fetcher(FetcherInterface):
    """Metadata and target documents from the network side, which bounds their length and their time.

    `offers_older` says whether the timestamp that came names itself older than the kept one; with `keeps_timestamp`
    the kept one is handed over instead.
    """

    def __init__(self, network: NetworkSide, metadata_dir: Path) -> None:
        self._network = network
        self._kept = metadata_dir / "timestamp.json"
        self.offers_older = False
        self.keeps_timestamp = False

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, MAX_METADATA_BYTES)

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """A document as a file in memory."""
        yield io.BytesIO(self.download_bytes(url, max_length))

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """A document; `url` is its path below the repository."""
        if max_length > MAX_METADATA_BYTES:
            raise DownloadLengthMismatchError(
                f"{url} is said to be {max_length} bytes long, at most {MAX_METADATA_BYTES} are read"
            )
        if url == TIMESTAMP_PATH and self.keeps_timestamp:
            return read_regular(self._kept, MAX_METADATA_BYTES)
        try:
            found = self._network.document(url, max_length)
            _require_json(url, found)
        except FetchError as error:
            if error.status is not None:
                raise DownloadHTTPError(str(error), error.status) from error
            raise DownloadError(str(error)) from error
        except RefusedError as error:
            raise DownloadError(str(error)) from error
        if url == TIMESTAMP_PATH:
            self.offers_older = self._is_older(found.content)
        return found.content

    def kept_timestamp(self) -> bytes:
        """The timestamp on the disk; empty when there is none that can be read."""
        try:
            return read_regular(self._kept, MAX_METADATA_BYTES)
        except OSError:
            return b""

    def _is_older(self, offered: bytes) -> bool:
        try:
            return _version_of(offered) < _version_of(read_regular(self._kept, MAX_METADATA_BYTES))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return False


def _signed_at(documents: Iterable[Signed], *, default: datetime) -> datetime:
    """When the newest of verified documents was signed, which is past whatever a clock says; they say it themselves."""
    moments = []
    for signed in documents:
        try:
            moments.append(Instant.from_text(signed.unrecognized_fields[SIGNED_AT]).when)
        except (KeyError, ValueError, TypeError):
            continue
    return max(moments, default=default)


def _version_of(data: bytes) -> int:
    version = json.loads(data)["signed"]["version"]
    if type(version) is not int:
        raise TypeError("a version must be a number")
    return version


def _require_json(url: str, found: Received) -> None:
    """Say what came, where a portal or a proxy answers instead of the server."""
    if found.content.lstrip()[:1] == b"{" or url.startswith("targets/"):
        return
    what = found.content_type or "something without a type"
    if found.content.lstrip()[:1] == b"<" or "html" in what:
        what = "a web page"
    raise FetchError(f"{found.url}: {what} came instead of {url}").with_hint(
        "does `url:` point to a repository, and is the network one that asks to log in first?"
    )


def _roles(signed: Signed) -> Iterator[tuple[str, tuple[Role, dict[str, Key]]]]:
    if isinstance(signed, Root):
        for name, role in signed.roles.items():
            yield name, (role, signed.keys)
    elif isinstance(signed, Targets) and signed.delegations is not None:
        for name, delegated in (signed.delegations.roles or {}).items():
            yield name, (delegated, signed.delegations.keys)


def _require_threshold(document: str, name: str, found: tuple[Role, dict[str, Key]]) -> None:
    """Refuse a role that fewer keys than its threshold could sign for: one key under two names counts once."""
    role, keys = found
    different = {_material(keys[keyid]) for keyid in role.keyids if keyid in keys}
    if type(role.threshold) is not int or len(different) < len(role.keyids):
        raise RefusedError(
            f"{document}: the role {name} has the threshold {role.threshold!r} and names {len(role.keyids)} keys, "
            f"of which {len(different)} are different"
        )


def _material(key: Key) -> bytes:
    """What a key is, however it is written: its bytes, or what is there for one of a kind that cannot sign here."""
    public = str(key.keyval.get("public"))
    try:
        if "-----BEGIN" in public:
            form = serialization.PublicFormat.SubjectPublicKeyInfo
            return load_pem_public_key(public.encode()).public_bytes(serialization.Encoding.DER, form)
        return bytes.fromhex(public)
    except (ValueError, UnsupportedAlgorithm):
        return repr((key.keytype, key.keyval)).encode()


def _drop_older_roots(metadata_dir: Path, baked: int) -> None:
    """Remove from the disk the roots before the baked one, which nothing follows any more."""
    for path in (metadata_dir / "root_history").glob("*.root.json"):
        number = path.name.partition(".")[0]
        if number.isdigit() and int(number) < baked:
            path.unlink()


@contextmanager
def _refusing_bad_documents(path: str) -> Iterator[None]:
    """Refuse a signed document that cannot be read, like an unsigned one."""
    try:
        yield
    except DocumentError as error:
        raise RefusedError(f"{path} is signed, but this agent cannot read it: {error}") from error


def _told(error: BaseException) -> str:
    cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
    return f"{error or type(error).__name__}{cause}"


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
