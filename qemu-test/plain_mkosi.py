"""The benchmarks' peer: the same packages as a disk image, the way mkosi's own documentation builds one.

ESP with systemd-boot and a UKI, a root file system in erofs under dm-verity, mkosi's default initrd; the mkosi of the
same tools tree, the same mirrors, the same kernel arguments where they have nothing to do with our layout.  Nothing is
left out of the packages but their documentation.  The packages are those our image asks for, and `systemd-boot`, which
mkosi wants in an image it makes bootable.

`/var` is a tmpfs (`systemd.volatile=state`), as the root cannot be written: so at boot the peer has less to do than our
image, which makes and mounts a real one.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedrock.persist import write_atomic
from imagebuild.definition.config import ARGUMENTS
from imagebuild.definition.image import ImageDefinition
from imagebuild.inputs.archives import apt_sources, debian_archives
from imagebuild.inputs.mirror import Mirrors
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.paths import DATA
from imagebuild.steps.scratch import remove_tree

NAME = "plain"
_TIMEOUT_S = 1800
_VERSION_TIMEOUT_S = 60
# What of our kernel arguments has to do with our layout, our way of failing or our speed stays out.
_OURS_ALONE = ("systemd.gpt_auto=no", "panic=10", "oops=panic", "cryptomgr.notests")
_OWN_ARGUMENTS = ("systemd.volatile=state", "systemd.firstboot=no")
_NETWORK = Path("usr/lib/systemd/network/80-wired.network")
_PARTITIONS = {
    "00-esp.conf": """\
[Partition]
Type=esp
Format=vfat
CopyFiles=/boot:/
CopyFiles=/efi:/
SizeMinBytes=512M
SizeMaxBytes=512M
""",
    "10-root.conf": """\
[Partition]
Type=root
Format=erofs
CopyFiles=/
Verity=data
VerityMatchKey=root
Minimize=best
""",
    "20-root-verity.conf": """\
[Partition]
Type=root-verity
Verity=hash
VerityMatchKey=root
Minimize=best
""",
}


@dataclass(frozen=True)
class PlainMkosi:
    """Builds the peer.

    Attributes:
        tools: Where mkosi comes from.
        mirrors: Where packages come from.
        definition: Our image, whose release and kernel the peer shares.
        packages: What our image asks for, the kernel included.
        folder: Where configuration, disk and log are.
        cache: Where mkosi keeps the packages it downloaded.
    """

    tools: ToolsTree
    mirrors: Mirrors
    definition: ImageDefinition
    packages: Sequence[str]
    folder: Path
    cache: Path

    @property
    def disk(self) -> Path:
        """The finished image."""
        return self.folder / "output" / f"{NAME}.raw"

    @property
    def log(self) -> Path:
        """What mkosi said."""
        return self.folder / "mkosi.log"

    def version(self) -> str:
        """The version of the mkosi that builds it."""
        return self.tools.run(["mkosi", "--version"], timeout_s=_VERSION_TIMEOUT_S).stdout.strip()

    def build(self) -> float:
        """Build from nothing but downloaded packages (writes to the disk); how many seconds mkosi took."""
        if not (self.cache / "whole").exists():
            # The first build downloads, so it is not one to measure.
            self._build()
            (self.cache / "whole").touch()
        return self._build()

    def ensure(self, archive_state: str) -> Path:
        """The disk of the packages the archive has now, built unless there is one."""
        text = "\0".join((archive_state, self.tools.identity, _config(self), *_PARTITIONS.values()))
        wanted = hashlib.sha256(text.encode()).hexdigest()
        marker = self.folder / "made-from"
        if not (self.disk.is_file() and marker.is_file() and marker.read_text() == wanted):
            self._build()
            write_atomic(marker, wanted.encode())
        return self.disk

    def _build(self) -> float:
        if self.folder.exists():
            remove_tree(self.folder)
        config = self.folder / "config"
        _write_config(self, config)
        for folder in (self.disk.parent, self.folder / "workspace", self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        access = Access(read=(config,), write=(self.disk.parent, self.folder / "workspace", self.cache), network=True)
        began = time.monotonic()
        self.tools.run(
            ["mkosi", "--directory", config, "--force", "build"],
            access,
            timeout_s=_TIMEOUT_S,
            cwd=config,
            log=self.log,
        )
        return time.monotonic() - began


def kernel_arguments() -> tuple[str, ...]:
    """The peer's kernel arguments: ours, but for those of our own layout."""
    return (*(word for word in ARGUMENTS if word not in _OURS_ALONE), *_OWN_ARGUMENTS)


def _write_config(peer: PlainMkosi, folder: Path) -> None:
    sources = folder / "mkosi.sandbox/etc/apt/sources.list.d"
    for made in (sources, folder / "mkosi.repart", (folder / "mkosi.extra" / _NETWORK).parent):
        made.mkdir(parents=True)
    (sources / "mkosi.sources").write_text(apt_sources(debian_archives(peer.mirrors, peer.definition.release).suites))
    shutil.copy(DATA / "tree" / _NETWORK, folder / "mkosi.extra" / _NETWORK)
    for name, text in _PARTITIONS.items():
        (folder / "mkosi.repart" / name).write_text(text)
    (folder / "mkosi.conf").write_text(_config(peer))


def _config(peer: PlainMkosi) -> str:
    packages = "".join(f"        {name}\n" for name in (*peer.packages, "systemd-boot"))
    return f"""\
[Distribution]
Distribution=debian
Release={peer.definition.release}
Architecture={peer.definition.architecture.value}

[Output]
Format=disk
ImageId={NAME}
Output={NAME}
OutputDirectory={peer.disk.parent}

[Build]
PackageCacheDirectory={peer.cache}
WorkspaceDirectory={peer.folder / "workspace"}

[Content]
Bootable=yes
WithDocs=no
Locale=C.UTF-8
Timezone=UTC
Hostname={NAME}
KernelCommandLine={" ".join(kernel_arguments())}
Packages=
{packages}"""
