"""Writes an update into the inactive slot.  The only module that makes a version bootable.

I1: the running version's partitions are never touched, and its entry only loses its guard: it is the only one.
I2: the data on the disk are read back past the cache and verified before anything can boot them.
I3: the flip is the last step, one write of one sector; a cut before it leaves the old system booting.
I4: the order of `install`, each step durable before the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from bedrock.errors import TwinhullError
from bedrock.progress import Progress
from partitions import kept_uki, verity
from partitions.blockio import BlockDevice, DeviceWindow, StreamWriter
from partitions.disk import SlotPartitions, write_identity
from partitions.entries import BootEntry, parse_entry, parse_temporary
from partitions.errors import UkiError
from partitions.gpt import GptEntry
from partitions.hashtree import BLOCK_SIZE
from partitions.kept_uki import KeptUki
from partitions.layout import EMPTY_ATTRIBUTES, EMPTY_LABEL, WRITTEN_ATTRIBUTES, identity_of, slot_label
from partitions.loader_conf import second_conf
from updater.agent.boot_partition import BootFolder, BootPartition
from updater.agent.copying import copy_uki
from updater.agent.spare import keep_spare, remove_spares
from updater.agent.state import HostFacts
from updater.documents.release import Artifact, Release
from updater.errors import NoSpaceError, PolicyError, RefusedError, SlotError

BOOT_MARGIN_BYTES = 1 << 20
_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Receives the raw bytes of an artifact, in order."""

    def write(self, data: bytes | memoryview) -> None:
        """Receive the next bytes."""


class ArtifactSource(Protocol):
    """The source of an artifact's raw bytes."""

    @property
    def transferred_bytes(self) -> int:
        """How many bytes came over the network so far."""

    def prepare(self, release: Release, progress: Progress) -> None:
        """Bring what the release needs, as far as this host can keep it (writes to the disk, to no slot).

        Afterwards at least the first bytes of every artifact have come and fit what is signed.

        Raises:
            RefusedError: The answer is not what was signed.
            FetchError: It could not be fetched.
        """

    def copy(self, artifact: Artifact, sink: Sink, progress: Progress, *, hash_raw: bool) -> None:
        """Write the artifact's bytes to `sink`, checked against the signed values.

        With `hash_raw` the raw bytes are hashed as well; without, only the transferred ones and the raw length.

        Raises:
            RefusedError: The bytes are not those that were signed.
            FetchError: It could not be fetched.
        """

    def clear(self) -> None:
        """Remove what was kept from the disk."""


@dataclass(frozen=True)
class InstallTarget:
    """The slot to write and the interfaces to reach it.

    `boot` is mounted for writing only as long as a step on it takes: nobody else can read it then.
    `esp` holds the spare, `running` is the slot that runs.
    `free_uuid` returns an identity for an empty slot.  `revoked` are programs that the firmware would not start.
    """

    disk: BlockDevice
    slot: SlotPartitions
    boot: BootPartition
    esp: BootPartition
    running: SlotPartitions
    facts: HostFacts
    tries: int
    free_uuid: Callable[[], UUID]
    steady: Callable[[], float]
    revoked: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Installation:
    """The bytes and the time of an installation; `download_s` is what bringing them before it took."""

    downloaded_bytes: int
    written_bytes: int
    write_s: float
    verify_s: float
    download_s: float = 0.0

    @property
    def write_mb_per_s(self) -> float:
        """Speed of streaming into the slot, in 10^6 bytes per second."""
        return self.written_bytes / 1e6 / self.write_s if self.write_s > 0 else 0.0


def install(target: InstallTarget, release: Release, source: ArtifactSource, progress: Progress) -> Installation:
    """Write `release` to the disk, into the inactive slot, and make it the next to boot; the source is prepared.

    Raises:
        PolicyError: The running slot is not blessed, or the target is the running slot or version.
        NoSpaceError: The slot or the boot partition is too small; nothing was changed.
        RefusedError: The downloaded or the read-back bytes are not those that were signed; nothing new is bootable.
        SlotError: A step could not be done; nothing new is bootable.
    """
    check_target(target, release)
    with target.boot.mounted(writable=False) as folder:
        check_space(target, folder, release)
    keep_running(target)
    with target.boot.mounted(writable=True) as folder:
        remove_inactive_entries(target, folder)
    mark_empty(target)
    started = target.steady()
    write_slot(target, release, source, progress)
    written = target.steady()
    verify_slot(target, release, progress)
    kept = keep_uki(target, release)
    verified = target.steady()
    set_identity(target, release)
    entry = BootEntry(release.image, release.version).as_trial(target.tries)
    with target.boot.mounted(writable=True) as folder:
        write_entry(target, folder, entry, kept, progress=progress)
    flip(target.boot, entry)
    size_bytes = release.artifacts.root.size_bytes + release.artifacts.verity.size_bytes
    return Installation(source.transferred_bytes, size_bytes, written - started, verified - written)


def check_target(target: InstallTarget, release: Release) -> None:
    """Refuse to violate I1 and I6, whatever was planned."""
    facts = target.facts
    if not facts.blessed:
        raise PolicyError(f"{facts.running_version} is running but not blessed; nothing is written")
    if target.slot.slot is facts.slot:
        raise PolicyError(f"slot {facts.slot.value} is running; it is never written")
    if release.image != facts.image:
        # The loader ranks images by name before it compares versions, so it would be unclear which of the two boots.
        raise PolicyError(
            f"this host runs the image {facts.image}, and the release is of the image {release.image}"
        ).with_hint("remove `image:` from the updater's settings; another image needs a newly written disk")
    if release.version == facts.running_version:
        raise PolicyError(f"{release.version} is running already")
    running = identity_of(facts.running_root_hash)
    if target.slot.data.uuid == running.data_uuid or identity_of(release.root_hash) == running:
        raise PolicyError(f"slot {target.slot.slot.value} or the release has the identity of the running slot")


def check_space(target: InstallTarget, folder: BootFolder, release: Release) -> None:
    """Refuse what does not fit, before anything is changed."""
    artifacts = release.artifacts
    with_copy = kept_uki.bytes_with_copy(root_bytes=artifacts.root.size_bytes, uki_bytes=artifacts.uki.size_bytes)
    wanted = (
        (with_copy, target.slot.data, "root"),
        (artifacts.verity.size_bytes, target.slot.verity, "verity"),
    )
    for size_bytes, partition, what in wanted:
        if size_bytes > partition.size_bytes:
            raise NoSpaceError(
                f"slot {target.slot.slot.value}: the {what} partition has {partition.size_bytes} bytes, "
                f"{release.version} needs {size_bytes}"
            ).with_hint("reinstall this host with a disk image that has larger slots")
    reclaimed = sum(folder.size_bytes(name) for name in removable_names(target, folder))
    room = folder.free_bytes() + reclaimed
    needed = release.artifacts.uki.size_bytes + BOOT_MARGIN_BYTES
    if needed > room:
        raise NoSpaceError(f"the boot partition has room for {room} bytes, {release.version} needs {needed}")


def removable_names(target: InstallTarget, folder: BootFolder) -> tuple[str, ...]:
    """Files of versions other than the running one, and leftovers that the loader ignores.

    A leftover of the running version stays: an interrupted rename on FAT may leave two names for the same clusters, and
    removing one would free the running UKI.
    """
    running = (target.facts.image, target.facts.running_version)
    found = []
    for name in folder.names():
        entry = parse_entry(name) or parse_temporary(name)
        if entry is not None and (entry.image, entry.version) != running:
            found.append(name)
    return tuple(found)


def keep_running(target: InstallTarget) -> None:
    """Make both loaders start the running entry, on the disk, uncounted: it is the only one from the next step on.

    The ESP gets it as its spare.  That this fails, because the slot keeps no copy or the ESP is full, stops no update;
    the spare of the slot that is given up goes in any case.
    """
    running = BootEntry(target.facts.image, target.facts.running_version)
    for entry in target.facts.running_entries:
        if entry.guarded:
            target.boot.rename(entry.file_name, running.file_name)
    try:
        target.boot.choose_second(second_conf(running))
    except (TwinhullError, OSError) as error:
        _log.warning("the second boot loader could not be told what to start: %s", error)
    try:
        partition = DeviceWindow(target.disk, target.running.data.offset_bytes, target.running.data.size_bytes)
        kept = kept_uki.read_record(partition)
        kept_uki.check(partition, kept)
        keep_spare(target.esp, running, partition, kept)
    except (TwinhullError, OSError) as error:
        _log.warning("the ESP has no spare of %s: %s", running.version, error)
    try:
        remove_spares(target.esp, but=running)
    except (TwinhullError, OSError) as error:
        # The loader prefers the running entry, which has no counter, to any older spare.
        _log.warning("the ESP may still have another spare: %s", error)


def remove_inactive_entries(target: InstallTarget, folder: BootFolder) -> None:
    """Remove from the disk every entry that boots the inactive slot."""
    for name in removable_names(target, folder):
        folder.remove(name)
    folder.sync()


def mark_empty(target: InstallTarget) -> None:
    """Give both partitions of the slot, on the disk, an identity that nothing boots; data first."""
    for index in (target.slot.data_index, target.slot.verity_index):
        write_identity(target.disk, index, uuid=target.free_uuid(), label=EMPTY_LABEL, attributes=EMPTY_ATTRIBUTES)


def write_slot(target: InstallTarget, release: Release, source: ArtifactSource, progress: Progress) -> None:
    """Stream root, tree and the copy of the UKI to the disk and sync.

    The raw root is not hashed during the transfer: verifying it later against the signed root hash proves more.  Nor
    is the copy: it is hashed on the disk.
    """
    parts = (
        (release.artifacts.root, target.slot.data, "root", False),
        (release.artifacts.verity, target.slot.verity, "verity tree", True),
    )
    for artifact, partition, what, hash_raw in parts:
        progress.step(f"write {what}", total=artifact.size_bytes)
        writer = StreamWriter(_window(target, partition))
        source.copy(artifact, writer, progress, hash_raw=hash_raw)
        if writer.finish() != artifact.size_bytes:
            raise RefusedError(f"the {what} of {release.version} is not {artifact.size_bytes} bytes long")
    uki, kept = release.artifacts.uki, _kept(target, release)
    progress.step("write UKI", total=uki.size_bytes)
    writer = StreamWriter(DeviceWindow(_window(target, target.slot.data), kept.offset_bytes, _room_for(target, kept)))
    source.copy(uki, writer, progress, hash_raw=False)
    if writer.finish() != uki.size_bytes:
        raise RefusedError(f"the UKI of {release.version} is not {uki.size_bytes} bytes long")
    target.disk.sync()


def verify_slot(target: InstallTarget, release: Release, progress: Progress) -> None:
    """Verify the data on the disk, read past the cache, against the signed root hash."""
    tree = _window(target, target.slot.verity)
    found = verity.verify(_window(target, target.slot.data), tree, root_hash=release.root_hash, progress=progress)
    # The root hash does not cover the superblock: a tree over fewer blocks would leave an unchecked tail.
    if found.data_blocks * BLOCK_SIZE != release.artifacts.root.size_bytes:
        raise RefusedError(
            f"{tree.name}: the tree covers {found.data_blocks} blocks, "
            f"{release.version} has {release.artifacts.root.size_bytes} bytes"
        )


def keep_uki(target: InstallTarget, release: Release) -> KeptUki:
    """Check the copy of the UKI on the disk against what is signed, and record it in the slot, durably."""
    partition, kept = _window(target, target.slot.data), _kept(target, release)
    try:
        kept_uki.check(partition, kept)
    except UkiError as error:
        raise RefusedError(f"{error}, signed is {kept.sha256}") from error
    kept_uki.write_record(partition, kept)
    return kept


def set_identity(target: InstallTarget, release: Release) -> None:
    """Name both partitions on the disk after the root hash: the tree first, the data last."""
    identity = identity_of(release.root_hash)
    label = slot_label(release.image, release.version)
    for index, uuid in (
        (target.slot.verity_index, identity.verity_uuid),
        (target.slot.data_index, identity.data_uuid),
    ):
        write_identity(target.disk, index, uuid=uuid, label=label, attributes=WRITTEN_ATTRIBUTES)


def write_entry(
    target: InstallTarget, folder: BootFolder, entry: BootEntry, kept: KeptUki, *, progress: Progress
) -> None:
    """Write the UKI to the disk under a name that the loader ignores, and check its content on the disk.

    It comes from the copy that the slot keeps, which was checked.
    """
    progress.step("write boot entry", total=kept.size_bytes)
    copy_uki(_window(target, target.slot.data), kept, folder, entry.temporary_name)
    if target.revoked and folder.authenticode(entry.temporary_name) in target.revoked:
        folder.remove(entry.temporary_name)
        raise PolicyError(f"{entry.version} is revoked: the firmware of this host would not start it")


def flip(boot: BootPartition, entry: BootEntry) -> None:
    """Rename the verified UKI on the disk to the name that the loader boots: this is the flip."""
    boot.rename(entry.temporary_name, entry.file_name)
    with boot.mounted(writable=False) as folder:
        if entry.file_name not in folder.names():
            raise SlotError(f"boot entry {entry.file_name} is not there after its rename")


def _kept(target: InstallTarget, release: Release) -> KeptUki:
    uki = release.artifacts.uki
    return kept_uki.place(
        target.slot.data.size_bytes, uki_bytes=uki.size_bytes, sha256=uki.sha256, root_hash=release.root_hash
    )


def _room_for(target: InstallTarget, kept: KeptUki) -> int:
    return target.slot.data.size_bytes - BLOCK_SIZE - kept.offset_bytes


def _window(target: InstallTarget, partition: GptEntry) -> DeviceWindow:
    return DeviceWindow(
        target.disk, partition.offset_bytes, partition.size_bytes, name=f"slot {target.slot.slot.value}"
    )
