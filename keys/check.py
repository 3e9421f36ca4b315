"""Finds problems in a keys folder.

`judge` decides from facts alone (no I/O, no clock); `gather` in `keys.facts` reads the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

from bedrock.clock import SYSTEM_CLOCK
from keys.facts import CertificateFacts, FolderFacts, KeyringFacts, PrivateFacts, gather
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase, PassphraseSource
from keys.private import FOLDER_MODE, OTHERS, PRIVATE_MODE
from keys.roles import Profile, must_be_encrypted

SOON = timedelta(days=30)


class Severity(Enum):
    """Whether a finding must be fixed, should be checked, or is only for information."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Rule(Enum):
    """What a finding is about."""

    FOLDER_MODE = "folder-mode"
    FILE_MODE = "file-mode"
    OWNER = "owner"
    MISSING_PRIVATE = "missing-private"
    MISSING_CERTIFICATE = "missing-certificate"
    UNREADABLE = "unreadable"
    UNENCRYPTED = "unencrypted"
    IN_GIT = "in-git"
    MISMATCH = "mismatch"
    SHARED_KEY = "shared-key"
    EXPIRED = "expired"
    EXPIRES_SOON = "expires-soon"
    NOT_YET_VALID = "not-yet-valid"
    UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Finding:
    """One finding: its subject (a role or path) and a message."""

    severity: Severity
    rule: Rule
    subject: str
    message: str


def check(
    folder: Path, *, passphrase: PassphraseSource | None = None, now: datetime | None = None
) -> tuple[Finding, ...]:
    """All findings about a keys folder; empty when there are none.

    Args:
        folder: The keys folder.
        passphrase: Opens encrypted keys to compare them with the keyring; without it a finding says so.
        now: The time at which certificates are judged; the clock's time when None.

    Raises:
        MissingKeyError: The folder has no keyring.
        DocumentError: The keyring has errors.
    """
    facts = gather(Keyring.load(folder), passphrase or NoPassphrase())
    return judge(facts, now=now or SYSTEM_CLOCK.now())


def judge(facts: KeyringFacts, *, now: datetime) -> tuple[Finding, ...]:
    """The findings that follow from facts."""
    findings = [*_judge_folder(facts.folder, facts.user), *_judge_shared(facts)]
    for private in facts.privates:
        findings += _judge_private(private, facts.user, facts.profile)
    for certificate in facts.certificates:
        findings += _judge_certificate(certificate, now)
    findings += _judge_unchecked(facts)
    return tuple(findings)


def _judge_folder(folder: FolderFacts, user: int) -> Iterator[Finding]:
    subject = str(folder.path)
    if folder.mode & OTHERS:
        message = f"mode {folder.mode:04o} gives others access; it must be {FOLDER_MODE:04o}"
        yield Finding(Severity.ERROR, Rule.FOLDER_MODE, subject, message)
    if folder.owner not in (user, 0):
        yield Finding(Severity.ERROR, Rule.OWNER, subject, _owner(folder.owner, user))


def _judge_shared(facts: KeyringFacts) -> Iterator[Finding]:
    for keyid, roles in facts.roles_of_key.items():
        if len(roles) > 1:
            message = f"one key serves {', '.join(roles)}, so these roles are not separate"
            yield Finding(Severity.ERROR, Rule.SHARED_KEY, keyid, message)


def _judge_unchecked(facts: KeyringFacts) -> Iterator[Finding]:
    closed = [private for private in facts.privates if private.exists and private.encrypted and private.matches is None]
    names = sorted({private.role for private in closed if private.problem is None})
    if names:
        message = f"without the passphrase, these keys were not compared with their public halves: {', '.join(names)}"
        yield Finding(Severity.NOTE, Rule.UNCHECKED, str(facts.folder.path), message)


def _judge_private(private: PrivateFacts, user: int, profile: Profile) -> Iterator[Finding]:
    subject = f"{private.role} ({private.path})"
    if not private.exists:
        message = "the private key is not here, so this role cannot sign with it here"
        yield Finding(Severity.WARNING, Rule.MISSING_PRIVATE, subject, message)
        return
    if private.mode & OTHERS:
        message = f"mode {private.mode:04o} lets others use it; it must be {PRIVATE_MODE:04o}"
        yield Finding(Severity.ERROR, Rule.FILE_MODE, subject, message)
    if private.owner not in (user, 0):
        yield Finding(Severity.ERROR, Rule.OWNER, subject, _owner(private.owner, user))
    if private.work_tree is not None:
        message = f"the private key is inside the git work tree {private.work_tree}"
        # In a clone, an ignore rule keeps dev keys out of git; other keys need more protection.
        severity = Severity.WARNING if profile is Profile.DEV else Severity.ERROR
        yield Finding(severity, Rule.IN_GIT, subject, message)
    if private.problem is not None:
        yield Finding(Severity.ERROR, Rule.UNREADABLE, subject, private.problem)
        return
    if not private.encrypted and must_be_encrypted(profile):
        message = f"the private key is not encrypted, in a {profile.value} keyring"
        yield Finding(Severity.ERROR, Rule.UNENCRYPTED, subject, message)
    if private.matches is False:
        message = f"the private key does not belong to {private.counterpart}"
        yield Finding(Severity.ERROR, Rule.MISMATCH, subject, message)


def _judge_certificate(certificate: CertificateFacts, now: datetime) -> Iterator[Finding]:
    subject = f"{certificate.role} ({certificate.path})"
    if certificate.problem is not None:
        rule = Rule.UNREADABLE if certificate.exists else Rule.MISSING_CERTIFICATE
        yield Finding(Severity.ERROR, rule, subject, certificate.problem)
    if certificate.not_before is not None and now < certificate.not_before:
        message = f"the certificate is valid only from {certificate.not_before:%Y-%m-%d}"
        yield Finding(Severity.ERROR, Rule.NOT_YET_VALID, subject, message)
    end = certificate.not_after
    if end is not None and now > end:
        yield Finding(Severity.ERROR, Rule.EXPIRED, subject, f"the certificate expired on {end:%Y-%m-%d}")
    elif end is not None and now > end - SOON:
        message = f"the certificate expires in {(end - now).days} days, on {end:%Y-%m-%d}"
        yield Finding(Severity.WARNING, Rule.EXPIRES_SOON, subject, message)


def _owner(owner: int, user: int) -> str:
    return f"belongs to user {owner}, not to the current user {user}"
