"""`twinhull repo …` and `twinhull channel …`: the signed repository from the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from bedrock import strict
from bedrock.cli import FromText, emit_json, json_option, line_progress
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_DONE, EXIT_DUE, EXIT_NOTHING_TO_DO, EXIT_OVERDUE, EXIT_REFUSED
from bedrock.persist import write_atomic, write_new
from bedrock.progress import Progress, Silent
from keys.cli import keys_option, passphrase_option, passphrase_source
from keys.keyring import Keyring
from keys.roles import TufRole
from partitions.cli import VERSION
from partitions.version import Version
from updater.documents.channel import Channel, DeadEnd, Instant
from updater.documents.release import Release
from updater.repository.access import KeyAccess
from updater.repository.channels import (
    ChannelChange,
    ReleaseChoice,
    list_channels,
    set_channel,
    show_channel,
)
from updater.repository.field.cli import layouts
from updater.repository.field.layouts import read_outlooks
from updater.repository.field.room import DEFAULT_WARN_WITHIN, family_of
from updater.repository.lifetime import Lifetimes
from updater.repository.objects import DEFAULT_LEVEL, MAX_LEVEL
from updater.repository.publish import Publication, init_repository, publish, read_build
from updater.repository.refresh import DEFAULT_WITHIN, refresh
from updater.repository.status import Validity, read_status
from updater.repository.status import lines as status_lines
from updater.repository.verify import Verification, verify

Command = TypeVar("Command", bound=Callable[..., Any])
ROOT_OF_TRUST_FILE = "root.json"
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_MIB = 1 << 20


@dataclass(frozen=True)
class _Span:
    duration: strict.Seconds


def _seconds(text: str) -> float:
    return strict.read(_Span, {"duration": text}, source="value").duration


def _days(text: str) -> timedelta:
    return timedelta(seconds=_seconds(text))


def _dead_end(text: str) -> DeadEnd:
    version, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise ValueError(f"must be VERSION=REASON, not {text!r}")
    return DeadEnd(Version.from_text(version), reason.strip())


SPAN = FromText("duration", _days)
SECONDS = FromText("duration", _seconds)
MOMENT = FromText("moment", Instant.from_text)
RELEASE = FromText("release", ReleaseChoice.from_text)
DEAD_END = FromText("dead end", _dead_end)


def keys_options(command: Command) -> Command:
    """Add `--keys` and `--passphrase-file`."""
    return keys_option(passphrase_option(command), name="keys")


def lifetime_options(command: Command) -> Command:
    """Add the options that say how long signatures last."""
    online = click.option("--online-lifetime", type=SPAN, help="Validity of snapshot and timestamp (default 7d).")
    delegated = click.option("--release-lifetime", type=SPAN, help="Validity of releases and channels (default 90d).")
    return online(delegated(command))


@click.group("repo")
def repo() -> None:
    """Create, fill, refresh and check a signed repository of releases.

    A repository is a folder of plain files; twinhull server or any static web server can
    serve it. Every change is signed and becomes visible in one step.

    \b
    Example:
      twinhull repo init repo
      twinhull repo publish repo out/1.0.0
      twinhull channel set repo stable --release my-host/1.0.0
      twinhull server repo
    """


@repo.command("init")
@click.argument("base", metavar="REPO", type=_FOLDER)
@keys_options
@lifetime_options
@json_option
def init_command(
    *,
    base: Path,
    keys: Path,
    passphrase_file: Path | None,
    online_lifetime: timedelta | None,
    release_lifetime: timedelta | None,
    as_json: bool,
) -> None:
    """Create an empty repository in REPO, which must be new or empty; needs the keys of every role.

    Writes the first root metadata next to the keys as root.json; `twinhull build` bakes it into images.

    \b
    Example:
      twinhull repo init repo
    """
    lifetimes = _lifetimes(online_lifetime, release_lifetime)
    init_repository(base, _access(keys, passphrase_file), lifetimes=lifetimes, now=SYSTEM_CLOCK.now())
    first_root = base / "metadata" / "1.root.json"
    baked = keys / ROOT_OF_TRUST_FILE
    if not baked.exists():
        write_new(baked, first_root.read_bytes())
    if as_json:
        emit_json({"repository": base, "root_of_trust": baked})
    else:
        click.echo(f"{base}: a new repository; images built with {keys} trust it by {baked}")


@repo.command("publish")
@click.argument("base", metavar="REPO", type=_FOLDER)
@click.argument("folders", metavar="BUILD_OUT...", type=_FOLDER, nargs=-1, required=True)
@keys_options
@lifetime_options
@click.option(
    "--level",
    type=click.IntRange(1, MAX_LEVEL),
    default=DEFAULT_LEVEL,
    show_default=True,
    help="zstd level. 300 MB on two cores: 19 takes 69 s for 27 %, 9 takes 3 s for 30 %.",
)
@click.option(
    "--warn-within",
    type=click.IntRange(min=0),
    default=DEFAULT_WARN_WITHIN,
    show_default=True,
    metavar="N",
    help="Warn when growth will exceed the slots of hosts within N releases.",
)
@click.option("--allow-debug", is_flag=True, help="Publish even a build with the debug profile.")
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
def publish_command(
    *,
    base: Path,
    folders: tuple[Path, ...],
    keys: Path,
    passphrase_file: Path | None,
    online_lifetime: timedelta | None,
    release_lifetime: timedelta | None,
    level: int,
    warn_within: int,
    allow_debug: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Publish builds; needs the keys of releases, snapshot and timestamp.

    Every file is checked against its release.json before anything is written. A version is
    published once: publishing the same content again does nothing (exit code 4), other
    content is an error.
    Readers see nothing of an interrupted publish; run it again to complete it.
    A release that does not fit the disks of hosts in the field is refused (twinhull repo layouts),
    and so is a build made with `--profile debug`.

    \b
    Example:
      twinhull repo publish repo out/my-host/1.0.0 out/my-host/1.0.1
    """
    done = publish(
        base,
        [read_build(folder) for folder in folders],
        access=_access(keys, passphrase_file),
        lifetimes=_lifetimes(online_lifetime, release_lifetime),
        now=SYSTEM_CLOCK.now(),
        progress=_progress(quiet=quiet),
        level=level,
        allow_debug=allow_debug,
    )
    families = [family_of(publication.release) for publication in done]
    warnings = read_outlooks(base, families, within=warn_within)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        emit_json({"published": [_publication(publication) for publication in done], "warnings": warnings})
    else:
        click.echo("\n".join(map(_sentence, done)))
    return EXIT_DONE if any(publication.new for publication in done) else EXIT_NOTHING_TO_DO


@repo.command("refresh")
@click.argument("base", metavar="REPO", type=_FOLDER)
@keys_options
@lifetime_options
@click.option("--within", type=SPAN, help="Also sign other roles that expire within this time (default 30d).")
@json_option
def refresh_command(
    *,
    base: Path,
    keys: Path,
    passphrase_file: Path | None,
    online_lifetime: timedelta | None,
    release_lifetime: timedelta | None,
    within: timedelta | None,
    as_json: bool,
) -> int:
    """Sign snapshot and timestamp again, and other roles that expire soon if their keys are here.

    Run it from a timer, more often than the online lifetime (7 days by default). Exit code 6: a role
    has expired, and its keys are not here, so hosts refuse what this repository says. A new root is
    also written next to the keys as root.json, for the images built from then on.

    \b
    Example:
      twinhull repo refresh repo --within 60d
    """
    now = SYSTEM_CLOCK.now()
    done = refresh(
        base,
        access=_access(keys, passphrase_file),
        lifetimes=_lifetimes(online_lifetime, release_lifetime),
        now=now,
        within=DEFAULT_WITHIN if within is None else within,
    )
    expires = {role: _moment(when) for role, when in done.expires.items()}
    late = {item.role.value: _moment(item.expires) for item in done.expiring}
    past = [item.role.value for item in done.expiring if item.expires <= now]
    if TufRole.ROOT in done.signed:
        write_atomic(keys / ROOT_OF_TRUST_FILE, done.root)
    if as_json:
        emit_json({"signed": [role.value for role in done.signed], "expires": expires, "keys_elsewhere": late})
    else:
        for role in done.signed:
            click.echo(f"{role.value}: signed, valid until {expires[role.value]}")
    for name, when in late.items():
        told = f"error: {name} expired" if name in past else f"warning: {name} expires"
        click.echo(f"{told} at {when} and its keys are not here", err=True)
    return EXIT_OVERDUE if past else EXIT_DONE


@repo.command("status")
@click.argument("base", metavar="REPO", type=_FOLDER)
@click.option("--within", type=SPAN, help="A role is due when it expires within this time (default 30d).")
@json_option
def status_command(base: Path, within: timedelta | None, as_json: bool) -> int:
    """Show each role: its version, when it expires, who signed it, and whose turn it is.

    Needs no keys. A role is due when it expires within --within and half of its life is over.
    Exit code 5: a role is due. Exit code 6: a role has expired, and hosts refuse what this repository says.

    \b
    Example:
      twinhull repo status repo --within 60d
    """
    now = SYSTEM_CLOCK.now()
    status = read_status(base, now=now, within=DEFAULT_WITHIN if within is None else within)
    if as_json:
        roles = [{**strict.plain(role), "expires": _moment(role.expires)} for role in status.roles]
        emit_json({"validity": status.validity, "unfinished": status.unfinished, "roles": roles})
    else:
        for line in status_lines(status, now):
            click.echo(line)
    return {Validity.FINE: EXIT_DONE, Validity.DUE: EXIT_DUE, Validity.EXPIRED: EXIT_OVERDUE}[status.validity]


@repo.command("verify")
@click.argument("base", metavar="REPO", type=_FOLDER)
@click.option("--root", "root", type=_FILE, help="The root.json that hosts trust [default: the repository's first].")
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
    report = verify(base, now=SYSTEM_CLOCK.now(), progress=_progress(quiet=quiet), trusted_root=trusted)
    if as_json:
        expires = {role: _moment(when) for role, when in report.expires.items()}
        emit_json({"ok": report.ok, **strict.plain(replace(report, expires={})), "expires": expires})
    else:
        _tell(base, report)
    if not report.ok:
        context.exit(EXIT_REFUSED)


repo.add_command(layouts)


@click.group("channel")
def channel() -> None:
    """Point channels at releases, pace them, stop them.

    Hosts follow a channel. When a channel points to a new release, a wave spreads it evenly
    over the given duration until it has reached every host.

    \b
    Example:
      twinhull channel set repo stable --release my-host/1.0.1 --over 2d
      twinhull channel set repo stable --halt
      twinhull channel show repo stable
    """


@channel.command("set")
@click.argument("base", metavar="REPO", type=_FOLDER)
@click.argument("name", metavar="NAME")
@keys_options
@lifetime_options
@click.option("--release", type=RELEASE, metavar="IMAGE/VERSION[/ARCH]", help="The published release to point to.")
@click.option(
    "--start", type=MOMENT, metavar="T", help="When the wave starts, such as 2026-01-31T12:00:00Z (default now)."
)
@click.option(
    "--over", type=SECONDS, metavar="DURATION", help="How long the wave takes to reach every host, such as 2d."
)
@click.option("--floor", type=VERSION, metavar="V", help="Published release that older hosts must go to first.")
@click.option("--no-floor", is_flag=True, help="Remove the floor.")
@click.option("--halt/--resume", "halted", default=None, help="Stop the release from spreading, or let it go on.")
@click.option(
    "--dead-end",
    "dead_ends",
    type=DEAD_END,
    metavar="V=REASON",
    multiple=True,
    help="Hosts on V must not update by themselves.",
)
@click.option(
    "--no-dead-end", "reopened", type=VERSION, metavar="V", multiple=True, help="V is not a dead end any more."
)
@click.option("--allow-downgrade", is_flag=True, help="The release may be older than the channel's current one.")
@json_option
def set_command(
    *,
    base: Path,
    name: str,
    keys: Path,
    passphrase_file: Path | None,
    online_lifetime: timedelta | None,
    release_lifetime: timedelta | None,
    over: float | None,
    dead_ends: tuple[DeadEnd, ...],
    as_json: bool,
    **change: Any,
) -> int:
    """Create or change a channel; needs the keys of channels, snapshot and timestamp.

    Options that are not given keep their values. A new release starts a new wave now, over the
    duration the channel had before; a halted channel stays halted until --resume. Exit code 4:
    the channel already says this.

    \b
    Example:
      twinhull channel set repo beta --release my-host/1.0.1
      twinhull channel set repo stable --release my-host/1.0.1 --start 2026-01-31T12:00:00Z --over 2d
      twinhull channel set repo stable --dead-end '1.0.0=cannot read the new disk'
    """
    done = set_channel(
        base,
        name,
        ChannelChange(over_s=over, dead_ends=dead_ends, **change),
        access=_access(keys, passphrase_file),
        lifetimes=_lifetimes(online_lifetime, release_lifetime),
        now=SYSTEM_CLOCK.now(),
    )
    if as_json:
        emit_json({"changed": done.new, "channel": done.channel})
    else:
        click.echo(_summary(done.channel) + ("" if done.new else " (nothing to do)"))
    return EXIT_DONE if done.new else EXIT_NOTHING_TO_DO


@channel.command("show")
@click.argument("base", metavar="REPO", type=_FOLDER)
@click.argument("name", metavar="NAME")
@json_option
def show_command(base: Path, name: str, as_json: bool) -> None:
    """Show one channel.

    \b
    Example:
      twinhull channel show repo stable --json
    """
    shown = show_channel(base, name)
    if as_json:
        emit_json(shown)
        return
    click.echo(_summary(shown))
    if shown.floor:
        click.echo(f"  floor: {shown.floor.version} (older hosts go there first)")
    for end in shown.dead_ends:
        click.echo(f"  dead end: {end.version}: {end.reason}")


@channel.command("list")
@click.argument("base", metavar="REPO", type=_FOLDER)
@json_option
def list_command(base: Path, as_json: bool) -> None:
    """List all channels.

    \b
    Example:
      twinhull channel list repo
    """
    channels = list_channels(base)
    if as_json:
        emit_json({"channels": channels})
        return
    for item in channels:
        click.echo(_summary(item))


def _access(keys: Path, passphrase_file: Path | None) -> KeyAccess:
    return KeyAccess(Keyring.load(keys), passphrase_source(passphrase_file))


def _lifetimes(online: timedelta | None, delegated: timedelta | None) -> Lifetimes:
    usual = Lifetimes()
    return replace(usual, online=online or usual.online, delegated=delegated or usual.delegated)


def _progress(*, quiet: bool) -> Progress:
    return Silent() if quiet else line_progress()


def _moment(when: datetime) -> str:
    return str(Instant(when))


def _title(release: Release) -> str:
    return f"{release.image} {release.version} ({release.architecture.value})"


def _publication(publication: Publication) -> dict[str, object]:
    return {
        "release": publication.release,
        "new": publication.new,
        "raw_bytes": publication.raw_bytes,
        "stored_bytes": publication.stored_bytes,
    }


def _sentence(publication: Publication) -> str:
    title = _title(publication.release)
    if not publication.new:
        return f"{title}: published before with the same content, nothing to do"
    raw, stored = publication.raw_bytes / _MIB, publication.stored_bytes / _MIB
    return f"{title}: published, {raw:.1f} MiB in {stored:.1f} MiB of objects"


def _summary(item: Channel) -> str:
    spread = f"over {item.pace.over_s:g} s" if item.pace.over_s else "at once"
    halted = ", HALTED" if item.halted else ""
    target = f"{item.image} {item.version} ({item.architecture.value})"
    return f"{item.name}: {target} from {item.pace.start}, {spread}{halted}"


def _tell(base: Path, report: Verification) -> None:
    for problem in report.problems:
        click.echo(f"problem: {problem}")
    for note in report.notes:
        click.echo(f"note: {note}")
    counts = f"{report.releases} releases, {report.channels} channels, {report.objects} objects"
    verdict = "everything holds" if report.ok else f"{len(report.problems)} problems"
    click.echo(f"{base}: {counts}: {verdict}")
