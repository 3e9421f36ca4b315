"""Channels: what they point to, and moving them.

Rules: a channel points to a published release of one image and one architecture for its whole life; it never moves to
an older version unless asked; a halted channel stays halted until it is resumed; its floor is a published release too.
Release and floor are named with the SHA-256 of their documents, taken when somebody chooses them and at no other time.
Pure functions decide the effect of a change; `set_channel` writes the result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bedrock import strict
from keys.roles import TufRole
from partitions.version import Version
from updater.documents.channel import (
    FORMAT,
    Channel,
    DeadEnd,
    Instant,
    Pace,
    ReleaseReference,
    Retry,
    channel_path,
    parse_channel,
    parse_channel_to_change,
)
from updater.documents.release import Architecture, Release, release_path
from updater.errors import PolicyError, RefusedError, RepositoryError
from updater.repository.access import KeyAccess
from updater.repository.commit import commit, completed
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.lock import writing
from updater.repository.metadata import load_state
from updater.repository.releases import published, read_release, reference_to, withdrawal
from updater.repository.role_documents import RepositoryState
from updater.repository.targets import read_target, write_target


@dataclass(frozen=True)
class ReleaseChoice:
    """A release as a person names it: `IMAGE/VERSION` or `IMAGE/VERSION/ARCHITECTURE`."""

    image: str
    version: Version
    architecture: Architecture | None = None

    @classmethod
    def from_text(cls, text: str) -> ReleaseChoice:
        """Read the form above.

        Raises:
            ValueError: Any other form.
        """
        image, _, rest = text.partition("/")
        version, slash, architecture = rest.partition("/")
        if not image or not version:
            raise ValueError(f"must be IMAGE/VERSION or IMAGE/VERSION/ARCHITECTURE, not {text!r}")
        return cls(image, Version.from_text(version), Architecture(architecture) if slash else None)


@dataclass(frozen=True)
class ChannelChange:
    """The changes to make; None and empty leave a value as it is."""

    release: ReleaseChoice | None = None
    start: Instant | None = None
    over_s: float | None = None
    floor: Version | None = None
    no_floor: bool = False
    halted: bool | None = None
    dead_ends: tuple[DeadEnd, ...] = ()
    reopened: tuple[Version, ...] = ()
    retry: str | None = None
    allow_downgrade: bool = False
    other_image: bool = False


@dataclass(frozen=True)
class ChosenRelease:
    """A published release, and how a channel names it."""

    release: Release
    reference: ReleaseReference


class _ChannelParser(Protocol):
    def __call__(self, data: bytes, *, source: str) -> Channel: ...


@dataclass(frozen=True)
class ChannelSet:
    """A channel after a change, and whether it differs from before; `waits`: hosts see it when the online keys sign."""

    channel: Channel
    new: bool
    waits: bool = False


def set_channel(
    base: Path,
    name: str,
    change: ChannelChange,
    *,
    access: KeyAccess,
    lifetimes: Lifetimes,
    now: datetime,
    wait_s: float = 0.0,
) -> ChannelSet:
    """Write a new or changed channel to the repository on the disk and sign it; without a change nothing is written.

    Raises:
        RepositoryError: The release or floor is not published, or there is no such channel and no release was given.
        PolicyError: The channel would move to an older version, or to another image or architecture, or names a
            release that was withdrawn.
        DocumentError: The name or a value is not one a channel can have.
        RefusedError: The repository's signatures do not hold.
        BusyError: Somebody else is changing the repository.
        KeysError: The keys of channels cannot be opened.
    """
    layout = Layout(base)
    with writing(layout, wait_s=wait_s):
        state = load_state(layout, access.keyring)
        current = _read(layout, state, name, parse_channel_to_change) if has_channel(state, name) else None
        release = find_release(layout, state, change.release) if change.release else None
        chosen = ChosenRelease(release, reference_to(state, release)) if release else None
        floor = _find_floor(layout, state, change.floor, release or current) if change.floor else None
        channel = changed_channel(name, current, change, chosen=chosen, floor=floor, now=now)
        if channel == current and not (state.unfinished and access.open_online()):
            return ChannelSet(channel, new=False, waits=TufRole.CHANNELS in state.waiting)
        _refuse_withdrawn(state, channel)
        signers = access.open_own(TufRole.CHANNELS)
        signed = state.channels.copy()
        path = channel.target_path
        signed.targets[path] = write_target(layout, path, strict.dump_json(channel))
        state = commit(layout, state, changed={TufRole.CHANNELS: signed}, signers=signers, lifetimes=lifetimes, now=now)
        return ChannelSet(channel, new=True, waits=TufRole.CHANNELS in state.waiting)


def delete_channel(
    base: Path, name: str, *, access: KeyAccess, lifetimes: Lifetimes, now: datetime, wait_s: float = 0.0
) -> ChannelSet:
    """Remove a channel from the repository on the disk; hosts that follow it stay at what they run.

    Returns the channel as it was.

    Raises:
        RepositoryError: There is no channel with that name.
        RefusedError: The repository's signatures do not hold.
        BusyError: Somebody else is changing the repository.
        KeysError: The keys of channels cannot be opened.
    """
    layout = Layout(base)
    with writing(layout, wait_s=wait_s):
        state = load_state(layout, access.keyring)
        if state.unfinished and not has_channel(state, name):
            # An interrupted deletion is completed; hosts may see the channel still.
            channel = read_channel(layout, load_state(layout, None), name)
            done = completed(layout, state, access=access, lifetimes=lifetimes, now=now)
            return ChannelSet(channel, new=done is not state, waits=TufRole.CHANNELS in done.waiting)
        channel = read_channel(layout, state, name)
        signers = access.open_own(TufRole.CHANNELS)
        signed = state.channels.copy()
        del signed.targets[channel.target_path]
        state = commit(layout, state, changed={TufRole.CHANNELS: signed}, signers=signers, lifetimes=lifetimes, now=now)
        return ChannelSet(channel, new=True, waits=TufRole.CHANNELS in state.waiting)


def show_channel(base: Path, name: str) -> Channel:
    """A channel of a repository, trusting the repository's own root.

    Raises:
        RepositoryError: There is no such channel.
        RefusedError: Signatures or hashes do not hold.
    """
    layout = Layout(base)
    return read_channel(layout, load_state(layout, None), name)


def list_channels(base: Path) -> tuple[Channel, ...]:
    """Every channel of a repository by name, trusting the repository's own root.

    Raises:
        RepositoryError: There is no repository.
        RefusedError: Signatures or hashes do not hold.
    """
    layout = Layout(base)
    state = load_state(layout, None)
    return tuple(read_channel(layout, state, name) for name in channel_names(state))


def channel_names(state: RepositoryState) -> tuple[str, ...]:
    """The names of all channels, sorted."""
    paths = sorted(state.channels.signed.targets)
    return tuple(path.removeprefix("channels/").removesuffix(".json") for path in paths)


def has_channel(state: RepositoryState, name: str) -> bool:
    """Whether there is a channel of that name."""
    return channel_path(name) in state.channels.signed.targets


def read_channel(layout: Layout, state: RepositoryState, name: str) -> Channel:
    """A channel by name.

    Raises:
        RepositoryError: There is no channel with that name, or its document is missing.
        RefusedError: The document is not the signed one, or describes another channel.
    """
    return _read(layout, state, name, parse_channel)


def _read(layout: Layout, state: RepositoryState, name: str, parse: _ChannelParser) -> Channel:
    path = channel_path(name)
    target = state.channels.signed.targets.get(path)
    if target is None:
        known = ", ".join(channel_names(state)) or "none yet"
        raise RepositoryError(f"there is no channel {name} (there are: {known})")
    channel = parse(read_target(layout, target), source=path)
    if channel.target_path != path:
        raise RefusedError(f"the target {path} describes {channel.target_path}")
    return channel


def find_release(layout: Layout, state: RepositoryState, choice: ReleaseChoice) -> Release:
    """The published release of a choice; the architecture may be left out when there is only one.

    Raises:
        RepositoryError: It is not published, or published for several architectures.
    """
    there = published(state, choice.image)
    fitting = [arch for version, arch in there if version == str(choice.version)]
    if choice.architecture is not None:
        fitting = [arch for arch in fitting if arch is choice.architecture]
    if not fitting:
        known = sorted({Version.from_text(version) for version, _ in there})
        hint = f"published versions of {choice.image}: {', '.join(map(str, known)) or 'none'}"
        wanted = f"{choice.image}/{choice.version}"
        wanted += f"/{choice.architecture.value}" if choice.architecture else ""
        raise RepositoryError(f"{wanted} is not published in {layout.base}").with_hint(hint)
    if len(fitting) > 1:
        names = ", ".join(f"{choice.image}/{choice.version}/{arch.value}" for arch in fitting)
        raise RepositoryError(f"several architectures are published; name one of {names}")
    return read_release(layout, state, release_path(choice.image, choice.version, fitting[0]))


def changed_channel(
    name: str,
    current: Channel | None,
    change: ChannelChange,
    *,
    chosen: ChosenRelease | None,
    floor: ReleaseReference | None,
    now: datetime,
) -> Channel:
    """The channel that results from a change of the current one.

    Args:
        name: The channel's name.
        current: What it is now; None when there is none of that name.
        change: What to change.
        chosen: The release that the change names.
        floor: The floor that the change names.
        now: The time, with time zone.

    Raises:
        RepositoryError: There is no channel yet, and the change names no release.
        PolicyError: It would go to an older version, to another image or architecture, or below its own floor.
        DocumentError: The name or a value is not one a channel can have.
    """
    if current is None and chosen is None:
        raise RepositoryError(f"there is no channel {name} yet").with_hint("make it with --release IMAGE/VERSION")
    if current is not None and chosen is not None:
        _check_move(current, chosen.release, change)
    base = current or _fresh(name, chosen, now)
    if chosen is not None and _carried(chosen.release) != _carried(base):
        # Versions of another image: neither the floor nor the dead ends mean anything there.
        base = replace(_fresh(name, chosen, now), pace=base.pace, halted=base.halted)
    if chosen is not None and chosen.reference != base.release:
        # A new wave starts now, at the channel's usual pace: neither from the old start nor to all hosts at once.
        base = replace(base, release=chosen.reference, pace=replace(base.pace, start=_instant(now)), retry=None)
    channel = replace(
        base,
        pace=Pace(change.start or base.pace.start, base.pace.over_s if change.over_s is None else change.over_s),
        floor=None if change.no_floor else floor or base.floor,
        dead_ends=_dead_ends(base, change),
        halted=base.halted if change.halted is None else change.halted,
        retry=Retry(_instant(now), change.retry) if change.retry else base.retry,
    )
    if channel.floor is not None and channel.floor.version > channel.version:
        raise PolicyError(
            f"channel {name}: the floor {channel.floor.version} is above the release {channel.version}"
        ).with_hint("hosts older than the floor go there first: give a lower one, or --no-floor")
    return parse_channel(strict.dump_json(channel), source=f"channel {name}")


def _refuse_withdrawn(state: RepositoryState, channel: Channel) -> None:
    for path in channel.release_paths:
        target = state.releases.signed.targets.get(path)
        reason = None if target is None else withdrawal(target)
        if reason is not None:
            name = path.removeprefix("releases/").removesuffix(".json")
            raise PolicyError(f"channel {channel.name} cannot name {name}, which was withdrawn: {reason}")


def _carried(item: Channel | Release) -> tuple[str, Architecture]:
    return item.image, item.architecture


def _find_floor(
    layout: Layout, state: RepositoryState, floor: Version, of: Release | Channel | None
) -> ReleaseReference:
    """The published release that is the floor: with another one, older hosts could never update."""
    if of is None:
        raise RepositoryError("a floor belongs to a release").with_hint("make the channel with --release IMAGE/VERSION")
    try:
        found = find_release(layout, state, ReleaseChoice(of.image, floor, of.architecture))
    except RepositoryError as error:
        error.add_note("a floor is a release that older hosts go to first: publish it, or give --no-floor")
        raise
    return reference_to(state, found)


def _fresh(name: str, chosen: ChosenRelease | None, now: datetime) -> Channel:
    if chosen is None:
        raise TypeError("a new channel needs a release")
    return Channel(
        format=FORMAT,
        name=name,
        image=chosen.release.image,
        architecture=chosen.release.architecture,
        release=chosen.reference,
        pace=Pace(_instant(now)),
    )


def _check_move(current: Channel, release: Release, change: ChannelChange) -> None:
    if _carried(release) != _carried(current):
        if change.other_image:
            return
        carries = f"{current.image} for {current.architecture.value}"
        offered = f"{release.image} for {release.architecture.value}"
        message = f"channel {current.name} carries {carries} and cannot move to {offered}"
        raise PolicyError(message).with_hint(
            "its hosts would refuse it: use another channel, or `twinhull channel move --force` if it has none"
        )
    if release.version < current.version and not change.allow_downgrade:
        message = f"channel {current.name} is at {current.version}, and {release.version} is older"
        raise PolicyError(message).with_hint("to go back, add --allow-downgrade; to stop a release, use --halt")


def _dead_ends(base: Channel, change: ChannelChange) -> tuple[DeadEnd, ...]:
    ends = {end.version: end for end in (*base.dead_ends, *change.dead_ends)}
    return tuple(ends[version] for version in sorted(ends) if version not in change.reopened)


def _instant(now: datetime) -> Instant:
    return Instant(now.astimezone(UTC).replace(microsecond=0))
