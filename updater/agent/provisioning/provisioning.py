"""Provisioning in one boot: reads the documents, chooses one, applies it, and records the result.

A document that cannot be read or applied never stops a boot: it is recorded and reported, and the boot goes on.  Nor
does it end the first boot, so that a corrected document counts at the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bedrock import persist, strict
from bedrock.errors import DocumentError, TwinhullError
from updater.agent.provisioning.applying import Done, ProvisionedHost, apply, write_bundle
from updater.agent.provisioning.ways import OWN, boot_credentials, find_documents, hand_on
from updater.documents.channel import Instant
from updater.errors import PolicyError, UpdaterError
from updater.provision.encrypted import is_encrypted
from updater.provision.files import CERTIFICATES_FILE
from updater.provision.policy import Candidate, Policy, decide
from updater.provision.reading import CREDENTIAL, MAX_OFFERED_BYTES, read_offered
from updater.provision.record import REASON_LIMIT, Applied, ProvisionRecord, Trouble, Way, parse_record

RECORD_NAME = "provision.json"
# Exists while a document is being applied, and stays when that failed: then the first boot is not over.
UNDER_WAY = "run/twinhull/provisioning"
_log = logging.getLogger(__name__)


class RecordStore:
    """The record in `/var/lib/twinhull`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD_NAME

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


@dataclass(frozen=True)
class Provisioner:
    """Everything one boot needs; `decrypt` opens a named encrypted credential, or raises `TwinhullError`."""

    host: ProvisionedHost
    store: RecordStore
    policy: Policy
    decrypt: Callable[[str, bytes], bytes]
    now: Callable[[], Instant]

    def run(self) -> ProvisionOutcome:
        """Apply the documents and credentials of this boot; writes below `/etc`, `/var` and `/run`."""
        mark = self._root / UNDER_WAY
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        record = self.store.load()
        candidates, troubles = self._read_all()
        troubles += self._sort(record)
        decision = decide(candidates, record, self.policy)
        troubles += [self._trouble(one.way, one.reason) for one in decision.ignored]
        applied, done = None, None
        if decision.apply is not None:
            try:
                done = apply(decision.apply.offered.document, self.host, record.applied)
                applied = self._applied(decision.apply, done)
            except (TwinhullError, OSError) as error:
                troubles.append(self._trouble(decision.apply.way, str(error)))
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
        # A document with errors may be corrected until one was applied.
        over = record.first_boot_over or applied is not None or not troubles
        return replace(after, first_boot_over=over)

    def _read_all(self) -> tuple[list[Candidate], list[Trouble]]:
        candidates: list[Candidate] = []
        troubles: list[Trouble] = []
        for one in find_documents(self._root):
            try:
                data = self.decrypt(CREDENTIAL, one.data) if is_encrypted(one.data) else one.data
                offered = read_offered(data, self.policy.public_keys, source=f"the document from {one.way.value}")
                candidates.append(Candidate(one.way, offered))
            except (TwinhullError, OSError) as error:
                troubles.append(self._trouble(one.way, str(error)))
        return candidates, troubles

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

    def _applied(self, candidate: Candidate, done: Done) -> Applied:
        offered = candidate.offered
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
