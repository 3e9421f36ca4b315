"""Judges the updates of a boot trust document: which to append now, which are there, which must wait or be refused.

Rules: nothing is appended that would stop what is running, the boot loader, or the last version that is known to work;
what cannot be judged is not appended; an update that has to wait is judged again every time, because the host moves on.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from keys.secureboot.siglist import BootVariable, ListedSignature, SignatureKind, hashes_of, parse_lists
from updater.documents.boot_trust import BootTrust, BootTrustUpdate


class ProgramState(Enum):
    """What a program on the boot partitions means to this host."""

    RUNNING = "running"
    BLESSED = "blessed"
    LOADER = "boot loader"
    OTHER = "other"


@dataclass(frozen=True)
class BootProgram:
    """A program that firmware or the loader may start.

    Attributes:
        name: Its file.
        state: What it means.
        blessed: Whether it is known to work here; the running one may be on trial.
        digest: Its Authenticode SHA-256; None when it cannot be read.
    """

    name: str
    state: ProgramState
    blessed: bool = False
    digest: bytes | None = None


@dataclass(frozen=True)
class FirmwareDatabases:
    """The content of db and dbx, without attributes: empty when not set, None when it cannot be read."""

    db: bytes | None
    dbx: bytes | None

    def content(self, variable: BootVariable) -> bytes | None:
        """The content of one of them."""
        return self.db if variable is BootVariable.DB else self.dbx


class Verdict(Enum):
    """What becomes of an update."""

    APPEND = "append"
    PRESENT = "present"
    WAITS = "waits"
    REFUSED = "refused"


@dataclass(frozen=True)
class Judgement:
    """An update, what becomes of it, and why in words."""

    update: BootTrustUpdate
    verdict: Verdict
    words: str


def judge(trust: BootTrust, programs: Sequence[BootProgram], databases: FirmwareDatabases) -> tuple[Judgement, ...]:
    """What to do with each update, in the order of the document.

    Args:
        trust: The document.
        programs: Every program on the boot partitions that this host may start.
        databases: What the variables hold now.
    """
    judgements: list[Judgement] = []
    # What was judged to be appended counts for those that follow: together they must not stop the host either.
    revoked: set[bytes] = set()
    for update in trust.updates:
        judgement = _judge(update, programs, databases, frozenset(revoked))
        if judgement.verdict in (Verdict.APPEND, Verdict.PRESENT):
            revoked |= update.revoked
        judgements.append(judgement)
    return tuple(judgements)


def known(content: bytes) -> frozenset[ListedSignature]:
    """The entries of a variable.

    Raises:
        ValueError: It is damaged.
    """
    return parse_lists(content)


def _judge(
    update: BootTrustUpdate, programs: Sequence[BootProgram], databases: FirmwareDatabases, revoked: frozenset[bytes]
) -> Judgement:
    variable = update.variable.value
    content = databases.content(update.variable)
    if content is None:
        return Judgement(update, Verdict.REFUSED, f"{variable} cannot be read, so it is not added to")
    try:
        present = known(content)
    except ValueError as error:
        return Judgement(update, Verdict.REFUSED, f"{variable} {error}, so it is not added to")
    if update.signatures <= present:
        return Judgement(update, Verdict.PRESENT, f"{variable} has it already")
    if update.variable is BootVariable.DB:
        return Judgement(update, Verdict.APPEND, "more may start, and nothing stops")
    return _judge_revocation(update, programs, revoked | hashes_of(present))


def _judge_revocation(update: BootTrustUpdate, programs: Sequence[BootProgram], revoked: frozenset[bytes]) -> Judgement:
    if any(each.kind is not SignatureKind.SHA256 for each in update.signatures):
        words = "it revokes a certificate, and what that would stop here cannot be judged"
        return Judgement(update, Verdict.REFUSED, words)
    needed = [each for each in programs if each.state in (ProgramState.RUNNING, ProgramState.LOADER)]
    if not any(each.state is ProgramState.RUNNING for each in needed):
        return Judgement(update, Verdict.REFUSED, "the running version's program is not on the boot partition")
    for program in needed:
        if program.digest is None:
            words = f"{program.name} cannot be read, so it may be what is revoked"
            return Judgement(update, Verdict.REFUSED, words)
        if program.digest in update.revoked:
            words = f"it would stop {program.name}, which is {_meaning(program)}"
            return Judgement(update, Verdict.WAITS, words)
    if not _left(programs, revoked | update.revoked):
        names = ", ".join(sorted(each.name for each in programs if each.blessed and each.digest in update.revoked))
        words = f"it would stop {names or 'the last version that works'}, and nothing else here is known to work"
        return Judgement(update, Verdict.WAITS, words)
    return Judgement(update, Verdict.APPEND, f"it stops {_stopped(update, programs)}")


def _meaning(program: BootProgram) -> str:
    if program.state is ProgramState.LOADER:
        return "this host's boot loader"
    return "running: it is stopped once this host runs another version"


def _left(programs: Iterable[BootProgram], revoked: frozenset[bytes]) -> bool:
    """Whether a version stays that is known to work."""
    return any(each.blessed and each.digest is not None and each.digest not in revoked for each in programs)


def _stopped(update: BootTrustUpdate, programs: Iterable[BootProgram]) -> str:
    names = sorted(each.name for each in programs if each.digest in update.revoked)
    return ", ".join(names) or "nothing that is here"
