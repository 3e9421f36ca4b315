"""A machine in memory: a disk with two slots, a boot folder, a loader and an initrd that behave as documented.

`boot()` does what systemd-boot and an initrd with dm-verity do: choose an entry, count its boot, find the partitions of
its root hash and check every block.  Nothing here is shared with the code under test but the format modules.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from bedrock.errors import TwinhullError
from bedrock.progress import Progress
from partitions import kept_uki
from partitions.blockio import DeviceWindow
from partitions.disk import DiskMap, find_slots, read_table, write_identity
from partitions.entries import BootEntry, parse_entry
from partitions.hashtree import BLOCK_SIZE
from partitions.layout import WRITTEN_ATTRIBUTES, Slot, identity_of, root_types, slot_label
from partitions.verity import build_tree, verify
from partitions.version import Version
from tests.fakes.boot_folder import FakeBootFolder
from tests.fakes.gpt_disk import PartitionSpec, disk_image, twin_parts
from tests.fakes.loader import selected, sort_entries
from tests.fakes.memory_disk import MemoryDisk, Power
from tests.fakes.pe_files import uki_file
from updater.agent.install import Sink
from updater.agent.state import HostFacts, SlotFacts
from updater.documents.release import Architecture, Artifact, Artifacts, Release
from updater.errors import FetchError

IMAGE = "host"
TYPES = root_types("x86-64")


@dataclass(frozen=True)
class BuiltRelease:
    """A release with the bytes of its artifacts."""

    release: Release
    contents: dict[str, bytes]

    def content(self, artifact: Artifact) -> bytes:
        return self.contents[artifact.sha256]


def built(version: str, *, blocks: int = 9, seed: int | None = None, noise: bool = False) -> BuiltRelease:
    """A release whose content depends on its version (or `seed`); with `noise` it cannot be compressed."""
    unit = hashlib.sha256(f"{version if seed is None else seed}".encode()).digest()
    root = b"".join(hashlib.sha256(unit + bytes([n % 256])).digest() * 128 for n in range(blocks))
    if noise:
        root = random.Random(unit).randbytes(blocks * BLOCK_SIZE)  # noqa: S311 - content, not secrets
    tree = build_tree(io.BytesIO(root), blocks, salt=unit, uuid=UUID(bytes=unit[:16]))
    verity = tree.content
    uki = uki_file(tree.root_hash, IMAGE, version, kernel=unit * 20)
    parts = {hashlib.sha256(content).hexdigest(): content for content in (uki, root, verity)}
    artifacts = Artifacts(*(Artifact(sha, len(content)) for sha, content in parts.items()))
    release = Release(1, IMAGE, Version.from_text(version), Architecture.X86_64, tree.root_hash, artifacts)
    return BuiltRelease(release, parts)


@dataclass
class MemorySource:
    """An `ArtifactSource` that streams; `damage` changes bytes, `break_at` ends a transfer early.

    What breaks at 0 is missing already when the release is prepared; `meanwhile` happens while it is.
    """

    built: BuiltRelease
    damage: dict[str, bytes] = field(default_factory=dict)
    break_at: dict[str, int] = field(default_factory=dict)
    meanwhile: Callable[[], object] = lambda: None
    transferred_bytes: int = 0
    prepared: int = 0
    cleared: int = 0

    def prepare(self, release: Release, progress: Progress) -> None:
        self.prepared += 1
        self.meanwhile()
        for artifact in (release.artifacts.uki, release.artifacts.root, release.artifacts.verity):
            if self.break_at.get(artifact.sha256) == 0:
                raise FetchError("the server is gone")

    def copy(self, artifact: Artifact, sink: Sink, progress: Progress, *, hash_raw: bool) -> None:
        content = self.damage.get(artifact.sha256, self.built.content(artifact))
        limit = self.break_at.get(artifact.sha256)
        for offset in range(0, len(content), 5000):
            if limit is not None and offset >= limit:
                raise FetchError("the server is gone")
            sink.write(content[offset : offset + 5000])
        self.transferred_bytes += len(content)

    def clear(self) -> None:
        self.cleared += 1


class TwinHost:
    """The machine; it starts with one release, blessed, in slot A."""

    def __init__(self, first: BuiltRelease, parts: Sequence[PartitionSpec] | None = None) -> None:
        self.power = Power()
        self.disk = MemoryDisk(disk_image(parts or twin_parts()), power=self.power)
        self.folder = FakeBootFolder(power=self.power)
        self.esp = FakeBootFolder(power=self.power)
        self.running: BuiltRelease = first
        self.known: dict[str, BuiltRelease] = {}
        # Versions that end in a panic before anything of theirs is written down.
        self.dying: set[str] = set()
        # Older loaders have the boot counter in an entry's id, newer ones do not (systemd pull request 38897).
        self.counter_in_id = True
        # How often the loader on the boot partition was started, because the first one ended.
        self.second_boots = 0
        self.put(first, Slot.A)

    def map(self) -> DiskMap:
        return find_slots(read_table(self.disk), TYPES)

    def facts(self) -> HostFacts:
        """What the agent would read of this machine now."""
        found = self.map()
        slot = found.slot_booted_from(self.running.release.root_hash)
        assert slot is not None
        inactive = found.slot(slot.other)
        label = inactive.data.label
        return HostFacts(
            image=IMAGE,
            running_version=self.running.release.version,
            running_root_hash=self.running.release.root_hash,
            slot=slot,
            inactive=SlotFacts(slot.other, label, has_identity=label != "_empty", identity=inactive.identity),
            entries=self.entries(),
        )

    def entries(self) -> tuple[BootEntry, ...]:
        return tuple(entry for name in self.folder.names() if (entry := parse_entry(name)))

    def seen_from_the_esp(self) -> tuple[BootEntry, ...]:
        """What the first loader sees: the spare, too."""
        spares = (entry for name in self.esp.names() if (entry := parse_entry(name)))
        return tuple(dict.fromkeys((*self.entries(), *spares)))

    def cut(self, *, keep: bool = False) -> None:
        """The power went away: what was not synced is gone, or (with `keep`) all of it had reached the disk."""
        self.disk.cut(keep=range(len(self.disk.pending)) if keep else ())
        self.folder.cut(keep=keep)
        self.esp.cut(keep=keep)

    def boot(self, once: str | None = None) -> Version | None:
        """Reset: the version that comes up, or None when the chosen one dies in the initrd."""
        # Of two equal entries the loader takes the one it found first, and it looks on its own partition first.
        seen = {**self.folder.durable, **self.esp.durable}
        content = self._loaded(self._matching(once) or selected(self.seen_from_the_esp()), seen)
        if content is None:
            # The firmware goes on to the loader on the other partition.
            self.second_boots += 1
            second = self._matching(self._second_default()) or selected(self.entries())
            content = self._loaded(second, self.folder.durable)
        assert content is not None, "no bootable option"
        root_hash = asked_for(content)
        if not self.verified(root_hash) or str(self.known[root_hash].release.version) in self.dying:
            return None
        self.running = self.known[root_hash]
        return self.running.release.version

    def _loaded(self, chosen: BootEntry | None, seen: Mapping[str, bytes]) -> bytes | None:
        """The UKI that a loader starts, counted before; None when the firmware refuses it."""
        if chosen is None:
            return None
        content = seen[chosen.file_name]
        if chosen.tries_left is not None:
            counted = BootEntry(
                chosen.image, chosen.version, max(0, chosen.tries_left - 1), (chosen.tries_done or 0) + 1
            )
            self.folder.rename(chosen.file_name, counted.file_name)
        signed = {one.release.artifacts.uki.sha256 for one in self.known.values()}
        return content if hashlib.sha256(content).hexdigest() in signed else None

    def _second_default(self) -> str | None:
        lines = (self.folder.second or b"").decode().splitlines()
        return next((line.removeprefix("default ") for line in lines if line.startswith("default ")), None)

    def damage_uki(self, name: str) -> None:
        """Flip one byte of a UKI on the disk, behind its headers and texts."""
        for files in (self.folder.durable, self.folder.current):
            content = bytearray(files[name])
            content[-100] ^= 1
            files[name] = bytes(content)

    def _matching(self, once: str | None) -> BootEntry | None:
        """What the loader's one-shot pattern chooses: the first whose id, in lower case, matches it."""
        ids = {e: e.file_name if self.counter_in_id else e.as_blessed().file_name for e in sort_entries(self.entries())}
        pattern = (once or "").lower()
        return next((entry for entry, name in ids.items() if fnmatch.fnmatchcase(name.lower(), pattern)), None)

    def verified(self, root_hash: str) -> bool:
        """Whether an initrd finds the partitions of this root hash and every block in them is right."""
        identity = identity_of(root_hash)
        found = self.map()
        data = [s.data for s in (found.a, found.b) if s.data.uuid == identity.data_uuid]
        tree = [s.verity for s in (found.a, found.b) if s.verity.uuid == identity.verity_uuid]
        if len(data) != 1 or len(tree) != 1:
            return False
        try:
            verify(
                DeviceWindow(self.disk, data[0].offset_bytes, data[0].size_bytes),
                DeviceWindow(self.disk, tree[0].offset_bytes, tree[0].size_bytes),
                root_hash=root_hash,
            )
        except TwinhullError:
            return False
        return True

    def bootable(self) -> dict[str, str]:
        """Names the loader may choose, with the root hash each one asks for."""
        found = {entry.file_name: asked_for(self.folder.durable[entry.file_name]) for entry in self.entries()}
        spares = {name: asked_for(content) for name, content in self.esp.durable.items() if parse_entry(name)}
        return found | {f"spare {name}": root_hash for name, root_hash in spares.items()}

    def know(self, one: BuiltRelease) -> None:
        self.known[one.release.root_hash] = one

    def put(self, one: BuiltRelease, slot: Slot) -> None:
        """Fill a slot with a proven release."""
        self.know(one)
        release = one.release
        where = self.map().slot(slot)
        identity = identity_of(release.root_hash)
        label = slot_label(IMAGE, release.version)
        self.disk.pwrite(where.data.offset_bytes, one.content(release.artifacts.root))
        self.disk.pwrite(where.verity.offset_bytes, one.content(release.artifacts.verity))
        uki = one.content(release.artifacts.uki)
        kept = kept_uki.place(
            where.data.size_bytes,
            uki_bytes=len(uki),
            sha256=release.artifacts.uki.sha256,
            root_hash=release.root_hash,
        )
        partition = DeviceWindow(self.disk, where.data.offset_bytes, where.data.size_bytes)
        partition.pwrite(kept.offset_bytes, uki)
        kept_uki.write_record(partition, kept)
        for index, uuid in ((where.data_index, identity.data_uuid), (where.verity_index, identity.verity_uuid)):
            write_identity(self.disk, index, uuid=uuid, label=label, attributes=WRITTEN_ATTRIBUTES)
        with self.folder.create(BootEntry(IMAGE, release.version).file_name) as sink:
            sink.write(one.content(release.artifacts.uki))


def asked_for(uki: bytes) -> str:
    """The root hash on the command line in a UKI."""
    found = re.search(rb"roothash=([0-9a-f]{64})", uki)
    assert found is not None
    return found[1].decode()


def random_uuid() -> UUID:
    return uuid4()
