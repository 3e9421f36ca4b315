"""A signed repository as files for a fake web server, made with the reference library and not with our own code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import zstandard
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from bedrock import strict
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.http_server import Site
from tests.fakes.twin_host import BuiltRelease
from updater.documents.channel import Instant
from updater.documents.release import SIGNED_AT, Artifact, Artifacts, Compression, Release, StoredObject

ROLES = ("root", "targets", "snapshot", "timestamp", "releases", "channels")
FAR = timedelta(days=400)
LONG_AGO = Instant(datetime(2020, 1, 1, tzinfo=UTC))

Change = Callable[[Any], None]


@dataclass
class SignedSite:
    """Publish with `put`, then `write` into a site; keys can be swapped to sign with the wrong one."""

    site: Site
    signers: dict[str, CryptoSigner] = field(
        default_factory=lambda: {r: CryptoSigner.generate_ed25519() for r in ROLES}
    )
    more_signers: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    trusted: dict[str, CryptoSigner] = field(default_factory=dict)
    version: int = 1
    targets: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"releases": {}, "channels": {}})
    withdrawn: dict[str, str] = field(default_factory=dict)
    timestamp_expires: datetime | None = None
    signed_at: datetime | None = None
    root_version: int = 1
    root_bytes: bytes = b""

    def __post_init__(self) -> None:
        self.trusted = dict(self.signers)
        self.root_bytes = self._signed(self._root(), "root")
        self.site.files["/metadata/1.root.json"] = self.root_bytes

    def put(self, path: str, document: object) -> None:
        """Add a target document; its folder decides which role signs it."""
        data = document if isinstance(document, bytes) else strict.dump_json(document)
        self.targets[path.split("/", 1)[0]][path] = data

    def withdraw(self, path: str, reason: str) -> None:
        """Mark a target as `twinhull repo withdraw` does."""
        self.withdrawn[path] = reason

    def put_build(self, one: BuiltRelease) -> Release:
        """Add a release with objects that carry its artifacts, and point the channel `stable` to it."""
        named = one.release.artifacts
        carried = (self._carried(artifact, one) for artifact in (named.uki, named.root, named.verity))
        release = replace(one.release, artifacts=Artifacts(*carried))
        self.put(release.target_path, release)
        self.point_to(release)
        return release

    def point_to(self, release: Release) -> None:
        """Point the channel `stable` to a release."""
        channel = channel_at(reference_to(release), LONG_AGO)
        self.put(channel.target_path, channel)

    def _carried(self, artifact: Artifact, one: BuiltRelease) -> Artifact:
        content = zstandard.compress(one.content(artifact), 3)
        stored = StoredObject(hashlib.sha256(content).hexdigest(), len(content), Compression.ZSTD)
        self.site.files[f"/{stored.path}"] = content
        return replace(artifact, objects=(stored,))

    def rotate(self, *roles: str, change: Change = lambda _: None) -> None:
        """Put the next root on the site, with new keys for these roles; the documents follow with the next `write`."""
        before = self.signers["root"]
        for role in roles:
            self.signers[role] = self.trusted[role] = CryptoSigner.generate_ed25519()
        self.root_version += 1
        metadata: Metadata[Any] = Metadata(self._root())
        change(metadata.signed)
        for signer in (before, self.signers["root"]):
            metadata.sign(signer, append=True)
        self.site.files[f"/metadata/{self.root_version}.root.json"] = metadata.to_bytes()

    def _root(self) -> Root:
        root = Root(version=self.root_version, expires=soon(), consistent_snapshot=True)
        if self.signed_at is not None:
            root.unrecognized_fields[SIGNED_AT] = str(Instant.of(self.signed_at))
        for role in ROLES[:4]:
            root.add_key(self.trusted[role].public_key, role)
        return root

    def write(self, **changes: Change) -> None:
        """Sign everything anew with a higher version and put it on the site.

        `changes` are made to the documents of these roles before they are signed; a document keeps the name of its
        version before the change.
        """
        number = self.version
        files = self.site.files
        meta = {}
        for role, found in self.targets.items():
            listed = {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in found.items()}
            for path in self.withdrawn.keys() & listed.keys():
                listed[path].unrecognized_fields["custom"] = {"withdrawn": self.withdrawn[path]}
            document = Targets(number, expires=soon(), targets=listed)
            files[f"/metadata/{number}.{role}.json"] = self._changed(document, role, changes)
            meta[f"{role}.json"] = MetaFile(number)
            for path, data in found.items():
                folder, _, name = path.rpartition("/")
                files[f"/targets/{folder}/{hashlib.sha256(data).hexdigest()}.{name}"] = data
        files[f"/metadata/{number}.targets.json"] = self._changed(self._top(number), "targets", changes)
        meta["targets.json"] = MetaFile(number)
        snapshot = Snapshot(number, expires=soon(), meta=meta)
        files[f"/metadata/{number}.snapshot.json"] = self._changed(snapshot, "snapshot", changes)
        expires = self.timestamp_expires or soon()
        stamp = Timestamp(number, expires=expires, snapshot_meta=MetaFile(number))
        files["/metadata/timestamp.json"] = self._changed(stamp, "timestamp", changes)
        self.version += 1

    def _changed(self, document: Any, role: str, changes: dict[str, Change]) -> bytes:
        if self.signed_at is not None:
            document.unrecognized_fields[SIGNED_AT] = str(Instant.of(self.signed_at))
        changes.get(role, lambda _: None)(document)
        return self._signed(document, role)

    def _top(self, number: int) -> Targets:
        delegations = Delegations({}, {})
        top = Targets(number, expires=soon(), delegations=delegations)
        for role, pattern in (("releases", "releases/*/*/*"), ("channels", "channels/*")):
            delegations.roles = {
                **(delegations.roles or {}),
                role: DelegatedRole(role, [], 1, terminating=True, paths=[pattern]),
            }
            top.add_key(self.trusted[role].public_key, role)
        return top

    def _signed(self, content: Any, role: str) -> bytes:
        metadata: Metadata[Any] = Metadata(content)
        for signer in (self.signers[role], *self.more_signers.get(role, ())):
            metadata.sign(signer, append=True)
        return metadata.to_bytes()


def under_another_name(signer: CryptoSigner, write: Callable[[str], str] = str) -> CryptoSigner:
    """The same key, called something else, and its public half written in another way."""
    key = signer.public_key
    renamed = SSlibKey("ab" * 32, key.keytype, key.scheme, {"public": write(key.keyval["public"])})
    return CryptoSigner(load_pem_private_key(signer.private_bytes, None), renamed)


def soon() -> datetime:
    return datetime.now(tz=UTC).replace(microsecond=0) + FAR
