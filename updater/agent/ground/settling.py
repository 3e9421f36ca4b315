"""What the agent does about disk and state at each boot: identities of its own, and a record of what is remarkable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

from bedrock.errors import TwinhullError
from updater.agent.agent import PATIENCE_S, Agent
from updater.agent.boot_partition import mounted
from updater.agent.ground.boot_check import Checked, check_fat, remove_salvaged
from updater.agent.ground.disks import boot_partition
from updater.agent.ground.identities import give_identities
from updater.agent.ground.reset import request_reset, reset_by_credential
from updater.agent.ground.surroundings import note, read_ground
from updater.agent.host_paths import HostPaths
from updater.agent.lock import exclusive
from updater.documents.channel import Instant
from updater.errors import UpdaterError

_log = logging.getLogger(__name__)


def settle_disk(agent: Agent, paths: HostPaths) -> None:
    """Give a new host's disk identities of its own (writes to it), and record what a person should know.

    Nothing of it may keep a host from judging what it booted, so what fails is part of the record.
    """
    machine = agent.machine
    remarks = list(read_ground(paths.root, paths.state, machine.running().root_hash).remarks)
    try:
        with (
            exclusive(agent.lock_path, machine.clock, patience_s=PATIENCE_S),
            machine.disk(writable=True) as disk,
        ):
            done = give_identities(disk, uuid4)
        remarks += [str(done)] if done is not None else []
    except (TwinhullError, OSError) as error:
        remarks.append(f"the disk keeps the identities it has: {error}")
    note(agent.store, remarks, Instant.of(machine.clock.now()))


def settle_boot_partition(
    agent: Agent,
    paths: HostPaths,
    check: Callable[[Path, Collection[str]], Checked] = check_fat,
    mount: Callable[..., AbstractContextManager[Path]] = mounted,
) -> None:
    """Repair the boot partition before this boot writes to it, and record what was done (writes to it)."""
    machine = agent.machine
    if not paths.is_this_host and check is check_fat:
        return
    remarks = []
    try:
        with exclusive(agent.lock_path, machine.clock, patience_s=PATIENCE_S):
            partition = boot_partition(paths.root)
            done = check(partition, [entry.file_name for entry in agent.facts().running_entries])
            if done is not Checked.SOUND:
                remarks.append(f"the boot partition: {done.value}")
            if done is Checked.REPAIRED:
                at = paths.runtime / "boot-repaired"
                remove_salvaged(lambda: mount(partition, at, writable=True, clock=machine.clock))
    except (TwinhullError, OSError) as error:
        remarks.append(f"the boot partition was not checked: {error}")
    note(agent.store, remarks, Instant.of(machine.clock.now()))


def reset_as_asked(agent: Agent, paths: HostPaths, credentials: str | None) -> None:
    """Write down the reset that the credential `twinhull.reset` asks for, and reboot into it, once."""
    try:
        request = reset_by_credential(credentials, paths.state)
        # A trial is judged first.
        if request is not None and agent.facts().blessed:
            request_reset(paths.state, request)
            agent.machine.reboot(force=False)
    except UpdaterError as error:
        _log.warning("%s", error)
