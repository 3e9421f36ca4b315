"""Three-way differences: what the image had when the host made an edit, what it has now, what the host has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from updater.agent.etcdiff import contents
from updater.agent.etcdiff.layers import Found, Kind, look, paths_in, shown
from updater.agent.etcdiff.origins import Origin, mark
from updater.etc_policy import EtcMode, EtcPolicy


class DifferenceKind(Enum):
    """How a path differs from the image's."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class ImageSince(Enum):
    """What the image did to a path since the host made its edit."""

    SAME = "same"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


class Lasting(Enum):
    """What becomes of an edit at the next boot."""

    PERSISTS = "persists"
    PROVISIONED = "comes again from the provisioning document"
    LOST = "lost at the next boot"


@dataclass(frozen=True)
class Difference:
    """One path below `/etc` that the host changed.

    Attributes:
        path: Its path below `/etc`.
        change: How it differs from the image that runs.
        image: What the image did to it since the edit.
        edited_in: The version that ran when the edit was seen first.
        lasting: What becomes of it at the next boot.
        content: The unified diff from the image's to the host's, or why there is none; None: not asked for.
        image_content: The same from what the image had at the edit to what it has now, where that differs.
    """

    path: str
    change: DifferenceKind
    image: ImageSince
    edited_in: str
    lasting: Lasting
    content: str | None = None
    image_content: str | None = None


@dataclass(frozen=True)
class EtcDifferences:
    """What `updater etc-diff` shows; `refused` was left behind at the last boot that refused something."""

    mode: str
    differences: tuple[Difference, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What is to be shown: contents at all, and those that not everybody may read."""

    content: bool = False
    private: bool = False


def differences(
    edits: Mapping[str, tuple[Found | None, Found | None]],
    origins: Mapping[str, Origin],
    policy: EtcPolicy,
    provisioned: Collection[str],
    wanted: Wanted,
) -> tuple[Difference, ...]:
    """Every edit with what the image did since, by path.

    Args:
        edits: What the host and the image have at each edited path.
        origins: What is remembered of each, by the path as it is shown.
        policy: What outlives a boot.
        provisioned: Paths that a document writes at each boot.
        wanted: Which contents are shown.
    """
    found = []
    for path, (host, image) in sorted(edits.items()):
        if host is None:
            continue
        origin = origins.get(shown(path)) or Origin(mark(host), "?", mark(image))
        since = _since(origin, image)
        kind = _kind(host, image)
        text = before = None
        if wanted.content:
            text = contents.compared(image, host, ("image", "host"), private=wanted.private)
        if wanted.content and since is not ImageSince.SAME:
            before = contents.since(origin, image, private=wanted.private)
        lasting = _lasting(path, host, policy, provisioned)
        found.append(Difference(shown(path), kind, since, origin.version, lasting, text, before))
    return tuple(found)


def refused(layer: Path, upper: Path, policy: EtcPolicy, provisioned: Collection[str]) -> tuple[str, ...]:
    """What the initrd set aside at a boot, without what came again and what programs of the system make themselves."""
    left = []
    for path in paths_in(layer):
        found = look(layer / path)
        if found is None or _lasting(path, found, policy, provisioned) is not Lasting.LOST:
            continue
        if _is_of_system(path) or mark(look(upper / path)) == mark(found):
            continue
        left.append(shown(path))
    return tuple(left)


def lines(shown_now: EtcDifferences) -> list[str]:
    """The differences for a person."""
    found: list[str] = []
    for one in shown_now.differences:
        notes = [one.lasting.value] if one.lasting is not Lasting.PERSISTS else []
        if one.image is not ImageSince.SAME:
            notes.insert(0, f"the image {one.image.value} it since {one.edited_in}")
        found.append(f"{one.change.value:<8} /etc/{one.path}" + (f"  ({'; '.join(notes)})" if notes else ""))
        found += (one.content or "").splitlines()
        if one.image_content is not None:
            found += [f"-------- what the image did since {one.edited_in}", *one.image_content.splitlines()]
    return [*found, *(f"refused  /etc/{path}" for path in shown_now.refused)]


def _kind(host: Found, image: Found | None) -> DifferenceKind:
    if host.kind is Kind.REMOVED:
        return DifferenceKind.REMOVED
    return DifferenceKind.ADDED if image is None else DifferenceKind.CHANGED


def _since(origin: Origin, image: Found | None) -> ImageSince:
    if origin.image == mark(image):
        return ImageSince.SAME
    if not origin.image:
        return ImageSince.ADDED
    return ImageSince.REMOVED if image is None else ImageSince.CHANGED


def _lasting(path: str, found: Found, policy: EtcPolicy, provisioned: Collection[str]) -> Lasting:
    if path in provisioned or _enables(path, provisioned):
        return Lasting.PROVISIONED
    if not policy.persists(path):
        return Lasting.LOST
    return Lasting.PERSISTS if policy.mode is EtcMode.OVERLAY or found.persists else Lasting.LOST


def _enables(path: str, provisioned: Collection[str]) -> bool:
    """Whether a path is a link by which systemd starts a unit of a document."""
    folder, _, name = path.rpartition("/")
    is_wish = folder.startswith("systemd/system/") and folder.endswith((".wants", ".requires", ".upholds"))
    return is_wish and f"systemd/system/{name}" in provisioned


def _is_of_system(path: str) -> bool:
    """Files of accounts are written by systemd-sysusers at each boot that makes users."""
    return path.rstrip("-") in {"passwd", "group", "shadow", "gshadow"}
