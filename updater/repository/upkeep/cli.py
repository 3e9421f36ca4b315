"""`twinhull repo refresh`, `status`, `verify`, `list`, `withdraw` and `gc`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click

from bedrock import strict
from bedrock.cli import emit_json, json_option
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_DONE, EXIT_DUE, EXIT_NOTHING_TO_DO, EXIT_OVERDUE, EXIT_REFUSED
from updater.repository.arguments.cli import (
    FILE,
    FOLDER,
    RELEASE,
    SPAN,
    WritingOptions,
    keep_newest_root,
    moment_text,
    outcome,
    progress_of,
    wait_option,
    writing_options,
)
from updater.repository.channels import ReleaseChoice
from updater.repository.upkeep.garbage import DEFAULT_AGE, collect
from updater.repository.upkeep.listing import Published, list_releases
from updater.repository.upkeep.online import sign_online
from updater.repository.upkeep.refresh import DEFAULT_WITHIN, refresh
from updater.repository.upkeep.status import Validity, lines, read_status
from updater.repository.upkeep.verify import Verification, verify
from updater.repository.upkeep.withdraw import withdraw

_MIB = 1 << 20


@click.command("refresh")
@click.argument("base", metavar="REPO", type=FOLDER)
@writing_options
@click.option("--within", type=SPAN, help="Also sign other roles that expire within this time (default 30d).")
@json_option
def refresh_command(
    *,
    base: Path,
    given: WritingOptions,
    within: timedelta | None,
    as_json: bool,
) -> int:
    """Sign snapshot and timestamp again, and other roles that expire soon if their keys are here.

    Without the online keys, releases or channels that expire soon are signed again and submitted.
    Where keyring.yaml names other keys than the repository (twinhull keys rotate), the repository gets them,
    if all keys that must sign are here; else nothing of it is written. Run it from a timer, more often than
    the online lifetime (7 days by default). A new root is also written next to the keys as root.json, for
    the images built from then on. Exit code 4: there are no online keys here, and nothing else is due. Exit
    code 5: keys are to be exchanged, and others must sign that (twinhull
    root). Exit code 6: a role has expired, and its keys are not here, so hosts refuse the repository.

    \b
    Example:
      twinhull repo refresh repo --within 60d
    """
    now = SYSTEM_CLOCK.now()
    done = refresh(
        base,
        access=given.access,
        lifetimes=given.lifetimes,
        now=now,
        wait_s=given.wait_s,
        within=DEFAULT_WITHIN if within is None else within,
    )
    expires = {role: moment_text(when) for role, when in done.expires.items()}
    late = {item.role.value: moment_text(item.expires) for item in done.expiring}
    past = [item.role.value for item in done.expiring if item.expires <= now]
    keep_newest_root(base, given.access.keyring)
    if as_json:
        signed = [role.value for role in done.signed]
        keys = {"changes": done.changes, "needed": done.needed, "ignored": done.ignored}
        emit_json({"signed": signed, "waits": done.waits, "expires": expires, "keys_elsewhere": late, "keys": keys})
    else:
        for change in done.changes:
            click.echo(change)
        for role in done.signed:
            waits = outcome(new=True, waits=done.waits)
            click.echo(f"{role.value}: signed, valid until {expires[role.value]}{waits}")
    for name, when in late.items():
        told = f"error: {name} expired" if name in past else f"warning: {name} expires"
        click.echo(f"{told} at {when} and its keys are not here", err=True)
    for line in (*done.ignored, *done.needed):
        click.echo(f"warning: {line}", err=True)
    if done.needed:
        click.echo(f"hint: twinhull root sign-request {base} --out FILE writes what must be signed", err=True)
    if past:
        return EXIT_OVERDUE
    if done.needed:
        return EXIT_DUE
    return EXIT_DONE if done.signed else EXIT_NOTHING_TO_DO


@click.command("status")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.option("--within", type=SPAN, help="A role is due when it expires within this time (default 30d).")
@json_option
def status_command(base: Path, within: timedelta | None, as_json: bool) -> int:
    """Show each role: its version, when it expires, who signed it, and whose turn it is; and what was submitted.

    Needs no keys. A role is due when it expires within --within and half of its life is over.
    Exit code 5: a role is due. Exit code 6: a role has expired, or was not signed by the keys it has now,
    and hosts refuse what this repository says.

    \b
    Example:
      twinhull repo status repo --within 60d
    """
    now = SYSTEM_CLOCK.now()
    status = read_status(base, now=now, within=DEFAULT_WITHIN if within is None else within)
    if as_json:
        roles = [{**strict.plain(role), "expires": moment_text(role.expires)} for role in status.roles]
        emit_json({**strict.plain(status), "validity": status.validity, "roles": roles})
    else:
        for line in lines(status, now):
            click.echo(line)
    return {Validity.FINE: EXIT_DONE, Validity.DUE: EXIT_DUE}.get(status.validity, EXIT_OVERDUE)


@click.command("verify")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.option("--root", "root", type=FILE, help="The root.json that hosts trust [default: the repository's first].")
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
@click.pass_context
def verify_command(context: click.Context, base: Path, root: Path | None, quiet: bool, as_json: bool) -> None:
    """Check every signature, expiry, hash and object like a client that trusts nothing.

    Needs no keys. Lists every problem; exit code 3 if there is one.

    \b
    Example:
      twinhull repo verify repo --root image/root.json
    """
    trusted = root.read_bytes() if root else None
    report = verify(base, now=SYSTEM_CLOCK.now(), progress=progress_of(quiet=quiet), trusted_root=trusted)
    if as_json:
        expires = {role: moment_text(when) for role, when in report.expires.items()}
        emit_json({"ok": report.ok, **strict.plain(replace(report, expires={})), "expires": expires})
    else:
        _tell(base, report)
    if not report.ok:
        context.exit(EXIT_REFUSED)


@click.command("list")
@click.argument("base", metavar="REPO", type=FOLDER)
@json_option
def list_command(base: Path, as_json: bool) -> None:
    """List the published releases, what hosts download of each, and the channels that name it.

    \b
    Example:
      twinhull repo list repo
    """
    found = list_releases(base)
    if as_json:
        emit_json({"releases": found})
        return
    for published in found:
        click.echo(_row(published))


@click.command("withdraw")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.argument("choice", metavar="IMAGE/VERSION[/ARCH]", type=RELEASE)
@click.option("--reason", required=True, help="Why, for whoever asks; hosts show it.")
@writing_options
@json_option
def withdraw_command(
    *,
    base: Path,
    choice: ReleaseChoice,
    reason: str,
    given: WritingOptions,
    as_json: bool,
) -> int:
    """Withdraw a published release for good: no host installs it any more, not even by a pin.

    Hosts that run it keep it. Its name is never used again, and its bytes stay, so that it can still
    be explained and reproduced. A channel that names it must be moved first. Needs the key of
    releases; hosts see it once the online keys have signed. Exit code 4: it is withdrawn already.

    \b
    Example:
      twinhull repo withdraw repo my-host/1.0.1 --reason 'loses the network after a day'
    """
    done = withdraw(
        base,
        choice,
        reason,
        access=given.access,
        lifetimes=given.lifetimes,
        now=SYSTEM_CLOCK.now(),
        wait_s=given.wait_s,
    )
    if as_json:
        told = {"changed": done.new, "waits": done.waits}
        emit_json({**told, "image": choice.image, "version": choice.version, "reason": reason})
    else:
        click.echo(f"{choice.image} {choice.version}: withdrawn" + outcome(new=done.new, waits=done.waits))
    return EXIT_DONE if done.new else EXIT_NOTHING_TO_DO


@click.command("gc")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.option("--older-than", type=SPAN, help="Leave files alone that are younger (default 7d).")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@wait_option
@json_option
def gc_command(base: Path, older_than: timedelta | None, dry_run: bool, wait_s: float, as_json: bool) -> int:
    """Remove files that nothing names: objects of interrupted commands, and documents that were replaced.

    Everything that a published or withdrawn release names stays, and so does every root. Needs no keys.
    Exit code 4: there is nothing to remove.

    \b
    Example:
      twinhull repo gc repo --dry-run
    """
    found = collect(
        base,
        older_than=DEFAULT_AGE if older_than is None else older_than,
        now=SYSTEM_CLOCK.now(),
        remove=not dry_run,
        wait_s=wait_s,
    )
    if as_json:
        emit_json({"removed": not dry_run, "files": found.files, "size_bytes": found.size_bytes})
    else:
        for name in found.files:
            click.echo(name)
        verb = "would be removed" if dry_run else "removed"
        click.echo(f"{base}: {len(found.files)} files, {found.size_bytes / _MIB:.1f} MiB {verb}")
    return EXIT_DONE if found.files else EXIT_NOTHING_TO_DO


@click.command("sign-online")
@click.argument("base", metavar="REPO", type=FOLDER)
@writing_options
@json_option
def sign_online_command(*, base: Path, given: WritingOptions, as_json: bool) -> int:
    """Make visible what others submitted, by snapshot and timestamp; run it from a timer, every minute or so.

    The build pipeline and the release manager sign what is theirs, and this checks it: signatures and
    thresholds, that nothing goes back, and that all that is named is there. What does not hold is left
    out and reported, and blocks nothing else. Snapshot and timestamp are also signed again when half of
    their life is over. Exit code 4: there is nothing to do.

    \b
    Example:
      twinhull repo sign-online repo --keys online-keys
    """
    now = SYSTEM_CLOCK.now()
    done = sign_online(base, access=given.access, lifetimes=given.lifetimes, now=now, wait_s=given.wait_s)
    keep_newest_root(base, given.access.keyring)
    for left in done.left_out:
        click.echo(f"warning: {left}", err=True)
    if as_json:
        emit_json({**strict.plain(done), "expires": moment_text(done.expires)})
    else:
        for role, version in done.visible.items():
            click.echo(f"{role}: version {version} is visible")
        click.echo(f"timestamp: {'signed, ' if done.signed else ''}valid until {moment_text(done.expires)}")
    return EXIT_DONE if done.signed else EXIT_NOTHING_TO_DO


UPKEEP = (
    refresh_command,
    sign_online_command,
    status_command,
    verify_command,
    list_command,
    withdraw_command,
    gc_command,
)


def _row(published: Published) -> str:
    named = f", {', '.join(published.channels)}" if published.channels else ""
    withdrawn = f", WITHDRAWN: {published.withdrawn}" if published.withdrawn is not None else ""
    title = f"{published.image} {published.version} ({published.architecture.value})"
    return f"{title}: {published.wire_bytes / _MIB:.1f} MiB{named}{withdrawn}"


def _tell(base: Path, report: Verification) -> None:
    for problem in report.problems:
        click.echo(f"problem: {problem}")
    for note in report.notes:
        click.echo(f"note: {note}")
    counts = f"{report.releases} releases, {report.channels} channels, {report.objects} objects"
    verdict = "everything holds" if report.ok else f"{len(report.problems)} problems"
    click.echo(f"{base}: {counts}: {verdict}")
