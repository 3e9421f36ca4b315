"""Revokes the boot chain of releases, or has hosts trust another Secure Boot certificate.

    releases → Authenticode digests of their UKIs → an addition to dbx → KEK's signature → the document
    → targets, snapshot, timestamp

Rules: what hosts are sent to is never revoked unless somebody says so; the UKIs are taken out of the repository and
checked; KEK may sign elsewhere, through a signing request.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from tuf.api.metadata import Targets

from keys.ceremony.request import FORMAT as REQUEST_FORMAT
from keys.ceremony.request import SigningRequest
from keys.ceremony.signing import at_hand, signed_with
from keys.errors import MissingKeyError, RequestMismatchError
from keys.roles import BootRole, TufRole
from keys.secureboot.pe import authenticode_digest
from keys.secureboot.requests import addition_lines, boot_entry, entry_signature
from keys.secureboot.siglist import BootVariable, certificate_list, hash_list
from keys.secureboot.variable import Addition, parse_to_sign
from keys.signers import boot_certificate, open_boot_signer
from updater.documents.boot_trust import BootTrust, BootTrustUpdate
from updater.documents.release import Architecture, Release
from updater.errors import PolicyError, RefusedError, RepositoryError
from updater.repository.access import ONLINE_ROLES, KeyAccess
from updater.repository.ceremony.drafts import request_for
from updater.repository.ceremony.pending import read_pending, write_pending
from updater.repository.channels import ReleaseChoice, channel_names, find_release, read_channel
from updater.repository.commit import commit, completed
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.lock import writing
from updater.repository.metadata import load_state
from updater.repository.objects import extract_object
from updater.repository.revocation.boot_trust import read_boot_trust, with_update
from updater.repository.role_documents import RepositoryState

_ENTRY = "boot-trust"


@dataclass(frozen=True)
class BootChange:
    """What is to be added for the hosts of an image, and the same in words."""

    image: str
    architecture: Architecture
    variable: BootVariable
    lists: bytes
    reason: str


@dataclass(frozen=True)
class BootTrustChanged:
    """The outcome.

    Attributes:
        trust: The image's boot trust; hosts see it once `ceremony` has ended.
        new: Whether it differs from before.
        ceremony: What targets is still asked for, or what waits for the online keys; None when it is valid.
    """

    trust: BootTrust
    new: bool
    ceremony: SigningRequest | None = None


@dataclass(frozen=True)
class TrustWriting:
    """What every change of the boot trust is given.

    Attributes:
        access: The key KEK (unless it signed already), and those of targets, snapshot and timestamp that are here.
        lifetimes: How long signatures last.
        now: The moment of signing.
        request: A request that KEK signed somewhere else.
        wait_s: How long to wait for another command that changes the repository.
    """

    access: KeyAccess
    lifetimes: Lifetimes
    now: datetime
    request: SigningRequest | None = None
    wait_s: float = 0.0


def revocation_of(base: Path, choices: Sequence[ReleaseChoice], reason: str, *, force: bool = False) -> BootChange:
    """What revoking the boot chains of releases means; reads the repository.

    Args:
        base: The repository.
        choices: The releases, of one image and architecture.
        reason: Why, for people.
        force: Revoke even what a channel names.

    Raises:
        RepositoryError: One is not published.
        RefusedError: Signatures or hashes do not hold.
        PolicyError: A channel names one, or they are of several images.
        PeFormatError: A UKI is not a program.
    """
    layout = Layout(base)
    state = load_state(layout, None)
    releases = [find_release(layout, state, choice) for choice in choices]
    if len({(release.image, release.architecture) for release in releases}) != 1:
        raise PolicyError("revoke releases of one image and one architecture at a time")
    if not force:
        _refuse_named(layout, state, releases)
    names = ", ".join(f"{release.image} {release.version}" for release in releases)
    return BootChange(
        releases[0].image,
        releases[0].architecture,
        BootVariable.DBX,
        hash_list(_uki_digest(layout, release) for release in releases),
        f"{names}: {reason}",
    )


def trusting(image: str, architecture: Architecture, certificate: x509.Certificate, reason: str) -> BootChange:
    """What trusting another certificate of db means."""
    subject, digest = certificate.subject.rfc4514_string(), certificate.fingerprint(SHA256()).hex()
    lists = certificate_list(certificate.public_bytes(Encoding.DER))
    return BootChange(image, architecture, BootVariable.DB, lists, f"{subject} ({digest[:16]}…): {reason}")


def kek_request(change: BootChange, access: KeyAccess, *, now: datetime) -> SigningRequest:
    """A request for KEK's signature.

    Raises:
        MissingKeyError: The keyring has no certificate of KEK.
    """
    addition = Addition(change.variable, now.replace(microsecond=0), change.lists)
    certificate = boot_certificate(access.keyring.boot_key(BootRole.KEK))
    entry = boot_entry(
        _ENTRY,
        addition.to_sign(),
        role=BootRole.KEK,
        certificate=certificate,
        description=(change.reason, *addition_lines(addition)),
    )
    return SigningRequest(REQUEST_FORMAT, f"{change.variable.value} of {change.image}", change.reason, (entry,))


def publish_change(base: Path, change: BootChange, given: TrustWriting) -> BootTrustChanged:
    """Sign an addition and publish it in the repository on the disk; one that adds nothing new writes nothing.

    Raises:
        MissingKeyError: KEK cannot sign here.
        RequestMismatchError: The request asks for something else.
        UnrequestedKeyError: KEK has not signed the request.
        RefusedError: The repository's signatures do not hold.
        RepositoryError: Signatures are being collected for something else.
        DocumentError: There are too many updates.
        BusyError: Somebody else is changing the repository.
    """
    layout = Layout(base)
    with writing(layout, wait_s=given.wait_s):
        state = load_state(layout, given.access.keyring)
        trust = read_boot_trust(layout, state, change.image, change.architecture)
        wanted = Addition(change.variable, given.now.replace(microsecond=0), change.lists)
        known = [update.signatures for update in trust.updates if update.variable is change.variable]
        if wanted.signatures <= frozenset().union(*known):
            done = completed(layout, state, access=given.access, lifetimes=given.lifetimes, now=given.now)
            return BootTrustChanged(trust, new=done is not state)
        payload = _signed(wanted, given)
        signers = given.access.open_if_present(TufRole.TARGETS, *ONLINE_ROLES)
        if not signers:
            _require_no_ceremony(layout)
        update = BootTrustUpdate.of(payload, variable=change.variable, reason=change.reason)
        changed = with_update(layout, state, trust, update)
        grown = replace(trust, updates=(*trust.updates, update))
        if not signers:
            return BootTrustChanged(grown, new=True, ceremony=_ceremony(layout, state, changed, change, given))
        commit(
            layout, state, changed={TufRole.TARGETS: changed}, signers=signers, lifetimes=given.lifetimes, now=given.now
        )
        return BootTrustChanged(grown, new=True)


def _ceremony(
    layout: Layout, state: RepositoryState, changed: Targets, change: BootChange, given: TrustWriting
) -> SigningRequest:
    """Begin to collect the signatures of targets, with those of the keys that are here."""
    asked = request_for(
        layout,
        state,
        {TufRole.TARGETS: changed},
        keyring=given.access.keyring,
        reason=change.reason,
        lifetimes=given.lifetimes,
        now=given.now,
    )
    request = signed_with(asked, at_hand(asked, given.access.keyring, given.access.passphrase))
    write_pending(layout, request)
    return request


def _require_no_ceremony(layout: Layout) -> None:
    under_way = read_pending(layout)
    if under_way is not None:
        raise RepositoryError(f"signatures are being collected for {under_way.title}").with_hint(
            f"end that first: twinhull root apply {layout.base} FILE"
        )


def _signed(wanted: Addition, given: TrustWriting) -> bytes:
    """What is appended, signed by KEK here or in the request that came back."""
    key = given.access.keyring.boot_key(BootRole.KEK)
    if given.request is None:
        try:
            signer = open_boot_signer(given.access.keyring, BootRole.KEK, given.access.passphrase)
        except MissingKeyError as error:
            raise error.with_hint("to sign where KEK is, write a request with --request FILE") from error.__cause__
        return wanted.payload(signer.sign(wanted.to_sign()), signer.certificate)
    entries = [entry for entry in given.request.entries if entry.name == _ENTRY]
    try:
        asked = parse_to_sign(entries[0].payload.content) if entries else None
    except ValueError:
        asked = None
    if asked is None or (asked.variable, asked.signatures) != (wanted.variable, wanted.signatures):
        raise RequestMismatchError("the signing request does not ask for this change").with_hint(
            "give the same releases and the same certificate as when it was written, or another FILE"
        )
    certificate = boot_certificate(key)
    return asked.payload(entry_signature(entries[0], certificate), certificate)


def _refuse_named(layout: Layout, state: RepositoryState, releases: Sequence[Release]) -> None:
    """Refuse to revoke what a channel sends hosts to."""
    paths = {release.target_path: release for release in releases}
    for name in channel_names(state):
        for path in read_channel(layout, state, name).release_paths:
            if path in paths:
                named = f"{paths[path].image} {paths[path].version}"
                raise PolicyError(
                    f"the channel {name} sends hosts to {named}, and they could not start it any more"
                ).with_hint("point it, and its floor, to another release first (twinhull channel set), or add --force")


def _uki_digest(layout: Layout, release: Release) -> bytes:
    artifact = release.artifacts.uki
    if not artifact.objects:
        raise RefusedError(f"{release.target_path}: no object carries the UKI")
    with tempfile.TemporaryDirectory(prefix="twinhull-revoke-") as scratch:
        uki = Path(scratch) / "uki.efi"
        extract_object(layout.object_file(artifact.objects[0]), artifact.objects[0], artifact, uki)
        return authenticode_digest(uki)
