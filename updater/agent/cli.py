"""The program `updater`: what an operator types, and what the host's units run.

Results go to stdout, everything else to stderr; the exit codes are those of `bedrock.errors`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import NoReturn

import click

from bedrock.cli import completion_command, emit_json, json_option, line_progress, run_command
from bedrock.errors import EXIT_DONE, EXIT_FAILED, EXIT_NOTHING_TO_DO, EXIT_USAGE
from partitions.cli import VERSION
from partitions.version import Version
from updater.agent import checks, health, report
from updater.agent.agent import UpdateOutcome
from updater.agent.device_filters import KernelDeviceFilters
from updater.agent.disk_gate import DiskGate
from updater.agent.etcdiff.cli import etc_diff, etc_note
from updater.agent.gate import Gate, Judging
from updater.agent.ground.cli import reset
from updater.agent.ground.surroundings import read_ground
from updater.agent.host_paths import HostPaths
from updater.agent.plan import Nothing, Plan, Update, UpdateOptions, Wait, refusal, waiting
from updater.agent.provisioning.provisioning import RecordStore
from updater.agent.service import outcome_line
from updater.agent.setting import Setting, on_this_host, setting
from updater.agent.unit_commands import boot, check_storage, daemon, deadline, provision

_log = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Print more on stderr.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Work on a host that is a folder, with a file as its disk, as tests do.",
)
@click.pass_context
def updater(context: click.Context, verbose: bool, root: Path | None) -> None:
    """Keep this host up to date, and show what it runs and why.

    The host does this by itself (twinhull-updater.service); these commands are for inspection and for intervention.
    Run them as root.

    \b
    updater status                what runs, and what is in the other slot
    updater check                 is an update due? (exit code 4: no)
    updater update                install it now and reboot
    updater reboot                reboot into what is staged
    updater hold --reason audit   take no update for now
    updater rollback              go back to the other slot
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger("tuf").setLevel(logging.WARNING)
    if root is not None:
        context.obj = HostPaths(root.absolute())


@updater.command()
@json_option
def status(as_json: bool) -> None:
    """Show what runs, whether it is blessed, and what is in the other slot."""
    it = setting(warn=False)
    facts = it.agent.facts()
    shown = report.status(
        facts,
        it.agent.hints(),
        it.settings,
        secure_boot=it.agent.machine.secure_boot(),
        provision=RecordStore(it.paths.state).load(),
        foreign_arguments=it.agent.machine.foreign_arguments(),
        ground=read_ground(it.paths.root, it.paths.state, facts.running_root_hash),
        reboot=it.departure.outlook(),
    )
    if as_json:
        emit_json(shown)
    else:
        click.echo("\n".join(report.status_lines(shown)))


@updater.command()
@click.option("--retry", is_flag=True, help="Also offer a version that failed here.")
@click.option("--allow-downgrade", is_flag=True, help="Also offer an older version.")
@json_option
def check(retry: bool, allow_downgrade: bool, as_json: bool) -> int:
    """Ask the update server whether an update is due; installs nothing.  Exit code 4: no update is due."""
    decided = setting().agent.check(UpdateOptions(retry=retry, allow_downgrade=allow_downgrade))
    if as_json:
        emit_json(plan_values(decided))
    else:
        click.echo(
            outcome_line(UpdateOutcome(decided)) if not isinstance(decided, Update) else f"{decided.version} is due"
        )
    return EXIT_DONE if isinstance(decided, Update) else EXIT_NOTHING_TO_DO


@updater.command()
@click.option("--retry", is_flag=True, help="Try a version again that failed here.")
@click.option("--allow-downgrade", is_flag=True, help="Install even a version older than the newest blessed here.")
@click.option("--no-reboot", is_flag=True, help="Only stage it; the next reboot starts it.")
@json_option
def update(retry: bool, allow_downgrade: bool, no_reboot: bool, as_json: bool) -> int:
    """Install the update of the channel now, and reboot into it.

    It does not wait for this host's turn in the wave.  It refuses while the running version is not blessed, while the
    host is held, for a version that failed here (unless --retry) and for an older one (unless --allow-downgrade).
    Exit code 4: no update is due.

    \b
    Example:
      updater update --no-reboot
    """
    it = setting()
    options = UpdateOptions(retry=retry, allow_downgrade=allow_downgrade, by_hand=True)
    outcome = it.agent.update(options, line_progress(tenths=True))
    if isinstance(outcome.plan, Nothing) and outcome.plan.why.is_refusal:
        raise refusal(outcome.plan)
    if as_json:
        emit_json({**plan_values(outcome.plan), "report": outcome.report})
    else:
        click.echo(outcome_line(outcome))
    if not isinstance(outcome.plan, Update):
        return EXIT_NOTHING_TO_DO
    if not no_reboot:
        leave_by_hand(it, outcome.plan.version)
        it.agent.reboot()
    return EXIT_DONE


@updater.command()
@click.option("--now", is_flag=True, help="Wait for nobody; the programs before a reboot are run all the same.")
@json_option
def reboot(now: bool, as_json: bool) -> None:
    """Reboot, into what is staged if anything is, as soon as nobody asks to wait.

    It runs the programs of /etc/twinhull/before-reboot.d and asks who inhibits a shutdown, and says for whom it waits;
    they are overruled after `reboot.patience`.  It does not wait for a reboot window.
    """
    it = setting()
    facts = it.agent.facts()
    found = waiting(facts, it.agent.hints())
    target = facts.running_version if found is None else found.version
    leave_by_hand(it, target, at_once=now)
    it.agent.reboot()
    emit_json({"version": target}) if as_json else click.echo(f"rebooting into {target}")


@updater.command()
@click.argument("version", type=VERSION)
@json_option
def pin(version: Version, as_json: bool) -> None:
    """Stay on exactly VERSION, even an older one; the next update installs it.

    \b
    Example:
      updater pin 1.0.0
    """
    hints = setting().agent.pin(version)
    emit_json({"pin": hints.pin}) if as_json else click.echo(f"pinned to {version}")


@updater.command()
@json_option
def unpin(as_json: bool) -> None:
    """Follow the channel again."""
    hints = setting().agent.pin(None)
    emit_json({"pin": hints.pin}) if as_json else click.echo("not pinned any more")


@updater.command()
@click.option("--reason", default="", help="Shown by `updater status` and `updater check`.")
@json_option
def hold(reason: str, as_json: bool) -> None:
    """Take no update until `updater release-hold`.

    \b
    Example:
      updater hold --reason 'audit until Friday'
    """
    hints = setting().agent.hold(reason)
    emit_json({"hold": hints.hold}) if as_json else click.echo("held")


@updater.command("release-hold")
@json_option
def release_hold(as_json: bool) -> None:
    """Take updates again."""
    hints = setting().agent.release_hold()
    emit_json({"hold": hints.hold}) if as_json else click.echo("released")


@updater.command()
@click.argument("version", type=VERSION)
@click.option("--reason", default="", help="Shown by `updater history`.")
@json_option
def forgive(version: Version, reason: str, as_json: bool) -> int:
    """Take back that VERSION failed on this host; the next update, or the next reboot, tries it again.

    `updater status` says why it failed.  Exit code 4: it is not known to have failed.

    \b
    Example:
      updater forgive 1.0.1 --reason 'the registry was away'
    """
    forgiven = setting().agent.forgive(version, reason)
    if as_json:
        emit_json({"version": version, "forgiven": forgiven})
    else:
        click.echo(f"{version} may be tried again" if forgiven else f"{version} is not known to have failed here")
    return EXIT_DONE if forgiven else EXIT_NOTHING_TO_DO


@updater.command()
@click.option("--no-reboot", is_flag=True, help="Only prepare it; it takes effect at the next reboot.")
@json_option
def rollback(no_reboot: bool, as_json: bool) -> None:
    """Go back to the version in the other slot and reboot.

    The version left behind is not installed again automatically; `updater update --retry` installs it.
    """
    it = setting()
    version = it.agent.rollback()
    emit_json({"version": version}) if as_json else click.echo(f"going back to {version}")
    if not no_reboot:
        leave_by_hand(it, version)
        it.agent.machine.reboot(force=False)


@updater.command()
@json_option
def bless(as_json: bool) -> None:
    """Mark the running version good; the host does this by itself when its health checks pass."""
    it = setting()
    verdict = it.agent.bless()
    # For the guards of a trial, which have nothing to do from now on.
    it.paths.runtime.mkdir(parents=True, exist_ok=True, mode=0o755)
    it.paths.blessed.touch()
    names = [rename.new.file_name for rename in verdict.renames]
    if as_json:
        emit_json({"renamed": names, "newest_blessed": verdict.hints.newest_blessed})
    else:
        click.echo(f"blessed: {', '.join(names)}" if names else "blessed already")


@updater.command("health")
@click.option("--gate", is_flag=True, help="For twinhull-health.service: reboot out of a trial that is not healthy.")
@click.option("--wait", is_flag=True, help="Judge as a trial is judged: until all required checks held for a while.")
@json_option
def health_command(gate: bool, wait: bool, as_json: bool) -> int:
    """Run the health checks, each with a time limit, and print a line for each.  Exit code 1: not healthy.

    Each check is run once unless --wait or --gate is given.
    """
    it = setting()
    run = checks.in_own_unit if it.paths.is_this_host else checks.directly
    how = Judging.AT_THE_GATE if gate else Judging.PATIENTLY if wait else Judging.ONCE
    results = Gate(it.agent, it.settings, run).judge(how, (lambda _: None) if as_json else click.echo)
    failure = health.failure_text(results)
    if as_json:
        emit_json({"healthy": not failure, "checks": results})
    if gate:
        it.paths.runtime.mkdir(parents=True, exist_ok=True, mode=0o755)
        it.paths.judged.touch()
    if not failure:
        return EXIT_DONE
    if gate:
        undecided = health.is_undecided(results)
        if undecided and it.agent.facts().blessed:
            click.echo("the update server does not answer, which says nothing of a proven version", err=True)
            return EXIT_DONE
        verdict = it.agent.postpone(failure) if undecided else it.agent.unhealthy(failure, force=False)
        click.echo(
            "not healthy: rebooting" if verdict.reboot else "not healthy: staying, nothing to go back to", err=True
        )
    return EXIT_FAILED


@updater.command("settings")
@json_option
def settings_command(as_json: bool) -> int:
    """Show the settings in force, and which were ignored as invalid.  Exit code 2: some were."""
    settings = setting().settings
    if as_json:
        emit_json(
            {"settings": settings.config.without_passwords(), "problems": report.problem_lines(settings.problems)}
        )
    else:
        click.echo("\n".join(report.setting_lines(settings.config)))
    return EXIT_USAGE if settings.problems else EXIT_DONE


@updater.command()
@json_option
def history(as_json: bool) -> None:
    """Show what happened on this host, oldest first."""
    events = setting().agent.hints().history
    if as_json:
        emit_json(events)
        return
    for event in events:
        click.echo(f"{event.at}  {event.kind.value:<11} {event.version or '-'}  {event.text}")


@updater.command("open-disk")
@json_option
def open_disk(as_json: bool) -> None:
    """Let every process write to this host's disk until the next boot, to change its partitions by hand.

    The partitions of the slots stay read-only (blockdev --setrw).
    """
    on_this_host()
    DiskGate(KernelDeviceFilters()).open()
    emit_json({"open": True}) if as_json else click.echo("every process may write to the disk now")


def leave_by_hand(it: Setting, target: Version, *, at_once: bool = False) -> None:
    """Wait for whoever asks to put off the reboot, and say for whom."""
    it.departure.wait(target, lambda line: click.echo(line, err=True), at_once=at_once)


def plan_values(decided: Plan) -> dict[str, object]:
    """A plan for programs."""
    if isinstance(decided, Update):
        return {"plan": "update", "version": decided.version, "slot": decided.slot, "downgrade": decided.downgrade}
    if isinstance(decided, Wait):
        return {
            "plan": "wait",
            "version": decided.version,
            "until": decided.until.isoformat(),
            "reason": decided.reason,
        }
    return {"plan": "nothing", "why": decided.why, "reason": decided.reason}


updater.add_command(boot)
updater.add_command(check_storage)
updater.add_command(provision)
updater.add_command(deadline)
updater.add_command(daemon)
updater.add_command(etc_diff)
updater.add_command(etc_note)
updater.add_command(reset)
updater.add_command(completion_command(updater, "updater"))


def main() -> NoReturn:
    """Run the program."""
    run_command(updater, prog_name="updater")


if __name__ == "__main__":
    main()
