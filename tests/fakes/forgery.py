"""What an attacker, or an accident, does to a repository: documents changed, signed by whoever has keys."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, MetaFile

from bedrock import strict
from keys.passphrase import NoPassphrase
from keys.roles import TufRole
from keys.signers import open_signers
from tests.fakes.builds import NOW, Publisher
from updater.repository.commit import commit
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.publish import init_repository
from updater.repository.targets import write_target

Change = Callable[[Any], None]


def no_change(_signed: Any) -> None:
    """Leave the content as it is."""


def strangers_key() -> Signer:
    """A valid key that is not trusted."""
    return CryptoSigner.generate_ed25519()


def own_keys(workshop: Publisher, role: TufRole) -> tuple[Signer, ...]:
    """The keys the repository trusts for a role."""
    return open_signers(workshop.access.keyring, role, NoPassphrase())


def resign(workshop: Publisher, role: TufRole, signers: Sequence[Signer], *, change: Change = no_change) -> None:
    """Change and sign the current document of a role in place, and sign an honest snapshot and timestamp over it.

    This is what somebody with the online keys can do who does not hold the role's own.
    """
    layout = Layout(workshop.base)
    state = load_state(layout, None)
    document = state.documents()[role]
    metadata: Metadata[Any] = Metadata.from_bytes(document.raw)
    change(metadata.signed)
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    raw = metadata.to_bytes()
    if role is TufRole.TIMESTAMP:
        layout.timestamp_file.write_bytes(raw)
        return
    layout.role_file(role, metadata.signed.version).write_bytes(raw)
    if role is TufRole.SNAPSHOT:
        resign_timestamp(workshop, MetaFile.from_data(metadata.signed.version, raw, ["sha256"]))
        return
    snapshot = state.snapshot.copy()
    snapshot.meta[f"{role.value}.json"] = MetaFile.from_data(metadata.signed.version, raw, ["sha256"])
    snapshot.version += 1
    signed: Metadata[Any] = Metadata(snapshot)
    signed.sign(own_keys(workshop, TufRole.SNAPSHOT)[0])
    data = signed.to_bytes()
    layout.role_file(TufRole.SNAPSHOT, snapshot.version).write_bytes(data)
    resign_timestamp(workshop, MetaFile.from_data(snapshot.version, data, ["sha256"]))


def resign_timestamp(workshop: Publisher, snapshot: MetaFile) -> None:
    """Sign the next timestamp, naming this snapshot."""
    layout = Layout(workshop.base)
    metadata: Metadata[Any] = Metadata.from_bytes(layout.timestamp_file.read_bytes())
    metadata.signed.version += 1
    metadata.signed.snapshot_meta = snapshot
    metadata.sign(own_keys(workshop, TufRole.TIMESTAMP)[0])
    layout.timestamp_file.write_bytes(metadata.to_bytes())


def swap_release(workshop: Publisher, version: str, *, seed: int) -> str:
    """Put another build under the name of a published release; gives the SHA-256 of its document.

    This is what somebody with the keys of releases, snapshot and timestamp can do, and who cannot sign channels.
    """
    scratch = workshop.folder / f"swapped-{version}-{seed}"
    scratch.mkdir()
    theirs = Publisher(scratch, workshop.access)
    init_repository(theirs.base, theirs.access, lifetimes=Lifetimes(), now=NOW)
    (publication,) = theirs.publish(version, seed=seed)
    layout = Layout(workshop.base)
    shutil.copytree(theirs.base / "objects", layout.objects, dirs_exist_ok=True)
    path = publication.release.target_path
    target = write_target(layout, path, strict.dump_json(publication.release))

    def change(signed: Any) -> None:
        signed.version += 1
        signed.targets[path] = target

    resign(workshop, TufRole.RELEASES, own_keys(workshop, TufRole.RELEASES), change=change)
    return target.hashes["sha256"]


def expire(workshop: Publisher, role: TufRole) -> None:
    """Sign a role with its own keys so that it expired a day before NOW."""
    signers = workshop.access.open(role, TufRole.SNAPSHOT, TufRole.TIMESTAMP)
    layout = Layout(workshop.base)
    state = load_state(layout, None)
    lifetimes = Lifetimes()
    content = {} if role.online else {role: state.documents()[role].copy()}
    then = NOW - timedelta(days=1) - (lifetimes.expiry(role, NOW) - NOW)
    commit(layout, state, changed=content, signers=signers, lifetimes=lifetimes, now=then)
