"""The output of `updater`: the state of the host as one value, and progress as lines.  Prints nothing itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bedrock import strict
from bedrock.errors import DocumentError
from partitions.version import Version
from updater.agent import older, trial
from updater.agent.config import Config, Loaded
from updater.agent.departure import RebootOutlook
from updater.agent.ground.surroundings import Ground
from updater.agent.state import BadVersion, Hints, Hold, HostFacts, Pin, Poll, SlotState
from updater.provision.record import ProvisionRecord


@dataclass(frozen=True)
class InactiveSlot:
    """The slot that is not running."""

    slot: str
    state: SlotState
    version: Version | None


@dataclass(frozen=True)
class HostStatus:
    """Everything `updater status` shows."""

    image: str
    version: Version
    slot: str
    standing: trial.Standing
    blessed: bool
    root_hash: str
    secure_boot: bool | None
    foreign_arguments: tuple[str, ...]
    inactive: InactiveSlot
    entries: tuple[str, ...]
    channel: str | None
    url: str | None
    enabled: bool
    pin: Pin | None
    hold: Hold | None
    newest_blessed: Version | None
    put_back_from: Version | None
    bad: tuple[BadVersion, ...]
    poll: Poll | None
    reboot: RebootOutlook | None
    firmware: tuple[str, ...]
    provision: ProvisionRecord
    ground: Ground
    settings_problems: tuple[str, ...]


def status(
    facts: HostFacts,
    hints: Hints,
    settings: Loaded,
    *,
    secure_boot: bool | None,
    provision: ProvisionRecord,
    foreign_arguments: tuple[str, ...] = (),
    ground: Ground | None = None,
    reboot: RebootOutlook | None = None,
) -> HostStatus:
    """The status from the facts."""
    entry = facts.inactive_entry
    config = settings.config
    return HostStatus(
        image=facts.image,
        version=facts.running_version,
        slot=facts.slot.value,
        standing=trial.standing(facts, hints),
        blessed=facts.blessed,
        root_hash=facts.running_root_hash,
        secure_boot=secure_boot,
        foreign_arguments=foreign_arguments,
        inactive=InactiveSlot(facts.inactive.slot.value, facts.inactive_state, entry.version if entry else None),
        entries=tuple(sorted(entry.file_name for entry in facts.entries)),
        channel=config.channel,
        url=config.without_passwords().url,
        enabled=config.enabled,
        pin=hints.pin,
        hold=hints.hold,
        newest_blessed=hints.newest_known(facts),
        put_back_from=older.put_back(facts, hints),
        bad=hints.bad,
        poll=hints.poll,
        reboot=reboot,
        firmware=hints.firmware,
        provision=provision,
        ground=ground or Ground(),
        settings_problems=problem_lines(settings.problems),
    )


def status_lines(shown: HostStatus) -> list[str]:
    """The status for a person."""
    secure = {True: "enforced", False: "off", None: "unknown"}[shown.secure_boot]
    other = f"{shown.inactive.state.value}"
    if shown.inactive.version is not None:
        other = f"{shown.inactive.version}, {other}"
    lines = [
        f"image        {shown.image}",
        f"running      {shown.version} in slot {shown.slot}, {shown.standing.value}",
        f"other slot   {shown.inactive.slot}: {other}",
        f"secure boot  {secure}",
        f"channel      {shown.channel or 'none'} at {shown.url or 'no server'}{'' if shown.enabled else ' (disabled)'}",
    ]
    if shown.foreign_arguments:
        lines.append(f"no effect    kernel arguments from outside: {' '.join(shown.foreign_arguments)}")
    if shown.put_back_from is not None:
        lines.append(f"older        {older.sentence(shown.version, shown.put_back_from)}")
    if shown.poll is not None:
        lines.append(f"last poll    {shown.poll}")
    if shown.reboot is not None:
        lines.append(f"reboot       {shown.reboot}")
        lines += [f"             overruled at {shown.reboot.overruled_at}"] if shown.reboot.overruled_at else []
    lines += [f"firmware     {problem}" for problem in shown.firmware]
    if shown.pin is not None:
        lines.append(f"pinned       {shown.pin.version}")
    if shown.hold is not None:
        lines.append(f"held         since {shown.hold.at} {shown.hold.reason}".rstrip())
    lines += [f"disk         {remark}" for remark in shown.ground.remarks]
    lines += provision_lines(shown.provision)
    lines += [f"bad          {bad.version} since {bad.at}: {bad.reason}" for bad in shown.bad]
    lines += [f"ignored      {problem}" for problem in shown.settings_problems]
    return lines


def provision_lines(record: ProvisionRecord) -> list[str]:
    """The provisioning document in force, and what was refused."""
    lines = []
    if record.applied is not None:
        signed = f"signed by {record.applied.signed_by}" if record.applied.signed_by else "not signed"
        serial = f", serial {record.applied.serial}" if record.applied.serial is not None else ""
        where = f"by {record.applied.way.value} at {record.applied.at}, {signed}{serial}"
        lines.append(f"provisioned  {record.applied.sha256[:16]} {where}")
    lines += [f"refused      {one.at} {one.way.value}: {one.reason}" for one in record.troubles]
    return lines


def problem_lines(problems: Sequence[DocumentError]) -> tuple[str, ...]:
    """The settings that were ignored, each with its file."""
    return tuple(f"{error.source}: {problem}" for error in problems for problem in error.problems)


def setting_lines(config: Config) -> list[str]:
    """The settings in force as text: a line per key, by its path."""
    return [
        f"{path} = {json.dumps(value, ensure_ascii=False)}"
        for path, value in _leaves("", strict.plain(config.without_passwords()))
    ]


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}.{key}" if path else key, inner)
