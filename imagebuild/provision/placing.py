"""A credential on the boot partition of a disk: `loader/credentials/NAME.cred`, where systemd-stub looks.

systemd-stub passes the initrd the credentials of the partition that the UKI was started from (systemd-stub(7)), so that
is where they belong, and not on the ESP.  All is done on a copy of the file system; what changed is then written back
in two steps that a power cut may stop anywhere: a file of another name is added, then it takes the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedrock.errors import ProcessError
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.provision.disks import TargetDisk, copy_sparse
from imagebuild.provision.fat import ADDED, RENAMED, FreeClusters, Geometry, SectorUse, differences, in_order
from partitions.gpt import GptEntry

FOLDER = "loader/credentials"
_NEW = "new.tmp"
_TIMEOUT_S = 120
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Placing:
    """The work on one disk, in a scratch folder of its own."""

    disk: TargetDisk
    tools: ToolsTree
    scratch: Path

    def put(self, name: str, data: bytes) -> bool:
        """Write the credential to the disk; False: it was there already, and nothing was written.

        Raises:
            BuildError: The boot partition is damaged or full, or does not hold afterwards what was written.
        """
        before, entry = self._copy("before")
        after = self.scratch / "after"
        copy_sparse(before, after)
        if self._content(after, f"{name}.cred") == data:
            return False
        self._check(after)
        new = self.scratch / "content"
        new.write_bytes(data)
        for folder in ("loader", FOLDER):
            if not self._has(after, folder):
                self._mtools("mmd", after, f"::{folder}")
        self._mtools("mcopy", after, "-o", new, f"::{FOLDER}/{_NEW}")
        self._write(before, after, entry, ADDED)
        copy_sparse(after, before)
        if self._has(after, f"{FOLDER}/{name}.cred"):
            self._mtools("mdel", after, f"::{FOLDER}/{name}.cred")
        self._mtools("mren", after, f"::{FOLDER}/{_NEW}", f"::{FOLDER}/{name}.cred")
        self._check(after)
        self._write(before, after, entry, RENAMED)
        self._require(name, data)
        return True

    def remove(self, name: str) -> bool:
        """Remove the credential from the disk; False: there is none."""
        before, entry = self._copy("before")
        if not self._has(before, f"{FOLDER}/{name}.cred"):
            return False
        after = self.scratch / "after"
        copy_sparse(before, after)
        self._mtools("mdel", after, f"::{FOLDER}/{name}.cred")
        self._write(before, after, entry, RENAMED)
        return True

    def _copy(self, name: str) -> tuple[Path, GptEntry]:
        target = self.scratch / name
        return target, self.disk.copy_boot_partition(target)

    def _require(self, name: str, data: bytes) -> None:
        again, _ = self._copy("again")
        if self._content(again, f"{name}.cred") != data:
            raise BuildError(f"the boot partition does not hold {FOLDER}/{name}.cred as it was written")

    def _write(self, before: Path, after: Path, entry: GptEntry, order: tuple[SectorUse, ...]) -> None:
        with before.open("rb") as old, after.open("rb") as new:
            geometry = Geometry.read(old.read(512))
            old.seek(geometry.table)
            free = FreeClusters(old.read(geometry.data - geometry.table))
            changes = []
            old.seek(0)
            for offset in range(0, entry.size_bytes, _CHUNK):
                was, now = old.read(_CHUNK), new.read(_CHUNK)
                if was != now:
                    changes += list(differences(was, now, offset=offset))
        self.disk.write(entry.offset_bytes, in_order(changes, geometry, free, order))

    def _check(self, image: Path) -> None:
        """Check a file system before and after the change, so that nothing is written to or becomes a damaged one."""
        try:
            self.tools.run(["fsck.fat", "-n", image], Access(write=(self.scratch,)), timeout_s=_TIMEOUT_S)
        except ProcessError as error:
            raise BuildError(f"the boot partition's file system is damaged\n{error.tail}".rstrip()) from error

    def _content(self, image: Path, name: str) -> bytes | None:
        if not self._has(image, f"{FOLDER}/{name}"):
            return None
        found = self.scratch / "found"
        found.unlink(missing_ok=True)
        self._mtools("mcopy", image, f"::{FOLDER}/{name}", found)
        return found.read_bytes()

    def _has(self, image: Path, path: str) -> bool:
        words = ["mdir", "-b", "-i", str(image), f"::{path}"]
        done = self.tools.run(words, Access(write=(self.scratch,)), timeout_s=_TIMEOUT_S, check=False)
        return done.returncode == 0

    def _mtools(self, program: str, image: Path, *words: str | Path) -> None:
        try:
            self.tools.run([program, "-i", image, *words], Access(write=(self.scratch,)), timeout_s=_TIMEOUT_S)
        except ProcessError as error:
            raise BuildError(f"the boot partition could not be changed\n{error.tail}".rstrip()).with_hint(
                "nothing was written to the disk"
            ) from error
