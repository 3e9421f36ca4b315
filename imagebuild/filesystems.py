"""The file systems of an image: the package tree, the initrd, the root filesystem with its verity tree.

Rules: mkosi and systemd-repart do the work from the configuration that lies beside the build; what is cached is found
again by the hash of what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bedrock import process
from bedrock.errors import ProcessError
from imagebuild import config
from imagebuild.definition import definition_files, is_executable
from imagebuild.errors import BuildError, SpaceError
from imagebuild.inputs.archive import ensure_archive
from imagebuild.inputs.lockfile import Selection
from imagebuild.inputs.part import part_of
from imagebuild.inputs.supply import store_in
from imagebuild.inspection.record import base_packages
from imagebuild.plan import DATA, EPOCH, tree_digest
from imagebuild.tools import Access, inside_user_namespace
from imagebuild.workshop import Workshop

_MKOSI_TIMEOUT_S = 1800
_REPART_TIMEOUT_S = 600
_SEEDS = uuid.UUID("6d0f2f0c-36a4-4c2c-9d5b-6d4f0b1d9a71")


def stage_definition(folder: Path, target: Path) -> None:
    """Copy a definition's files into the new folder `target`, as git would hand them out to anybody.

    Of a mode only whether the file can be executed counts, and of times nothing: they depend on who checked it out.
    """
    target.mkdir()
    for name in definition_files(folder):
        source, copy = folder / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(source.readlink())
        else:
            shutil.copyfile(source, copy)
            copy.chmod(0o755 if is_executable(source) else 0o644)
    for path in (target, *target.rglob("*")):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


def write_extra_files(shop: Workshop, tree: Path) -> None:
    """Write what the definition and Twinhull put into every image into the tree at `tree`."""
    plan, definition = shop.plan, shop.plan.definition
    _put(tree, config.UPDATER_FILE, config.baked_updater(definition))
    _put(tree, config.ROOT_OF_TRUST_FILE, plan.root_of_trust.read_bytes())
    for file in definition.files:
        content = (shop.definition / file.source).read_bytes() if file.source else (file.content or "").encode()
        _put(tree, str(file.path), content, mode=int(file.mode, 8))
    for unit in definition.units:
        _put(tree, unit.path, unit.content.encode())
    if presets := config.unit_presets(definition):
        _put(tree, "/usr/lib/systemd/system-preset/10-image.preset", presets.encode())


def make_tree(shop: Workshop) -> None:
    """Let mkosi install and arrange the root filesystem's files in the working folder."""
    plan = shop.plan
    folder = _mkosi_folder(shop, "tree")
    text = config.tree_config(
        plan.definition,
        version=plan.version,
        folders=shop.folders,
        extra=shop.work / "extra",
        base=(DATA / "image.conf").read_text(),
        scripts=shop.config / "scripts",
        merged=shop.definition if any(shop.definition.glob("mkosi.*")) else None,
        profile=plan.profile,
        epoch=EPOCH,
    )
    (folder / "mkosi.conf").write_text(text)
    _mkosi(shop, folder, shop.folders)
    for name in ("vmlinuz", "kernel-version"):
        if not (shop.folders.output / name).is_file():
            raise BuildError(f"mkosi left no {name}: does the image hold a kernel?")


def make_tree_and_initrd_base(shop: Workshop) -> None:
    """Let mkosi make the package tree and, beside it, install the initrd's packages, which need not wait for it."""
    beside_log = shop.log.with_name("initrd-base.log")
    try:
        with ThreadPoolExecutor(1) as beside:
            base = beside.submit(_make_initrd_base, shop, beside_log)
            make_tree(shop)
            base.result()
    finally:
        if beside_log.exists():
            with shop.log.open("a") as whole:
                whole.write(beside_log.read_text(errors="replace"))
            beside_log.unlink()


def make_initrd(shop: Workshop) -> None:
    """Let mkosi make the initrd, or take an equal one from the cache (writes to the cache)."""
    modules = shop.folders.output / "tree/usr/lib/modules"
    kernel = shop.folders.output / "vmlinuz"
    kernel_version = (shop.folders.output / "kernel-version").read_text().strip()
    modules_digest = _digest_of_tree(modules)
    folder = _mkosi_folder(shop, "initrd")
    part = _initrd_part(shop)
    # mkosi selects modules for the kernels it finds, so it must see this one; `initrd.finalize` drops it again.
    extra = {
        DATA / "initrd": "/",
        shop.work / "extra/usr/lib/repart.d": "/usr/lib/repart.d",
        modules: "/usr/lib/modules",
        kernel: f"/usr/lib/modules/{kernel_version}/vmlinuz",
    }
    (folder / "mkosi.conf").write_text(_initrd_config(shop, part, extra))
    scripts = (DATA / "scripts" / name for name in ("initrd.finalize", "packages.postinst"))
    text_of_initrd = (DATA / "initrd.conf").read_text() + "".join(script.read_text() for script in scripts)
    inputs = (
        modules_digest,
        tree_digest((DATA / "initrd",)),
        text_of_initrd,
        part.digest,
    )
    key = hashlib.sha256("\0".join((*inputs, shop.tools.identity)).encode()).hexdigest()[:16]
    cached = shop.plan.cache / "initrd" / f"{key}.cpio.zst"
    record = cached.with_name(f"{key}.dpkg")
    if not (cached.is_file() and record.is_dir()):
        _mkosi(shop, folder, shop.folders_of(part), read=(DATA,))
        _keep_initrd(shop, cached, record)
    shutil.copy(cached, shop.work / "initrd.cpio.zst")
    shutil.copytree(record, shop.work / config.INITRD_RECORD)


def _keep_initrd(shop: Workshop, cached: Path, record: Path) -> None:
    """Put an initrd and the record of its packages into the cache; whoever finds the initrd finds the record."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_suffix(".partial")
    for stale in (partial, record):
        shutil.rmtree(stale, ignore_errors=True)
    shutil.copytree(shop.folders.output / config.INITRD_RECORD, partial)
    partial.rename(record)
    partial = cached.with_suffix(".partial")
    shutil.copy(shop.folders.output / "initrd.cpio.zst", partial)
    partial.rename(cached)


def make_root(shop: Workshop) -> None:
    """Let systemd-repart make `root.erofs`, `root.verity` and the root hash from the package tree."""
    definitions = shop.config / "root"
    write_definitions(definitions, config.root_partitions())
    image = shop.work / "root.raw"
    done = shop.tools.run(
        [
            "systemd-repart",
            "--empty=create",
            "--size=auto",
            "--dry-run=no",
            "--offline=yes",
            "--split=yes",
            "--json=short",
            f"--seed={seed_of(shop.plan.definition.id)}",
            f"--root={shop.folders.output / 'tree'}",
            f"--definitions={definitions}",
            f"--architecture={shop.plan.definition.architecture.value}",
            image,
        ],
        shop.access,
        timeout_s=_REPART_TIMEOUT_S,
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )
    with shop.log.open("a") as log:
        log.write(done.stderr)
    root_hash = next((row["roothash"] for row in json.loads(done.stdout) if row.get("roothash")), None)
    if not isinstance(root_hash, str):
        raise BuildError("systemd-repart named no root hash")
    (shop.work / "root-hash").write_text(root_hash)
    for name, target in (("root.root.raw", "root.erofs"), ("root.verity.raw", "root.verity")):
        (shop.work / name).rename(shop.out / target)
    image.unlink()
    slots = shop.plan.definition.slots
    for name, room in (("root.erofs", slots.root), ("root.verity", slots.verity)):
        size = (shop.out / name).stat().st_size
        if size > room:
            raise SpaceError(f"{name} has {size >> 20} MiB, its slot only {room >> 20} MiB").with_hint(
                "raise slots.root in image.yaml; hosts that were installed with smaller slots cannot take this image"
            )


def seed_of(image: str) -> uuid.UUID:
    """What systemd-repart derives identifiers and the verity salt from: constant per image.

    Equal blocks of two releases of an image so have equal hashes, and the trees of two images have nothing in common.
    """
    return uuid.uuid5(_SEEDS, image)


def remove_tree(folder: Path) -> None:
    """Remove a working folder whose files may belong to the build's user namespace."""
    process.run([*inside_user_namespace(), "rm", "-rf", "--one-file-system", folder], timeout_s=300)


def _make_initrd_base(shop: Workshop, log: Path) -> None:
    """Let mkosi install the initrd's packages into its cache, unless they are there; the initrd itself is not made."""
    part = _initrd_part(shop)
    folders = shop.folders_of(part)
    if any((folders.cache / "initrd").glob("*.cache")) and not (folders.cache / "initrd.unfinished").exists():
        return
    folder = _mkosi_folder(shop, "initrd-base")
    (folder / "mkosi.conf").write_text(_initrd_config(shop, part, {}))
    # mkosi passes over an image without a format, unless it has something to build.
    words = ("--format=none", f"--build-script={shop.config / 'scripts/nothing.build'}")
    _mkosi(shop, folder, folders, kind="initrd", words=words, log=log)
    shutil.rmtree(folder)


def _initrd_part(shop: Workshop) -> Selection:
    """The packages the initrd can hold; their archive is made below the cache."""
    supply = shop.plan.supply
    names = base_packages((DATA / "initrd.conf").read_text())
    part = part_of(supply.packages, names, archive=supply.archive)
    ensure_archive(part, store_in(supply.cache), cache=supply.cache)
    return part


def _initrd_config(shop: Workshop, part: Selection, trees: Mapping[Path, str]) -> str:
    return config.initrd_config(
        shop.plan.definition,
        folders=shop.folders_of(part),
        trees=trees,
        base=(DATA / "initrd.conf").read_text(),
        scripts=shop.config / "scripts",
        epoch=EPOCH,
    )


def _mkosi_folder(shop: Workshop, name: str) -> Path:
    folder = shop.config / name
    folder.mkdir(parents=True)
    return folder


def _mkosi(
    shop: Workshop,
    folder: Path,
    folders: config.Folders,
    *,
    kind: str | None = None,
    words: tuple[str, ...] = (),
    read: tuple[Path, ...] = (),
    log: Path | None = None,
) -> None:
    name = kind or folder.name
    for kept in (folders.cache / name, folders.packages):
        kept.mkdir(parents=True, exist_ok=True)
    access = Access(read=(folders.archive, *read), write=(shop.work, folders.cache))
    with _whole_cache(folders.cache, name):
        shop.tools.run(
            ["mkosi", "--directory", folder, *words, "--force", "build"],
            access,
            timeout_s=_MKOSI_TIMEOUT_S,
            cwd=folder,
            log=log or shop.log,
        )


@contextmanager
def _whole_cache(cache: Path, kind: str) -> Iterator[None]:
    """Start mkosi without its cached trees when the mkosi before was killed: it may have left half of one."""
    marker = cache / f"{kind}.unfinished"
    if marker.exists():
        remove_tree(cache / kind)
        (cache / kind).mkdir()
    marker.touch()
    try:
        yield
    except ProcessError as error:
        # With an exit code mkosi came to its own end.
        if error.returncode is not None and error.returncode > 0:
            marker.unlink()
        raise
    marker.unlink()


def write_definitions(folder: Path, definitions: dict[str, str]) -> None:
    """Write systemd-repart definitions into a new folder."""
    folder.mkdir(parents=True)
    for name, text in definitions.items():
        (folder / name).write_text(text)


def _put(tree: Path, path: str, content: bytes, *, mode: int = 0o644) -> None:
    target = tree / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(mode)


def _digest_of_tree(folder: Path) -> str:
    """A hash of a tree by names, sizes and contents of its index, enough to tell two kernels' modules apart."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\0{path.lstat().st_size}\0".encode())
        if path.is_file() and path.name.startswith("modules."):
            digest.update(path.read_bytes())
    return digest.hexdigest()
