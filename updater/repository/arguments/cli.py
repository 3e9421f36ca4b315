"""Options and argument types of `twinhull repo …` and `twinhull channel …`, and what they are turned into."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from bedrock import strict
from bedrock.cli import FromText, line_progress
from bedrock.progress import Progress, Silent
from keys.cli import keys_option, passphrase_option, passphrase_source
from keys.keyring import Keyring
from partitions.version import Version
from updater.documents.channel import DeadEnd, Instant
from updater.repository.access import KeyAccess
from updater.repository.channels import ReleaseChoice
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.mirror.sources import is_url
from updater.repository.mirror.staging import Anchor
from updater.repository.roots import keep_root, trusted_root_of

Command = TypeVar("Command", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class _Span:
    duration: strict.Seconds


def _seconds(text: str) -> float:
    return strict.read(_Span, {"duration": text}, source="value").duration


def _days(text: str) -> timedelta:
    return timedelta(seconds=_seconds(text))


def _lifetime(text: str) -> timedelta:
    span = _days(text)
    if span < timedelta(seconds=1):
        raise ValueError(f"must be at least one second, not {text!r}")
    return span


def _dead_end(text: str) -> DeadEnd:
    version, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise ValueError(f"must be VERSION=REASON, not {text!r}")
    return DeadEnd(Version.from_text(version), reason.strip())


SPAN = FromText("duration", _days)
LIFETIME = FromText("lifetime", _lifetime)
SECONDS = FromText("duration", _seconds)
MOMENT = FromText("moment", Instant.from_text)
RELEASE = FromText("release", ReleaseChoice.from_text)
DEAD_END = FromText("dead end", _dead_end)


def keys_options(command: Command) -> Command:
    """Add `--keys` and `--passphrase-file`."""
    return keys_option(passphrase_option(command), name="keys")


def lifetime_options(command: Command) -> Command:
    """Add the options that say how long signatures last."""
    online = click.option("--online-lifetime", type=LIFETIME, help="Validity of snapshot and timestamp (7d).")
    delegated = click.option("--release-lifetime", type=LIFETIME, help="Validity of releases and channels (90d).")
    return online(delegated(command))


def wait_option(command: Command) -> Command:
    """Add `--wait`, which arrives as the keyword `wait_s`."""
    return click.option(
        "--wait",
        "wait_s",
        type=SECONDS,
        default=0.0,
        metavar="DURATION",
        help="How long to wait for another command that changes the repository (default: not at all).",
    )(command)


def access_of(keys: Path, passphrase_file: Path | None) -> KeyAccess:
    """The keys that a command was given."""
    return KeyAccess(Keyring.load(keys), passphrase_source(passphrase_file))


def lifetimes_of(online: timedelta | None, delegated: timedelta | None) -> Lifetimes:
    """How long signatures last, as asked for, else as usual."""
    usual = Lifetimes()
    return replace(
        usual,
        online=usual.online if online is None else online,
        delegated=usual.delegated if delegated is None else delegated,
    )


@dataclass(frozen=True)
class WritingOptions:
    """What every command that signs is given: its keys, how long signatures last, how long it waits for others."""

    access: KeyAccess
    lifetimes: Lifetimes
    wait_s: float


def writing_options(command: Command) -> Command:
    """Add `--keys`, `--passphrase-file`, the lifetimes and `--wait`, which arrive together as the keyword `given`."""

    @functools.wraps(command)
    def gathered(
        *,
        keys: Path,
        passphrase_file: Path | None,
        online_lifetime: timedelta | None,
        release_lifetime: timedelta | None,
        wait_s: float,
        **more: Any,
    ) -> Any:
        lifetimes = lifetimes_of(online_lifetime, release_lifetime)
        return command(given=WritingOptions(access_of(keys, passphrase_file), lifetimes, wait_s), **more)

    return keys_options(lifetime_options(wait_option(cast("Command", gathered))))


def anchor_options(command: Command) -> Command:
    """Add `--root` and `--keys`, one of which says where trust begins; they arrive as `root` and `keys`."""
    root = click.option("--root", "root", type=FILE, help="The root.json that you trust, such as the one in an image.")
    keys = click.option("--keys", "keys", type=FOLDER, help="Or the keys folder that the repository was made with.")
    return root(keys(command))


def anchor_of(root: Path | None, keys: Path | None) -> Anchor:
    """Where trust begins, by a command's options.

    Raises:
        UsageError: Neither option was given, or both.
    """
    if (root is None) == (keys is None):
        raise click.UsageError("say whom to trust: --root root.json, or --keys DIR")
    return Anchor(root=root.read_bytes() if root else None, keyring=Keyring.load(keys) if keys else None)


def keep_newest_root(base: Path, keyring: Keyring) -> None:
    """Write the newest root next to the keys, for the images built from then on; say so if that is impossible."""
    layout = Layout(base)
    warning = keep_root(layout, keyring, trusted_root_of(layout, keyring).raw)
    if warning:
        click.echo(f"warning: {warning}", err=True)


def anchor_for(place: str, root: Path | None, keys: Path | None) -> Anchor | None:
    """Where trust in a repository begins; None for one in a folder that is trusted as it is.

    Raises:
        UsageError: It is at a URL and neither option was given; or both were.
    """
    return anchor_of(root, keys) if is_url(place) or root or keys else None


def progress_of(*, quiet: bool) -> Progress:
    """Progress on stderr, or none."""
    return Silent() if quiet else line_progress()


def moment_text(when: datetime) -> str:
    """A moment as documents write it."""
    return str(Instant(when))


def outcome(*, new: bool, waits: bool) -> str:
    """What follows the sentence that names a change."""
    waiting = "; it waits for the online keys (twinhull repo sign-online)" if waits else ""
    return waiting if new else f" before, nothing to do{waiting}"
