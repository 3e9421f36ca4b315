"""The initrd as a file: consecutive archives, which the kernel unpacks one after the other.

One holds `init` and the programs and needs no other step, so it is made at the same time as the package tree; another
holds kernel modules of the finished tree with their firmware.  Microcode comes before both, uncompressed, if an image
has some.  Each is cached under the hash of its inputs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from bedrock.digest import file_sha256, files_below, files_sha256, texts_sha256
from bedrock.partial import new_folder
from imagebuild.definition.drivers import Drivers
from imagebuild.definition.initrd import CONTENT_FILE, FILES, InitrdContent, load_content
from imagebuild.inputs.part import part_of
from imagebuild.inputs.supply import store_in
from imagebuild.paths import EPOCH
from imagebuild.steps.initrd import programs
from imagebuild.steps.initrd.firmware import FOLDER as FIRMWARE
from imagebuild.steps.initrd.firmware import firmware_of
from imagebuild.steps.initrd.modules import choose_modules, read_modules
from imagebuild.steps.initrd.programs import unpack_programs
from imagebuild.steps.products import Half, Initrd, PackageTree
from imagebuild.steps.workshop import Workshop

_TIMEOUT_S = 300
# Of zstd: its highest.
_LEVEL = 22
_EMPTY_FOLDERS = ("dev", "etc", "proc", "run", "sys", "sysroot", "tmp", "var/tmp")
_MERGED = ("bin", "sbin", "lib", "lib64")
_PROGRAM_FOLDERS = frozenset({"", "usr/bin", "usr/sbin", "usr/lib/systemd"})
# The kernel looks for the next archive at a multiple of this.
_ALIGNMENT = 4
# What busybox reads of what depmod writes.
_INDEXES = frozenset({"modules.alias", "modules.builtin", "modules.dep"})


def make_programs(shop: Workshop, *, content_file: Path = CONTENT_FILE) -> Half:
    """Pack the initrd's programs into the cache, unless they are there.

    Raises:
        BuildError: A program or a library is in no package.
        RefusedInputError: A file is not a Debian package.
    """
    content, supply = load_content(content_file), shop.plan.supply
    part = part_of(supply.packages, content.packages, archive=supply.archive)
    sources = files_sha256(files_below(FILES) | files_below(Path(programs.__file__).parent))
    key = _key(part.digest, shop.tools.identity, content_file.read_text(), sources)

    def make(half: Half) -> None:
        root, store = shop.work / "initrd-programs", store_in(supply.cache)
        unpack_programs(content, part.packages, store, root=root, record=half.record)
        _furnish(root, content)
        _pack(shop, root, half)

    return _kept(supply.cache / "initrd" / f"programs-{key}", make)


def make_initrd(shop: Workshop, tree: PackageTree, programs: Half, *, content_file: Path = CONTENT_FILE) -> Initrd:
    """Join the programs and the kernel modules of the package tree in the working folder (writes to the cache).

    Raises:
        BuildError: The image lacks a kernel module, or packing failed.
    """
    content, kernel = load_content(content_file), tree.kernel.version
    names = needed_modules(tree, content, shop.plan.definition.drivers)
    names += firmware_of(tree.root, names)
    hashes = (file_sha256(tree.root / name) for name in names)
    key = _key(kernel, *names, *hashes, shop.tools.identity, Path(__file__).read_text())

    def make(half: Half) -> None:
        root = shop.work / "initrd-modules"
        for name in names:
            _copy(tree.root / name, root / name)
        _index_modules(shop, tree, root)
        _pack(shop, root, half)

    parts = (*_microcode(shop, tree), programs, _kept(shop.plan.cache / "initrd" / f"modules-{key}", make))
    archive = shop.work / "initrd.cpio.zst"
    with archive.open("wb") as whole:
        for part in parts:
            whole.write(part.archive.read_bytes())
            whole.write(bytes(-whole.tell() % _ALIGNMENT))
    return Initrd(
        archive, programs.record, tuple(name for part in parts for name in part.names.read_text().splitlines())
    )


def _microcode(shop: Workshop, tree: PackageTree) -> tuple[Half, ...]:
    """The archive of microcode where the image has some; its names are those of the packages' files."""
    if not tree.microcode:
        return ()
    sources = [source for each in tree.microcode.values() for source in each]
    key = _key(*(f"{source.name} {file_sha256(source)}" for source in sources), shop.tools.identity)

    def make(half: Half) -> None:
        root = shop.work / "initrd-microcode"
        for name, each in tree.microcode.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"".join(source.read_bytes() for source in each))
        _pack(shop, root, half, compressed=False)
        half.names.write_text("".join(f"/{FIRMWARE / source.parent.name / source.name}\n" for source in sources))

    return (_kept(shop.plan.cache / "initrd" / f"microcode-{key}", make),)


def needed_modules(tree: PackageTree, content: InitrdContent, drivers: Drivers) -> tuple[str, ...]:
    """The files of the initrd's kernel modules, relative to the package tree; built-in ones have none.

    Raises:
        BuildError: The image lacks one that every host must have.
    """
    folder = Path("usr/lib/modules", tree.kernel.version)
    modules = read_modules(tree.root / folder)
    chosen = choose_modules(modules, content, drivers).modules
    return tuple(sorted(str(folder / modules.files[name]) for name in chosen))


def _furnish(root: Path, content: InitrdContent) -> None:
    """Complete the programs to a root: add folders, links, and our own files, including `init`."""
    shutil.copytree(FILES, root, dirs_exist_ok=True)
    for name in _EMPTY_FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in _MERGED:
        (root / name).symlink_to(f"usr/{name}")
    for place, target in (content.links | {f"/usr/bin/{name}": "busybox" for name in content.applets}).items():
        (root / place.lstrip("/")).symlink_to(target)


def _index_modules(shop: Workshop, tree: PackageTree, root: Path) -> None:
    kernel = tree.kernel.version
    source, folder = tree.root / "usr/lib/modules" / kernel, root / "usr/lib/modules" / kernel
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        _copy(source / name, folder / name)
    # depmod looks into /lib only.
    (root / "lib").symlink_to("usr/lib")
    shop.tools.run(["depmod", f"--basedir={root}", kernel], shop.access, timeout_s=_TIMEOUT_S, log=shop.log)
    (root / "lib").unlink()
    for path in folder.glob("modules.*"):
        if path.name not in _INDEXES:
            path.unlink()


def _pack(shop: Workshop, root: Path, half: Half, *, compressed: bool = True) -> None:
    """Pack a tree into `half` and remove it: names in order, one time, one owner, modes by kind."""
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
    compress = ("zstd", "--quiet", "--ultra", f"-{_LEVEL}", "-T1", "-o", packed, archive)
    for words in (pack, compress) if compressed else (pack,):
        shop.tools.run(words, shop.access, timeout_s=_TIMEOUT_S, cwd=root, log=shop.log)
    shutil.copyfile(packed if compressed else archive, half.archive)
    lines = (f"/{name}\n" for name in names if (root / name).is_symlink() or not (root / name).is_dir())
    half.names.write_text("".join(lines))
    shutil.rmtree(root)


def _kept(folder: Path, make: Callable[[Half], None]) -> Half:
    """The half in the cached folder, made by `make` in a partial one unless it is there."""
    if not folder.is_dir():
        with new_folder(folder) as partial:
            make(Half(partial))
    return Half(folder)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _key(*parts: str) -> str:
    return texts_sha256(parts)[:16]
