"""Brings the artifacts of a release: fetched through the network side, checked here, kept, and then unpacked.

Rules: `prepare` brings and checks all of it before the other slot is touched, where `/var` has the room; a host without
room streams instead, after it saw the first bytes of each object.  The hash of an object is computed here, from the
bytes that are kept; what is unpacked from it is checked on the disk by whoever writes it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bedrock.errors import TwinhullError
from bedrock.progress import Progress
from updater.agent.install import Sink
from updater.agent.spool import Kept, Spool
from updater.documents.release import Artifact, Compression, Release, StoredObject
from updater.errors import FetchError, RefusedError, UpdaterError
from updater.transfer.connection import NetworkSide
from updater.transfer.messages import FetchObject

# Enough to see that the server has an object and that it is what its name says.
PROBE_BYTES = 256 << 10
_READ_BYTES = 1 << 20
_JOIN_S = 1.0
_log = logging.getLogger(__name__)


@dataclass
class ObjectSource:
    """An `ArtifactSource` over a network side; `another` gives a second one, for a host that cannot keep objects."""

    network: NetworkSide
    spool: Spool
    another: Callable[[], NetworkSide]
    transferred_bytes: int = 0
    _streaming: bool = False
    # The numbers of the servers in the order in which each is asked alone, once bytes of several made a wrong object.
    _one_by_one: list[int] = field(default_factory=list)

    def prepare(self, release: Release, progress: Progress) -> None:
        """Bring everything that the release needs, as far as this host can keep it (writes to the disk).

        Raises:
            RefusedError: The bytes are not those that were signed.
            FetchError: They could not be fetched.
        """
        self._prepare((release.artifacts.uki, release.artifacts.root, release.artifacts.verity), progress)
        # What is unpacked after this goes to the other slot: by a worker that no server has spoken to.
        self.network.renew()

    def _prepare(self, artifacts: Sequence[Artifact], progress: Progress) -> None:
        wanted = [chosen_object(artifact) for artifact in artifacts]
        trouble = self._trouble(wanted) or self._keep_all(wanted, progress)
        self._streaming = trouble is not None
        if self._streaming:
            _log.warning("%s %s: it is installed while it arrives", self.spool.folder, trouble)
            self.spool.clear()
            for artifact in artifacts:
                self._probe(artifact)

    def copy(self, artifact: Artifact, sink: Sink, progress: Progress, *, hash_raw: bool) -> None:
        """Write the artifact's raw bytes to `sink`.

        Raises:
            RefusedError: Hash or length differ from what is signed, or it does not unpack.
            FetchError: On a host that cannot keep objects: it could not be fetched.
        """
        counted = _Counted(artifact, sink, progress, hashed=hash_raw)
        stored = chosen_object(artifact)
        with self._packed(stored) as handle:
            if stored.compression is Compression.ZSTD:
                self.network.unpack(handle, artifact.size_bytes, counted.add, arriving=self._streaming)
            else:
                _pour(handle, counted.add)
        counted.check()

    def clear(self) -> None:
        """Remove what was kept from the disk."""
        self.spool.clear()

    def _trouble(self, wanted: Sequence[StoredObject]) -> str | None:
        """Why nothing can be kept, if so (writes to the disk)."""
        try:
            self.spool.keep_only(wanted)
            return None if self.spool.has_room(wanted) else "has no room for the update before it is installed"
        except OSError as error:
            return f"cannot keep the update ({error.strerror or error})"

    def _keep_all(self, wanted: Sequence[StoredObject], progress: Progress) -> str | None:
        """Keep all of them; why the disk takes no more of them, if so (writes to it)."""
        try:
            for stored, what in zip(wanted, ("boot entry", "root", "verity tree"), strict=True):
                self._keep(stored, what, progress)
        except OSError as error:
            # Others write to the disk, too: what had room when it was asked about may not have it any more.
            return f"takes no more of the update ({error.strerror or error})"
        return None

    def _keep(self, stored: StoredObject, what: str, progress: Progress) -> None:
        with self.spool.appending(stored) as kept:
            progress.step(f"download {what}", total=stored.size_bytes)
            progress.advance(kept.size_bytes)
            if not self._one_by_one and not kept.is_whole():
                url = self._fetch_rest(stored, kept, progress)
                if not kept.is_whole():
                    # Who sent what of it is not known, nor what was kept from before: nobody is blamed for it.
                    _log.warning("%s; each server is asked alone", _wrong(stored, kept, f"{url} and what came before"))
                    self._one_by_one = list(range(self.network.servers))
            if not kept.is_whole():
                self._keep_from_one(stored, kept, progress)

    def _keep_from_one(self, stored: StoredObject, kept: Kept, progress: Progress) -> None:
        """Keep an object that one server alone sends; whoever fails is asked last from then on."""
        errors: list[UpdaterError] = []
        for server in tuple(self._one_by_one):
            kept.restart()
            try:
                url = self._fetch_rest(stored, kept, progress, only=server)
            except (FetchError, RefusedError) as error:
                errors.append(error)
            else:
                if kept.is_whole():
                    return
                errors.append(_wrong(stored, kept, url))
            _log.warning("%s", errors[-1])
            self._one_by_one.remove(server)
            self._one_by_one.append(server)
        kept.restart()
        raise errors[-1]

    def _fetch_rest(self, stored: StoredObject, kept: Kept, progress: Progress, *, only: int | None = None) -> str:
        def add(data: memoryview) -> None:
            kept.add(data)
            self.transferred_bytes += len(data)
            progress.advance(len(data))

        wanted = FetchObject(stored.path, stored.size_bytes, kept.size_bytes, stored.size_bytes)
        try:
            return self.network.object(wanted, add, only=only)
        finally:
            kept.sync()

    @contextmanager
    def _packed(self, stored: StoredObject) -> Iterator[int]:
        """A handle that the stored bytes of an object can be read from."""
        if self._streaming:
            with self._arriving(stored) as handle:
                yield handle
        else:
            with self.spool.reading(stored) as handle:
                yield handle

    @contextmanager
    def _arriving(self, stored: StoredObject) -> Iterator[int]:
        """The same for an object that arrives meanwhile, through a second network side and a thread."""
        network = self.another()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        errors: list[Exception] = []
        thread = threading.Thread(target=self._pump, args=(network, stored, writer, errors), daemon=True)
        thread.start()
        try:
            yield reader
            thread.join(_JOIN_S)
        except (TwinhullError, OSError) as error:
            thread.join(_JOIN_S)
            # What could not be fetched is why it could not be unpacked.
            raise (errors[0] if errors else error) from None
        finally:
            os.close(reader)
            network.close()
        if errors:
            raise errors[0]

    def _pump(self, network: NetworkSide, stored: StoredObject, writer: int, errors: list[Exception]) -> None:
        digest = hashlib.sha256()

        def add(data: memoryview) -> None:
            digest.update(data)
            self.transferred_bytes += len(data)
            view = data
            while view:
                view = view[os.write(writer, view) :]

        # The thread's boundary: what goes wrong is raised again by whoever reads.
        try:
            network.object(FetchObject(stored.path, stored.size_bytes, 0, stored.size_bytes), add)
            if digest.hexdigest() != stored.sha256:
                errors.append(RefusedError(f"{stored.path} has hash {digest.hexdigest()}, not the signed one"))
        except Exception as error:  # noqa: BLE001 - handed over, not swallowed
            errors.append(error)
        finally:
            os.close(writer)

    def _probe(self, artifact: Artifact) -> None:
        """See that the first bytes of an object arrive and can be unpacked."""
        stored = chosen_object(artifact)
        first = bytearray()
        stop = min(PROBE_BYTES, stored.size_bytes)

        def add(data: memoryview) -> None:
            first.extend(data)

        self.network.object(FetchObject(stored.path, stored.size_bytes, 0, stop), add)
        if stored.compression is Compression.ZSTD:
            with _in_memory(first) as handle:
                self.network.unpack(handle, artifact.size_bytes, lambda _: None)


class _Counted:
    """Passes raw bytes on, counts them and, where that is wanted, hashes them."""

    def __init__(self, artifact: Artifact, sink: Sink, progress: Progress, *, hashed: bool) -> None:
        self._artifact = artifact
        self._sink = sink
        self._progress = progress
        self._digest = hashlib.sha256() if hashed else None
        self._left = artifact.size_bytes

    def add(self, data: memoryview) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise RefusedError(
                f"artifact {self._artifact.sha256} holds more than the {self._artifact.size_bytes} bytes signed"
            )
        if self._digest is not None:
            self._digest.update(data)
        self._sink.write(data)
        self._progress.advance(len(data))

    def check(self) -> None:
        signed = self._artifact
        if self._left:
            raise RefusedError(
                f"artifact {signed.sha256} holds {self._left} bytes less than the {signed.size_bytes} signed"
            )
        if self._digest is not None and self._digest.hexdigest() != signed.sha256:
            raise RefusedError(f"what should be artifact {signed.sha256} has the hash {self._digest.hexdigest()}")


def _wrong(stored: StoredObject, kept: Kept, source: str) -> RefusedError:
    return RefusedError(f"{stored.path} from {source} has hash {kept.sha256}, not the signed one")


def chosen_object(artifact: Artifact) -> StoredObject:
    """The object to fetch an artifact by: the smallest of those that carry it.

    Raises:
        RefusedError: The release names no object for it.
    """
    if not artifact.objects:
        raise RefusedError(f"the release names no object that carries artifact {artifact.sha256}")
    return min(artifact.objects, key=lambda stored: stored.size_bytes)


def _pour(handle: int, add: Callable[[memoryview], None]) -> None:
    """Pass on everything that can be read from a handle."""
    while data := os.read(handle, _READ_BYTES):
        add(memoryview(data))


@contextmanager
def _in_memory(data: bytes | bytearray) -> Iterator[int]:
    """A handle to read these bytes with."""
    handle = os.memfd_create("probe", os.MFD_CLOEXEC)
    try:
        os.write(handle, data)
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)
