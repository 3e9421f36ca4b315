"""The initrd as a file: two archives in a row, which the kernel unpacks one after the other.

The first holds `init` and the programs and waits for nothing, so it is made while the package tree still is; the second
holds kernel modules of the finished tree.  Both are kept in the cache under the hash of what they are made from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from imagebuild.definition import config
from imagebuild.definition.drivers import Drivers
from imagebuild.definition.initrd import CONTENT_FILE, FILES, InitrdContent, load_content
from imagebuild.inputs.part import part_of
from imagebuild.inputs.supply import store_in
from imagebuild.paths import EPOCH
from imagebuild.steps.initrd import programs
from imagebuild.steps.initrd.modules import choose_modules, read_modules
from imagebuild.steps.initrd.programs import unpack_programs
from imagebuild.steps.plan import tree_digest
from imagebuild.steps.workshop import Workshop

_TIMEOUT_S = 300
# Of zstd: its highest.
LEVEL = 22
_ARCHIVE, _NAMES, _RECORD = "archive.cpio.zst", "names", "record"
_EMPTY_FOLDERS = ("dev", "etc", "proc", "run", "sys", "sysroot", "tmp", "var/tmp")
_MERGED = ("bin", "sbin", "lib", "lib64")
_PROGRAM_FOLDERS = frozenset({"", "usr/bin", "usr/sbin", "usr/lib/systemd"})
# The kernel looks for the next archive at a multiple of this.
_ALIGNMENT = 4
# What busybox reads of what depmod writes.
_INDEXES = frozenset({"modules.alias", "modules.builtin", "modules.dep"})


def make_programs(shop: Workshop) -> Path:
    """Pack the initrd's programs into the cache, unless they are there; the folder that holds them and their record.

    Raises:
        BuildError: A program or a library is in no package.
        RefusedInputError: A file is no Debian package.
    """
    content, supply = load_content(), shop.plan.supply
    part = part_of(supply.packages, content.packages, archive=supply.archive)
    sources = tree_digest((FILES, Path(programs.__file__).parent))
    key = _key(part.digest, shop.tools.identity, CONTENT_FILE.read_text(), sources)

    def make(folder: Path) -> None:
        root, store = shop.work / "initrd-programs", store_in(supply.cache)
        unpack_programs(content, part.packages, store, root=root, record=folder / _RECORD, tools=shop.tools)
        _furnish(root, content)
        _pack(shop, root, folder)

    return _kept(supply.cache / "initrd" / f"programs-{key}", make)


def make_initrd(shop: Workshop) -> None:
    """Put `initrd.cpio.zst` and the record of its packages into the working folder (writes to the cache).

    Raises:
        BuildError: The image lacks a kernel module, or packing failed.
    """
    content, tree = load_content(), shop.folders.output / "tree"
    kernel = (shop.folders.output / "kernel-version").read_text().strip()
    names = needed_modules(tree, kernel, content, shop.plan.definition.drivers)
    hashes = (hashlib.sha256((tree / name).read_bytes()).hexdigest() for name in names)
    key = _key(kernel, *names, *hashes, shop.tools.identity, Path(__file__).read_text())

    def make(folder: Path) -> None:
        root = shop.work / "initrd-modules"
        for name in names:
            _copy(tree / name, root / name)
        _index_modules(shop, root, kernel)
        _pack(shop, root, folder)

    halves = (make_programs(shop), _kept(shop.plan.cache / "initrd" / f"modules-{key}", make))
    with (shop.work / "initrd.cpio.zst").open("wb") as whole:
        for half in halves:
            whole.write((half / _ARCHIVE).read_bytes())
            whole.write(bytes(-whole.tell() % _ALIGNMENT))
    record = shop.work / config.INITRD_RECORD
    shutil.copytree(halves[0] / _RECORD, record)
    (record / "names").write_text("".join((half / _NAMES).read_text() for half in halves))


def needed_modules(tree: Path, kernel: str, content: InitrdContent, drivers: Drivers) -> tuple[str, ...]:
    """The files of the initrd's kernel modules, relative to the package tree; built-in ones have none.

    Raises:
        BuildError: The image lacks one that every host must have.
    """
    folder = Path("usr/lib/modules", kernel)
    modules = read_modules(tree / folder)
    chosen = choose_modules(modules, content, drivers).modules
    return tuple(sorted(str(folder / modules.files[name]) for name in chosen))


def _furnish(root: Path, content: InitrdContent) -> None:
    """Add to the programs what makes them a root: folders, links, and our own files, `init` among them."""
    shutil.copytree(FILES, root, dirs_exist_ok=True)
    for name in _EMPTY_FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in _MERGED:
        (root / name).symlink_to(f"usr/{name}")
    for place, target in (content.links | {f"/usr/bin/{name}": "busybox" for name in content.applets}).items():
        (root / place.lstrip("/")).symlink_to(target)


def _index_modules(shop: Workshop, root: Path, kernel: str) -> None:
    source, folder = shop.folders.output / "tree/usr/lib/modules" / kernel, root / "usr/lib/modules" / kernel
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        _copy(source / name, folder / name)
    # depmod looks into /lib only.
    (root / "lib").symlink_to("usr/lib")
    shop.tools.run(["depmod", f"--basedir={root}", kernel], shop.access, timeout_s=_TIMEOUT_S, log=shop.log)
    (root / "lib").unlink()
    for path in folder.glob("modules.*"):
        if path.name not in _INDEXES:
            path.unlink()


def _pack(shop: Workshop, root: Path, folder: Path) -> None:
    """Pack a tree into `folder` and remove it: names in order, one time, one owner, modes by kind."""
    paths = sorted(root.rglob("*"))
    for path in paths:
        if not path.is_symlink():
            program = path.is_dir() or str(path.parent.relative_to(root)).removeprefix(".") in _PROGRAM_FOLDERS
            path.chmod(0o755 if program or path.name.startswith("ld-linux") else 0o644)
    for path in reversed(paths):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    names = [str(path.relative_to(root)) for path in paths]
    listing, archive, packed = (shop.work / f"{root.name}.{end}" for end in ("names", "cpio", "cpio.zst"))
    listing.write_text("".join(f"{name}\0" for name in names))
    script = 'cpio --create --format=newc --reproducible --owner=0:0 --null --quiet <"$1" >"$2"'
    pack = ("sh", "-c", script, "sh", listing, archive)
    # The window is as large as the archive, which the kernel takes up to 128 MiB.
    compress = ("zstd", "--quiet", "--ultra", f"-{LEVEL}", "-T1", "-o", packed, archive)
    for words in (pack, compress):
        shop.tools.run(words, shop.access, timeout_s=_TIMEOUT_S, cwd=root, log=shop.log)
    shutil.copyfile(packed, folder / _ARCHIVE)
    told = (f"/{name}\n" for name in names if (root / name).is_symlink() or not (root / name).is_dir())
    (folder / _NAMES).write_text("".join(told))
    shutil.rmtree(root)


def _kept(folder: Path, make: Callable[[Path], None]) -> Path:
    """The cached folder, made by `make` in a partial one unless it is there."""
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        partial.rename(folder)
    return folder


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
