"""Provisioning in one boot: reads the documents, chooses one, applies it, and records the result.

A document that cannot be read or applied never stops a boot: it is recorded and reported, and the boot goes on.  Nor
does it end the first boot, so that a corrected document counts at the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bedrock import persist, strict
from bedrock.errors import DocumentError, TwinhullError
from updater.agent.provisioning.applying import Done, ProvisionedHost, apply, write_bundle
from updater.agent.provisioning.ways import OWN, boot_credentials, find_documents, hand_on
from updater.documents.channel import Instant
from updater.errors import PolicyError, UpdaterError
from updater.etc_policy import EtcMode, EtcPolicy
from updater.provision.encrypted import is_encrypted
from updater.provision.files import CERTIFICATES_FILE, files_of
from updater.provision.policy import Candidate, Policy, Unsigned, decide
from updater.provision.reading import CREDENTIAL, MAX_OFFERED_BYTES, Offered, read_offered
from updater.provision.record import REASON_LIMIT, Applied, ProvisionRecord, Trouble, Way, parse_record

RECORD_NAME = "provision.json"
# The signed document in force as it came, an encrypted one still encrypted.
DOCUMENT_NAME = "provision-document"
# Exists while a document is being applied, and stays when that failed: then the first boot is not over.
UNDER_WAY = "run/twinhull/provisioning"
_log = logging.getLogger(__name__)


class RecordStore:
    """The record in `/var/lib/twinhull`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD_NAME
        self.document_path = folder / DOCUMENT_NAME

    def load(self) -> ProvisionRecord:
        """The record; if it cannot be read, the first boot counts as over, which is the safe choice."""
        try:
            return parse_record(self.path.read_bytes(), source=str(self.path))
        except FileNotFoundError:
            return ProvisionRecord()
        except DocumentError as error:
            _log.warning("%s; unsigned documents are ignored", error)
            return ProvisionRecord(first_boot_over=True)

    def save(self, record: ProvisionRecord) -> None:
        """Write the record to the disk, durably."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        persist.write_atomic(self.path, strict.dump_json(record), mode=0o600)

    def keep(self, data: bytes) -> None:
        """Store a document on the disk, durably, unless it is there: each boot verifies and applies it again."""
        if self.kept() == data:
            return
        self.document_path.parent.mkdir(parents=True, exist_ok=True)
        persist.write_atomic(self.document_path, data, mode=0o600)

    def kept(self) -> bytes | None:
        """The stored document; whoever had the disk may have changed it.  None: there is none."""
        try:
            with self.document_path.open("rb") as stream:
                return stream.read(2 * MAX_OFFERED_BYTES)
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Provisioner:
    """Everything one boot needs; `decrypt` opens a named encrypted credential, or raises `TwinhullError`.

    Where most of `/etc` is gone after a boot (`etc`), the document in force is applied at each.
    """

    host: ProvisionedHost
    store: RecordStore
    policy: Policy
    etc: EtcPolicy
    decrypt: Callable[[str, bytes], bytes]
    now: Callable[[], Instant]

    def run(self) -> ProvisionOutcome:
        """Apply the documents and credentials of this boot; writes below `/etc`, `/var` and `/run`."""
        mark = self._root / UNDER_WAY
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        record = self.store.load()
        received = {one.way: one.data for one in find_documents(self._root)}
        candidates, troubles = self._read_all(received)
        troubles += self._sort(record)
        decision = decide(candidates, record, self.policy, again=self._passes)
        troubles += [self._trouble(one.way, one.reason) for one in decision.ignored]
        chosen = decision.apply or self._kept(record, troubles)
        applied, done = None, None
        if chosen is not None:
            try:
                self._require_lasting(chosen.offered)
                done = apply(chosen.offered.document, self.host, record.applied)
                if chosen.offered.signed_by is not None and chosen.way is not Way.KEPT:
                    self.store.keep(received[chosen.way])
                applied = self._applied(chosen, done, record.applied)
            except (TwinhullError, OSError) as error:
                troubles.append(self._trouble(chosen.way, str(error)))
        record = self._record(record, applied, troubles)
        self.store.save(record)
        if record.first_boot_over:
            mark.unlink()
        for trouble in troubles:
            _log.error("the document from %s was not applied: %s", trouble.way.value, trouble.reason)
        return ProvisionOutcome(
            record, applied=applied is not None, units_changed=done is not None and done.units_changed
        )

    def _record(self, record: ProvisionRecord, applied: Applied | None, troubles: Sequence[Trouble]) -> ProvisionRecord:
        after = replace(record, troubles=tuple(troubles))
        if applied is not None:
            newest = applied.serial if applied.signed_by else record.newest_serial
            after = replace(after, applied=applied, newest_serial=newest)
        if after.applied is not None and CERTIFICATES_FILE in after.applied.files:
            if applied is None and after.bundle_of != self.host.version:
                write_bundle(self.host)
            after = replace(after, bundle_of=self.host.version)
        else:
            after = replace(after, bundle_of=None)
        # A document with errors may be corrected until one was applied; a stored one came with an earlier boot.
        came = [trouble for trouble in troubles if trouble.way is not Way.KEPT]
        over = record.first_boot_over or applied is not None or not came
        return replace(after, first_boot_over=over)

    def _read_all(self, received: Mapping[Way, bytes]) -> tuple[list[Candidate], list[Trouble]]:
        candidates: list[Candidate] = []
        troubles: list[Trouble] = []
        for way, data in received.items():
            try:
                candidates.append(Candidate(way, self._read(data, f"the document from {way.value}")))
            except (TwinhullError, OSError) as error:
                troubles.append(self._trouble(way, str(error)))
        return candidates, troubles

    def _read(self, data: bytes, source: str) -> Offered:
        plain = self.decrypt(CREDENTIAL, data) if is_encrypted(data) else data
        return read_offered(plain, self.policy.public_keys, source=source)

    def _kept(self, record: ProvisionRecord, troubles: list[Trouble]) -> Candidate | None:
        """The stored document, verified like one that comes in; nothing else on the disk vouches for it."""
        try:
            data = self.store.kept() if self._passes else None
            if data is None:
                return None
            offered = self._read(data, str(self.store.document_path))
            if offered.signed_by is None:
                raise PolicyError(f"{self.store.document_path} is not signed")
            if (offered.document.serial or 0) < (record.newest_serial or 0):
                raise PolicyError(f"{self.store.document_path} is older than the document that this host follows")
        except (TwinhullError, OSError) as error:
            troubles.append(self._trouble(Way.KEPT, str(error)))
            return None
        return Candidate(Way.KEPT, offered)

    def _require_lasting(self, offered: Offered) -> None:
        """Raise an error if the next boot would undo part of a document that does not come again."""
        if offered.signed_by is not None or self.policy.unsigned is Unsigned.ALWAYS:
            return
        if passing := self.etc.passing(target.path for target in files_of(offered.document)):
            raise PolicyError(
                f"it is not signed, and {', '.join(passing)} would be gone after a reboot; sign it (`twinhull "
                f"provision sign`), or build the image with etc: overlay"
            )

    def _sort(self, record: ProvisionRecord) -> list[Trouble]:
        """Pass on the boot partition's other credentials; of our own only those that can be decrypted.

        A unit does not start if it imports a credential that cannot be decrypted, and the agent's units guard a trial.
        """
        refused = []
        for credential in boot_credentials(self._root):
            try:
                if not self.policy.admits_unsigned(record):
                    raise PolicyError("it is not signed")
                if len(credential.data) > MAX_OFFERED_BYTES:
                    raise UpdaterError(f"it has more than {MAX_OFFERED_BYTES} bytes")
                if credential.name.startswith(OWN) and is_encrypted(credential.data):
                    self.decrypt(credential.name, credential.data)
                hand_on(self._root, credential)
            except (TwinhullError, OSError) as error:
                refused.append(self._trouble(Way.BOOT_PARTITION, f"the credential {credential.name}: {error}"))
        return refused

    def _applied(self, candidate: Candidate, done: Done, before: Applied | None) -> Applied:
        offered = candidate.offered
        if before is not None and before.sha256 == offered.sha256:
            return replace(before, signed_by=offered.signed_by, serial=offered.document.serial, files=done.files)
        return Applied(
            sha256=offered.sha256,
            way=candidate.way,
            at=self.now(),
            signed_by=offered.signed_by,
            serial=offered.document.serial,
            files=done.files,
        )

    def _trouble(self, way: Way, reason: str) -> Trouble:
        return Trouble(way, reason[:REASON_LIMIT], self.now())

    @property
    def _passes(self) -> bool:
        return self.etc.mode is not EtcMode.OVERLAY

    @property
    def _root(self) -> Path:
        return self.host.files.root


@dataclass(frozen=True)
class ProvisionOutcome:
    """The result of one boot."""

    record: ProvisionRecord
    applied: bool
    units_changed: bool


def end_first_boot(store: RecordStore, root: Path) -> None:
    """Record on the disk that this host has booted without a document."""
    record = store.load()
    if not (record.first_boot_over or (root / UNDER_WAY).exists()):
        store.save(replace(record, first_boot_over=True, troubles=()))
