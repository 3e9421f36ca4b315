"""A signed repository as files for a fake web server, made with the reference library and not with our own code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
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
from tests.fakes.http_server import Site

ROLES = ("root", "targets", "snapshot", "timestamp", "releases", "channels")
FAR = timedelta(days=400)


@dataclass
class SignedSite:
    """Publish with `put`, then `write` into a site; keys can be swapped to sign with the wrong one."""

    site: Site
    signers: dict[str, CryptoSigner] = field(
        default_factory=lambda: {r: CryptoSigner.generate_ed25519() for r in ROLES}
    )
    trusted: dict[str, CryptoSigner] = field(default_factory=dict)
    version: int = 1
    targets: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"releases": {}, "channels": {}})
    withdrawn: dict[str, str] = field(default_factory=dict)
    timestamp_expires: datetime | None = None
    root_bytes: bytes = b""

    def __post_init__(self) -> None:
        self.trusted = dict(self.signers)
        root = Root(version=1, expires=soon(), consistent_snapshot=True)
        for role in ROLES[:4]:
            root.add_key(self.trusted[role].public_key, role)
        self.root_bytes = self._signed(root, "root")

    def put(self, path: str, document: object) -> None:
        """Add a target document; its folder decides which role signs it."""
        data = document if isinstance(document, bytes) else strict.dump_json(document)
        self.targets[path.split("/", 1)[0]][path] = data

    def withdraw(self, path: str, reason: str) -> None:
        """Mark a target as `twinhull repo withdraw` does."""
        self.withdrawn[path] = reason

    def write(self) -> None:
        """Sign everything anew with a higher version and put it on the site."""
        number = self.version
        files = self.site.files
        meta = {}
        for role, found in self.targets.items():
            listed = {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in found.items()}
            for path in self.withdrawn.keys() & listed.keys():
                listed[path].unrecognized_fields["custom"] = {"withdrawn": self.withdrawn[path]}
            files[f"/metadata/{number}.{role}.json"] = self._signed(
                Targets(number, expires=soon(), targets=listed), role
            )
            meta[f"{role}.json"] = MetaFile(number)
            for path, data in found.items():
                folder, _, name = path.rpartition("/")
                files[f"/targets/{folder}/{hashlib.sha256(data).hexdigest()}.{name}"] = data
        files[f"/metadata/{number}.targets.json"] = self._signed(self._top(number), "targets")
        meta["targets.json"] = MetaFile(number)
        files[f"/metadata/{number}.snapshot.json"] = self._signed(
            Snapshot(number, expires=soon(), meta=meta), "snapshot"
        )
        expires = self.timestamp_expires or soon()
        stamp = Timestamp(number, expires=expires, snapshot_meta=MetaFile(number))
        files["/metadata/timestamp.json"] = self._signed(stamp, "timestamp")
        self.version += 1

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
        metadata.sign(self.signers[role])
        return metadata.to_bytes()


def soon() -> datetime:
    return datetime.now(tz=UTC).replace(microsecond=0) + FAR
