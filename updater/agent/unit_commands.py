"""What the host's units run of the program `updater`; nobody types these commands."""

from __future__ import annotations

import logging
import math
import os
import random

import click

from bedrock import process
from bedrock.cli import line_progress
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_DONE, EXIT_FAILED
from updater.agent import older, report, storage, trial, units
from updater.agent.alive import Alive, AliveClock, AliveProgress
from updater.agent.ground.settling import reset_as_asked, settle_boot_partition, settle_disk
from updater.agent.machine import ThisMachine, read_facts
from updater.agent.provisioning.provisioning import RecordStore, end_first_boot
from updater.agent.provisioning.this_host import this_provisioner
from updater.agent.service import Daemon
from updater.agent.setting import Setting, here, hint_store, on_this_host, setting
from updater.agent.state import HostFacts
from updater.documents.channel import Instant

SYSTEMD_TIMEOUT_S = 60.0
LATER_DEADLINE = "twinhull-trial-deadline-later.timer"
_log = logging.getLogger(__name__)


@click.command(hidden=True)
def boot() -> None:
    """Record this boot (twinhull-boot.service)."""
    it = setting()
    # First, for what is kept in the firmware's list names the partitions by their identities.
    settle_disk(it.agent, it.paths)
    settle_boot_partition(it.agent, it.paths)
    verdict = it.agent.book_boot()
    it.agent.machine.close_gate()
    facts = read_facts(it.agent.machine)
    where = trial.standing(facts, verdict.hints)
    older.note(it.agent.store, facts, Instant.of(it.agent.machine.clock.now()))
    click.echo(f"{facts.running_version} runs in slot {facts.slot.value}, {where.value}")
    reset_as_asked(it.agent, it.paths, os.environ.get("CREDENTIALS_DIRECTORY"))
    try:
        end_first_boot(RecordStore(it.paths.state), it.paths.root)
    except OSError as error:
        # A full `/var` must not keep a host from judging what it booted.
        _log.warning("%s", error)


@click.command(hidden=True)
def check_storage() -> None:
    """Check and repair the containers' storage (twinhull-containers-storage.service)."""
    click.echo(storage.check_and_note(on_this_host().state, hint_store(here(), SYSTEM_CLOCK), SYSTEM_CLOCK))


@click.command(hidden=True)
def provision() -> int:
    """Apply this host's own configuration (twinhull-provision.service).  Exit code 1: something was refused."""
    outcome = this_provisioner(ThisMachine().clock, on_this_host().state).run()
    if outcome.applied:
        click.echo("\n".join(report.provision_lines(outcome.record)))
    if outcome.units_changed:
        # What this boot is to start was settled before these units were there.
        process.run(("systemctl", "daemon-reload"), timeout_s=SYSTEMD_TIMEOUT_S)
        process.run(("systemctl", "--no-block", "start", "default.target"), timeout_s=SYSTEMD_TIMEOUT_S)
    return EXIT_FAILED if outcome.record.troubles else EXIT_DONE


@click.command(hidden=True)
def deadline() -> None:
    """Leave a trial that was not blessed in time (twinhull-trial-deadline.service).

    It fails only if it could not decide: the unit then reboots a trial without this program.
    """
    it = setting()
    facts, hints = it.agent.facts(), it.agent.hints()
    standing = trial.standing(facts, hints)
    if standing is trial.Standing.UNKNOWN and facts.has_fallback and hints.attempt(facts.running_version).postponed:
        # A trial that was left for later; the reboot that should have followed has not come.
        it.agent.machine.reboot(force=True)
        return
    if standing not in (trial.Standing.TRIAL, trial.Standing.WISHED):
        watch_proven(it, facts)
        return
    if it.agent.is_waiting():
        click.echo("the judgement waits for the update server: this is looked at again later", err=True)
        look_again()
        return
    failure = hints.attempt(facts.running_version).failure or "was not blessed before the deadline"
    verdict = it.agent.unhealthy(failure, force=True)
    click.echo(f"{failure}: {'rebooting' if verdict.reboot else 'staying, nothing to go back to'}", err=True)


def watch_proven(it: Setting, facts: HostFacts) -> None:
    """Reboot a proven version that never comes as far as its health checks: the loader counts that, and it ends."""
    judged = it.paths.judged.exists()
    if not trial.hangs(facts, judged=judged, up_s=math.inf):
        return
    up_s = it.agent.machine.clock.steady() - units.ask_started_s(SYSTEMD_TIMEOUT_S)
    if trial.hangs(facts, judged=judged, up_s=up_s):
        click.echo(f"{facts.running_version} did not come to its health checks in {up_s:.0f} s: rebooting", err=True)
        it.agent.machine.reboot(force=True)
    else:
        look_again()


def look_again() -> None:
    """Let the deadline be looked at once more, later."""
    # Not `start`, which does nothing to a timer that has elapsed before.
    process.run(("systemctl", "restart", "--no-block", LATER_DEADLINE), timeout_s=SYSTEMD_TIMEOUT_S)


@click.command(hidden=True)
def daemon() -> None:
    """Poll, update and reboot according to the settings (twinhull-updater.service)."""
    it = setting()
    if it.agent.server is None:
        click.echo("no update server is configured: nothing to do", err=True)
        return
    alive = Alive(os.environ.get("NOTIFY_SOCKET"))
    clock = AliveClock(it.agent.machine.clock, alive)
    progress = AliveProgress(line_progress(tenths=True), alive)
    Daemon(it.agent, it.departure, it.config, clock, random.random, progress).run()
