"""Applies a boot trust document to this host: judges its updates, and appends those that may be appended.

Rules: without Secure Boot nothing is written; an update that fails does not keep the next one from being tried; what
was appended must be there afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keys.secureboot.siglist import BootVariable
from updater.agent.boot_trust.databases import Databases
from updater.agent.boot_trust.judging import BootProgram, FirmwareDatabases, Judgement, Verdict, judge, known
from updater.documents.boot_trust import BootTrust, BootTrustUpdate
from updater.errors import FirmwareError


@dataclass(frozen=True)
class BootTrustOutcome:
    """What became of a document on this host.

    Attributes:
        appended: The reasons of the updates that were appended just now.
        present: How many were there before.
        waiting: Those that wait for this host to move on, with why.
        failed: Those that were refused, here or by the firmware, with why.
    """

    appended: tuple[str, ...] = ()
    present: int = 0
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What was not appended, in words."""
        return (*(f"waits: {line}" for line in self.waiting), *(f"refused: {line}" for line in self.failed))


def apply_boot_trust(
    trust: BootTrust,
    programs: Callable[[], Sequence[BootProgram]],
    databases: Databases,
    *,
    secure_boot: bool | None,
) -> BootTrustOutcome:
    """Append the updates that this host may take (writes to the firmware's flash).

    Args:
        trust: The document, whose signatures were checked.
        programs: Reads what is on the boot partitions; only asked when something is to be appended.
        databases: The firmware's variables.
        secure_boot: Whether the firmware enforces signatures; else there is nothing to protect, and no KEK.
    """
    if not secure_boot:
        return BootTrustOutcome()
    content = FirmwareDatabases(databases.read(BootVariable.DB), databases.read(BootVariable.DBX))
    appended: list[str] = []
    waiting: list[str] = []
    failed: list[str] = []
    judgements = judge(trust, (), content)
    if all(judgement.verdict is Verdict.PRESENT for judgement in judgements):
        return BootTrustOutcome(present=len(judgements))
    judgements = judge(trust, programs(), content)
    for judgement in judgements:
        if judgement.verdict is Verdict.WAITS:
            waiting.append(_line(judgement))
        elif judgement.verdict is Verdict.REFUSED:
            failed.append(_line(judgement))
        elif judgement.verdict is Verdict.APPEND:
            try:
                _append(judgement.update, databases)
            except FirmwareError as error:
                failed.append(f"{judgement.update.reason}: {error}")
            else:
                appended.append(judgement.update.reason)
    present = sum(judgement.verdict is Verdict.PRESENT for judgement in judgements)
    return BootTrustOutcome(tuple(appended), present, tuple(waiting), tuple(failed))


def _append(update: BootTrustUpdate, databases: Databases) -> None:
    databases.append(update.variable, update.bytes_to_append)
    content = databases.read(update.variable)
    try:
        there = content is not None and update.signatures <= known(content)
    except ValueError:
        there = False
    if not there:
        raise FirmwareError(f"the firmware accepted it, and {update.variable.value} does not have it")


def _line(judgement: Judgement) -> str:
    return f"{judgement.update.reason}: {judgement.words}"
