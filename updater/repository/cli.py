"""`twinhull repo …` and `twinhull channel …`: the signed repository from the command line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from bedrock.cli import emit_json, json_option
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from bedrock.persist import write_new
from partitions.cli import VERSION
from updater.documents.channel import Channel, DeadEnd
from updater.documents.release import Release
from updater.repository.arguments.cli import (
    DEAD_END,
    FOLDER,
    MOMENT,
    RELEASE,
    SECONDS,
    WritingOptions,
    access_of,
    keep_newest_root,
    keys_options,
    lifetime_options,
    lifetimes_of,
    outcome,
    progress_of,
    writing_options,
)
from updater.repository.channels import (
    ChannelChange,
    ChannelSet,
    ReleaseChoice,
    delete_channel,
    list_channels,
    set_channel,
    show_channel,
)
from updater.repository.field.cli import layouts
from updater.repository.field.layouts import read_outlooks
from updater.repository.field.room import DEFAULT_WARN_WITHIN, family_of
from updater.repository.mirror.cli import copy_command
from updater.repository.objects import DEFAULT_LEVEL, MAX_LEVEL
from updater.repository.publish import Publication, init_repository, publish, read_build
from updater.repository.roots import ROOT_OF_TRUST_FILE
from updater.repository.upkeep.cli import UPKEEP

_MIB = 1 << 20


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
@click.argument("base", metavar="REPO", type=FOLDER)
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
    """Create an empty repository in REPO, which must be new or empty.

    With the keys of every role at hand it is done at once. Else its first documents are still to be signed:
    `twinhull root sign-request` writes them to a file, and `twinhull root apply` brings the signatures back.
    The first root is also written next to the keys as root.json; `twinhull build` bakes it into images.

    \b
    Example:
      twinhull repo init repo
    """
    lifetimes = lifetimes_of(online_lifetime, release_lifetime)
    step = init_repository(base, access_of(keys, passphrase_file), lifetimes=lifetimes, now=SYSTEM_CLOCK.now())
    baked = keys / ROOT_OF_TRUST_FILE
    if step.root is not None and not baked.exists():
        write_new(baked, step.root.raw)
    if as_json:
        emit_json({"repository": base, "root_of_trust": baked, "finished": step.finished, "missing": step.missing})
    elif step.finished:
        click.echo(f"{base}: a new repository; images built with {keys} trust it by {baked}")
    else:
        click.echo(f"{base}: a new repository, whose first documents are to be signed")
        for line in step.missing:
            click.echo(f"missing: {line}")
        click.echo(f"next: twinhull root sign-request {base} --out FILE")


@repo.command("publish")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.argument("folders", metavar="BUILD_OUT...", type=FOLDER, nargs=-1, required=True)
@writing_options
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
@click.option("--allow-unsigned", is_flag=True, help="Publish even a build without Secure Boot signatures.")
@click.option(
    "--allow-other-trust", is_flag=True, help="Publish even a build for another root or other Secure Boot keys."
)
@click.option("--quiet", is_flag=True, help="No progress.")
@json_option
def publish_command(
    *,
    base: Path,
    folders: tuple[Path, ...],
    given: WritingOptions,
    level: int,
    warn_within: int,
    allow_debug: bool,
    allow_unsigned: bool,
    allow_other_trust: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Publish builds; needs the key of releases, and hosts see it once the online keys have signed.

    Where the keys of snapshot and timestamp are here too, that is at once; else the releases are
    submitted, and `twinhull repo sign-online` makes them visible.
    Every file is checked against its release.json before anything is written. A version is
    published once: publishing the same content again does nothing (exit code 4), other
    content is an error.
    Readers see nothing of an interrupted publish; run it again to complete it.
    A release that does not fit the disks of hosts in the field is refused (twinhull repo layouts),
    and so is a build made with `--profile debug`, an unsigned one, one that trusts another root than this
    repository's (a rotated root is the same trust), and one with other Secure Boot certificates than the
    release before.

    \b
    Example:
      twinhull repo publish repo out/my-host/1.0.0 out/my-host/1.0.1
    """
    done = publish(
        base,
        [read_build(folder) for folder in folders],
        access=given.access,
        lifetimes=given.lifetimes,
        now=SYSTEM_CLOCK.now(),
        progress=progress_of(quiet=quiet),
        level=level,
        allow_debug=allow_debug,
        allow_unsigned=allow_unsigned,
        allow_other_trust=allow_other_trust,
        wait_s=given.wait_s,
    )
    keep_newest_root(base, given.access.keyring)
    families = [family_of(publication.release) for publication in done]
    warnings = read_outlooks(base, families, within=warn_within)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        emit_json({"published": [_publication(publication) for publication in done], "warnings": warnings})
    else:
        click.echo("\n".join(map(_sentence, done)))
    return EXIT_DONE if any(publication.new for publication in done) else EXIT_NOTHING_TO_DO


for command in (*UPKEEP, layouts, copy_command):
    repo.add_command(command)


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
@click.argument("base", metavar="REPO", type=FOLDER)
@click.argument("name", metavar="NAME")
@writing_options
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
@click.option("--retry", metavar="REASON", help="Hosts on which the release failed until now try it once more.")
@click.option("--allow-downgrade", is_flag=True, help="The release may be older than the channel's current one.")
@json_option
def set_command(
    *,
    base: Path,
    name: str,
    given: WritingOptions,
    over: float | None,
    dead_ends: tuple[DeadEnd, ...],
    as_json: bool,
    **change: Any,
) -> int:
    """Create or change a channel; needs the key of channels, and hosts see it once the online keys have signed.

    Options that are not given keep their values. A new release starts a new wave now, over the
    duration the channel had before; a halted channel stays halted until --resume. Exit code 4:
    the channel already says this.

    \b
    Example:
      twinhull channel set repo beta --release my-host/1.0.1
      twinhull channel set repo stable --release my-host/1.0.1 --start 2026-01-31T12:00:00Z --over 2d
      twinhull channel set repo stable --dead-end '1.0.0=cannot read the new disk'
      twinhull channel set repo stable --retry 'the registry was away'
    """
    done = set_channel(
        base,
        name,
        ChannelChange(over_s=over, dead_ends=dead_ends, **change),
        access=given.access,
        lifetimes=given.lifetimes,
        now=SYSTEM_CLOCK.now(),
        wait_s=given.wait_s,
    )
    return _report(done, as_json=as_json)


@channel.command("move")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.argument("name", metavar="NAME")
@click.argument("release", metavar="IMAGE/VERSION[/ARCH]", type=RELEASE)
@click.option("--force", is_flag=True, help="Needed: the hosts that follow the channel now would refuse it.")
@writing_options
@json_option
def move_command(
    *,
    base: Path,
    name: str,
    release: ReleaseChoice,
    force: bool,
    given: WritingOptions,
    as_json: bool,
) -> int:
    """Let a channel carry another image or architecture, such as one that was used for a wrong image once.

    Its pace and whether it is halted stay; floor and dead ends are removed, for they are versions of the
    image before. Exit code 4: the channel already says this.

    \b
    Example:
      twinhull channel move repo stable my-host/1.0.0 --force
    """
    if not force:
        raise click.UsageError(
            "hosts that follow the channel would refuse another image: add --force if there are none"
        )
    done = set_channel(
        base,
        name,
        ChannelChange(release=release, other_image=True),
        access=given.access,
        lifetimes=given.lifetimes,
        now=SYSTEM_CLOCK.now(),
        wait_s=given.wait_s,
    )
    return _report(done, as_json=as_json)


@channel.command("delete")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.argument("name", metavar="NAME")
@writing_options
@json_option
def delete_command(
    *,
    base: Path,
    name: str,
    given: WritingOptions,
    as_json: bool,
) -> None:
    """Delete a channel; hosts that follow it stay at what they run, and report that it is gone.

    \b
    Example:
      twinhull channel delete repo beta
    """
    done = delete_channel(
        base, name, access=given.access, lifetimes=given.lifetimes, now=SYSTEM_CLOCK.now(), wait_s=given.wait_s
    )
    if as_json:
        emit_json({"deleted": name, "waits": done.waits})
    else:
        click.echo(f"{name}: deleted" + outcome(new=True, waits=done.waits))


@channel.command("show")
@click.argument("base", metavar="REPO", type=FOLDER)
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
    if shown.retry:
        click.echo(f"  hosts on which it failed before {shown.retry.at} try it once more: {shown.retry.reason}")


@channel.command("list")
@click.argument("base", metavar="REPO", type=FOLDER)
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


def _report(done: ChannelSet, *, as_json: bool) -> int:
    if as_json:
        emit_json({"changed": done.new, "waits": done.waits, "channel": done.channel})
    else:
        waits = outcome(new=True, waits=done.waits)
        click.echo(_summary(done.channel) + ("" if done.new else " (nothing to do)") + waits)
    return EXIT_DONE if done.new else EXIT_NOTHING_TO_DO


def _title(release: Release) -> str:
    return f"{release.image} {release.version} ({release.architecture.value})"


def _publication(publication: Publication) -> dict[str, object]:
    return {
        "release": publication.release,
        "new": publication.new,
        "waits": publication.waits,
        "raw_bytes": publication.raw_bytes,
        "stored_bytes": publication.stored_bytes,
    }


def _sentence(publication: Publication) -> str:
    title = _title(publication.release)
    if not publication.new:
        return f"{title}: published with the same content{outcome(new=False, waits=publication.waits)}"
    raw, stored = publication.raw_bytes / _MIB, publication.stored_bytes / _MIB
    done = f"{title}: {'submitted' if publication.waits else 'published'}, {raw:.1f} MiB in {stored:.1f} MiB of objects"
    return done + outcome(new=True, waits=publication.waits)


def _summary(item: Channel) -> str:
    spread = f"over {item.pace.over_s:g} s" if item.pace.over_s else "at once"
    halted = ", HALTED" if item.halted else ""
    target = f"{item.image} {item.version} ({item.architecture.value})"
    return f"{item.name}: {target} from {item.pace.start}, {spread}{halted}"
