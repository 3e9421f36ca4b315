"""The disk layouts of a repository's releases, and which of them are retired.

Rules: a layout is in the field from the first published release whose disk image has it, until an operator says that no
host with it is left; publishing a release that has it brings it back.  The record of retired layouts is a plain file
of the publisher (`retired-layouts.json`); no host reads it and nothing signs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from bedrock import strict
from bedrock.persist import write_atomic
from partitions.version import Version
from updater.documents.release import Release, release_path
from updater.documents.slot_layout import LAYOUT, MAX_LAYOUT_BYTES, Family, LayoutId, SlotLayout, parse_layout
from updater.errors import OutgrownError, RefusedError, RepositoryError
from updater.repository.field.room import Known, Misfit, Outlook, family_of, family_problems, misfits, outlooks
from updater.repository.layout import Layout
from updater.repository.lock import writing
from updater.repository.metadata import load_state
from updater.repository.objects import read_object
from updater.repository.releases import published, published_images, read_release
from updater.repository.role_documents import RepositoryState

RETIRED_FORMAT = 1


@dataclass(frozen=True)
class Retired:
    """`retired-layouts.json`: the layouts that no host has any more."""

    format: Annotated[int, strict.Range(RETIRED_FORMAT, RETIRED_FORMAT)] = RETIRED_FORMAT
    layouts: tuple[LayoutId, ...] = ()


@dataclass(frozen=True)
class NewRelease:
    """A release to be published, and the layout of its own disk image if it records one."""

    release: Release
    slots: SlotLayout | None


@dataclass(frozen=True)
class Field:
    """A family's published releases, oldest first, and the layouts they were installed with."""

    releases: tuple[Release, ...]
    layouts: tuple[Known, ...]


@dataclass(frozen=True)
class Listed:
    """A layout, and the newest release for its hosts."""

    known: Known
    newest: Release


def require_room(layout: Layout, state: RepositoryState, candidates: Sequence[NewRelease]) -> tuple[str, ...]:
    """Check that releases fit every layout in the field, those of their own disk images included; reads only.

    Returns:
        The retired layouts that publishing these releases brings back.

    Raises:
        OutgrownError: One does not fit.
        RefusedError: A recorded layout is not what was signed.
        DocumentError: A recorded layout, or the record of those that are gone, has errors.
        RepositoryError: A release document is missing.
    """
    back: set[str] = set()
    recorded: set[str] = set()
    wrong: list[Misfit] = []
    for family in dict.fromkeys(family_of(candidate.release) for candidate in candidates):
        ours = [candidate for candidate in candidates if family_of(candidate.release) == family]
        known = read_field(layout, state, family).layouts
        recorded |= {each.slots.id for each in known}
        together = _with_own(known, ours)
        back |= {each.slots.id for each in known if each.retired and each.slots in {own.slots for own in ours}}
        wrong += misfits((candidate.release for candidate in ours), together)
    if wrong:
        raise _outgrown(layout, wrong, recorded)
    return tuple(sorted(back))


def read_field(layout: Layout, state: RepositoryState, family: Family) -> Field:
    """The releases of a family and the layouts they record; a release may record none.

    Raises:
        RefusedError: A document or a layout is not what was signed, or is one of another family.
        DocumentError: A layout, or the record of those that are gone, has errors.
        RepositoryError: A document is missing.
    """
    releases = releases_of(layout, state, family)
    versions: dict[SlotLayout, list[Version]] = {}
    read: dict[str, SlotLayout] = {}
    for release in releases:
        if LAYOUT in release.attachments:
            digest = release.attachments[LAYOUT].sha256
            if digest not in read:
                read[digest] = _recorded(layout, release)
            versions.setdefault(read[digest], []).append(release.version)
    retired = read_retired(layout).layouts
    layouts = (Known(slots, tuple(those), slots.id in retired) for slots, those in versions.items())
    return Field(releases, tuple(layouts))


def releases_of(layout: Layout, state: RepositoryState, family: Family) -> tuple[Release, ...]:
    """The published releases of a family, oldest first.

    Raises:
        RefusedError: A document is not what was signed.
        RepositoryError: A document is missing.
    """
    names = sorted(
        Version(text) for text, architecture in published(state, family.image) if architecture is family.architecture
    )
    return tuple(
        read_release(layout, state, release_path(family.image, version, family.architecture)) for version in names
    )


def read_outlooks(base: Path, families: Iterable[Family], *, within: int) -> tuple[Outlook, ...]:
    """The partitions that will be full within that many further releases, trusting the repository's own root.

    Raises:
        RefusedError: Signatures or hashes do not hold.
        DocumentError: A recorded layout has errors.
        RepositoryError: There is no repository, or a document is missing.
    """
    layout = Layout(base)
    state = load_state(layout, None)
    fields = (read_field(layout, state, family) for family in dict.fromkeys(families))
    return tuple(found for field in fields for found in outlooks(field.releases, field.layouts, within=within))


def list_layouts(base: Path) -> tuple[Listed, ...]:
    """Every layout of a repository, by image, architecture and the first release that has it.

    Raises:
        RefusedError: Signatures or hashes do not hold.
        DocumentError: A recorded layout, or the record of those that are gone, has errors.
        RepositoryError: There is no repository, or a document is missing.
    """
    layout = Layout(base)
    return _listed(layout, load_state(layout, None))


def retire_layout(base: Path, layout_id: str, *, retired: bool) -> bool:
    """Record in the repository on the disk that no host with a layout is left, or take that back.

    Returns:
        Whether that changed anything.

    Raises:
        RepositoryError: No release here has such a layout.
        BusyError: Somebody else is changing the repository.
        RefusedError: Signatures or hashes do not hold.
        DocumentError: A recorded layout, or the record of those that are gone, has errors.
    """
    layout = Layout(base)
    with writing(layout):
        listed = _listed(layout, load_state(layout, None))
        if layout_id not in {each.known.slots.id for each in listed}:
            raise RepositoryError(f"no release in {base} has a layout {layout_id[:80]!r}").with_hint(
                f"twinhull repo layouts {base} lists them"
            )
        before = set(read_retired(layout).layouts)
        after = before | {layout_id} if retired else before - {layout_id}
        if after != before:
            _write_retired(layout, after)
        return after != before


def bring_back(layout: Layout, layout_ids: Iterable[str]) -> None:
    """Record on the disk that there are hosts with these layouts again; call it holding the repository's lock."""
    if back := set(layout_ids):
        _write_retired(layout, set(read_retired(layout).layouts) - back)


def read_retired(layout: Layout) -> Retired:
    """The retired layouts; empty without a record.

    Raises:
        DocumentError: The record was changed by hand and has errors.
    """
    path = layout.retired_layouts_file
    return strict.read_json(Retired, path.read_bytes(), source=str(path)) if path.exists() else Retired()


def _write_retired(layout: Layout, layout_ids: Iterable[str]) -> None:
    write_atomic(layout.retired_layouts_file, strict.dump_json(Retired(layouts=tuple(sorted(layout_ids)))))


def _listed(layout: Layout, state: RepositoryState) -> tuple[Listed, ...]:
    families = (Family(image, architecture) for image, architecture in published_images(state))
    fields = (read_field(layout, state, family) for family in families)
    return tuple(Listed(known, field.releases[-1]) for field in fields for known in field.layouts)


def _recorded(layout: Layout, release: Release) -> SlotLayout:
    """The layout that a published release records."""
    artifact, source = release.attachments[LAYOUT], f"{release.target_path}: {LAYOUT}"
    if artifact.size_bytes > MAX_LAYOUT_BYTES or not artifact.objects:
        raise RefusedError(f"{source} has {artifact.size_bytes} bytes in {len(artifact.objects)} objects")
    stored = artifact.objects[0]
    slots = parse_layout(read_object(layout.object_file(stored), stored, artifact), source=source)
    if problems := family_problems(slots, release):
        raise RefusedError(f"{source}: {problems[0]}")
    return slots


def _with_own(known: Iterable[Known], candidates: Iterable[NewRelease]) -> tuple[Known, ...]:
    """The layouts of a family after these releases are published, theirs included."""
    found = {each.slots: each for each in known}
    for candidate in candidates:
        if candidate.slots is not None:
            there = found.get(candidate.slots, Known(candidate.slots, (), retired=False))
            versions = tuple(sorted({*there.versions, candidate.release.version}))
            found[candidate.slots] = replace(there, versions=versions, retired=False)
    return tuple(found.values())


def _outgrown(layout: Layout, wrong: Sequence[Misfit], recorded: Collection[str]) -> OutgrownError:
    lines = ["a release does not fit the disks of hosts; nothing was published", *map(str, wrong)]
    error = OutgrownError("\n".join(lines))
    error.add_note("make the image smaller: `twinhull inspect` shows what is large")
    for layout_id in dict.fromkeys(misfit.known.slots.id for misfit in wrong):
        if layout_id in recorded:
            error.add_note(f"or, when no such host is left: twinhull repo layouts {layout.base} --retire {layout_id}")
    return error
