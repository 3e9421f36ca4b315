"""A bundle: all inputs of a locked build in one folder or one tar file, by content.

    bundle.json           format, image, and every file of the bundle with size and SHA-256
    definition/           the image definition, the lock among it
    files/ab/abcdef…      packages and wheels, each under its SHA-256; the definition's own are there already

A bundle is not trusted: missing, extra and altered files are refused, all named at once, before anything of it is used.
Its files go into the cache's store, so that a build from a bundle works like any other.
Not in it: keys, the root of trust, and Twinhull itself.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from bedrock import strict
from bedrock.digest import file_sha256
from bedrock.partial import partial_folder
from bedrock.progress import Progress
from imagebuild.definition.image import LOCK_FILE, definition_files, is_executable
from imagebuild.definition.sources import LOCAL
from imagebuild.errors import BuildError, LockError, RefusedInputError
from imagebuild.inputs.lockfile import ArchivePath, Lock, LockedPackage, read_lock
from imagebuild.inputs.mirror import Mirrors
from imagebuild.inputs.store import Store
from imagebuild.inputs.supply import Supply, locked_supply, store_in
from imagebuild.inputs.tools import ToolsTree
from imagebuild.inputs.wheels import agent_wheels, keep_agent_wheels
from updater.documents.release import Name, Sha256

FORMAT = 1
INDEX = "bundle.json"
TAR_SUFFIX = ".tar"
_CHUNK_BYTES = 1 << 20
_SHOWN = 10


@dataclass(frozen=True)
class BundledFile:
    """A file of the bundle; `mode` is 0755 or 0644."""

    path: ArchivePath
    size_bytes: Annotated[int, strict.Range(0, 1 << 33)]
    sha256: Sha256
    executable: bool


@dataclass(frozen=True)
class BundleIndex:
    """`bundle.json`."""

    format: Annotated[int, strict.Range(FORMAT, FORMAT)]
    image: Name
    files: tuple[BundledFile, ...]


def write_bundle(
    folder: Path,
    lock: Lock,
    out: Path,
    *,
    mirrors: Mirrors,
    cache: Path,
    progress: Progress,
    supply_of: Callable[..., Supply] = locked_supply,
    wheels_of: Callable[[ToolsTree, Path], tuple[Path, ...]] = agent_wheels,
) -> BundleIndex:
    """Write a bundle of the definition in `folder`, which holds `lock`; a name that ends in .tar makes a tar file.

    Args:
        folder: The image definition.
        lock: Its lock.
        out: What is made.
        mirrors: Where packages come from.
        cache: Twinhull's cache folder.
        progress: Shows the steps.
        supply_of: Makes the tools ready and finds the packages of a lock.
        wheels_of: Fetches the agent's packages.

    Raises:
        BuildError: `out` exists.
        LockError: The lock does not fit the definition.
        MirrorError: A mirror no longer has a locked file.
        RefusedInputError: A file is not the locked one.
    """
    if out.exists():
        raise BuildError(f"{out} exists; nothing was changed").with_hint("choose another name")
    supply = supply_of(folder, lock, mirrors=mirrors, cache=cache, progress=progress)
    supply.open_archive(progress)
    wheels = wheels_of(supply.tools, supply.cache)
    with partial_folder(out) as partial:
        progress.step("pack the bundle")
        index = _lay_out(partial / "bundle", folder, lock, store_in(supply.cache), wheels)
        made = partial / "bundle"
        if out.suffix == TAR_SUFFIX:
            made = _tar(made, partial / "bundle.tar")
        made.rename(out)
    return index


def open_bundle(bundle: Path, folder: Path, *, cache: Path) -> Lock:
    """Check a bundle, bring its files into the cache, and return its lock.

    Raises:
        RefusedInputError: A file is missing, extra or altered.
        LockError: The bundle was made from another definition than the one in `folder`.
        DocumentError: Its index or lock is malformed.
        BuildError: It is not a bundle.
    """
    with _as_folder(bundle) as base:
        index = _read_index(base, bundle)
        _require_whole(base, index, bundle)
        lock = read_lock((base / "definition" / LOCK_FILE).read_bytes(), source=f"{bundle}: {LOCK_FILE}")
        _require_definition(index, folder, bundle)
        store = store_in(cache.absolute())
        _take_packages(base, lock, store, bundle)
        wheels = {wheel.file: _object(base, wheel.sha256) for wheel in lock.wheels}
        _require_there(wheels.values(), bundle)
        keep_agent_wheels(wheels, cache.absolute())
    return lock


def _lay_out(base: Path, folder: Path, lock: Lock, store: Store, wheels: Iterable[Path]) -> BundleIndex:
    base.mkdir()
    for path in definition_files(folder):
        target = base / "definition" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, target)
        target.chmod(0o755 if is_executable(folder / path) else 0o644)
    shutil.copyfile(folder / LOCK_FILE, base / "definition" / LOCK_FILE)
    for package in _packed(lock):
        _keep(base, store.path(package.sha256), package.sha256)
    for path, wheel in zip(sorted(wheels), sorted(lock.wheels, key=lambda each: each.file), strict=True):
        _keep(base, path, wheel.sha256)
    index = BundleIndex(FORMAT, lock.image, tuple(_described(base)))
    (base / INDEX).write_bytes(strict.dump_json(index))
    return index


def _packed(lock: Lock) -> Iterator[LockedPackage]:
    return (package for package in lock.packages if package.archive != LOCAL)


def _keep(base: Path, source: Path, sha256: str) -> None:
    target = _object(base, sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _object(base: Path, sha256: str) -> Path:
    return base / "files" / sha256[:2] / sha256


def _described(base: Path) -> Iterator[BundledFile]:
    for path in sorted(each for each in base.rglob("*") if each.is_file() and each.name != INDEX):
        name = path.relative_to(base).as_posix()
        yield BundledFile(name, path.stat().st_size, file_sha256(path), executable=is_executable(path))


def _tar(base: Path, target: Path) -> Path:
    """A tar file with the same bytes for the same content."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(each for each in base.rglob("*") if each.is_file()):
            entry = tarfile.TarInfo(path.relative_to(base).as_posix())
            entry.size = path.stat().st_size
            entry.mode = 0o755 if is_executable(path) else 0o644
            with path.open("rb") as stream:
                archive.addfile(entry, stream)
    return target


@contextmanager
def _as_folder(bundle: Path) -> Iterator[Path]:
    if bundle.is_dir():
        yield bundle
        return
    with tempfile.TemporaryDirectory(prefix="twinhull-bundle-") as scratch:
        try:
            with tarfile.open(bundle, "r:") as archive:
                archive.extractall(scratch, filter="data")
        except (tarfile.TarError, EOFError) as error:
            raise BuildError(f"{bundle} is not a bundle: {error}") from error
        yield Path(scratch)


def _read_index(base: Path, bundle: Path) -> BundleIndex:
    path = base / INDEX
    if not path.is_file():
        raise BuildError(f"{bundle} is not a bundle: it holds no {INDEX}").with_hint("`twinhull bundle` makes one")
    return strict.read_json(BundleIndex, path.read_bytes(), source=f"{bundle}: {INDEX}")


def _require_whole(base: Path, index: BundleIndex, bundle: Path) -> None:
    named = {file.path: file for file in index.files}
    there = {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_symlink() or not path.is_dir()}
    there.discard(INDEX)
    problems = [f"{name} is missing" for name in sorted(named.keys() - there)]
    problems += [f"{name} is not named in {INDEX}" for name in sorted(there - named.keys())]
    for name in sorted(named.keys() & there):
        path = base / name
        if (
            path.is_symlink()
            or path.stat().st_size != named[name].size_bytes
            or file_sha256(path) != named[name].sha256
        ):
            problems.append(f"{name} was altered")
    if f"definition/{LOCK_FILE}" not in named:
        problems.append(f"definition/{LOCK_FILE} is missing")
    _refuse(problems, bundle)


def _require_there(paths: Iterable[Path], bundle: Path) -> None:
    _refuse([f"files/{path.parent.name}/{path.name} is missing" for path in paths if not path.is_file()], bundle)


def _refuse(problems: list[str], bundle: Path) -> None:
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise RefusedInputError("\n".join((f"the bundle {bundle} is not whole:", *problems[:_SHOWN], *more)))


def _require_definition(index: BundleIndex, folder: Path, bundle: Path) -> None:
    prefix = "definition/"
    theirs = {file.path.removeprefix(prefix): file.sha256 for file in index.files if file.path.startswith(prefix)}
    theirs.pop(LOCK_FILE)
    ours = {path.as_posix(): file_sha256(folder / path) for path in definition_files(folder)}
    different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if different:
        message = f"{bundle} was made from another definition than {folder}: {', '.join(different[:_SHOWN])}"
        raise LockError(message).with_hint(f"build the definition that is in it: {bundle}/definition")


def _take_packages(base: Path, lock: Lock, store: Store, bundle: Path) -> None:
    wanted = store.missing(_packed(lock))
    _require_there((_object(base, package.sha256) for package in wanted), bundle)
    for package in wanted:
        what = f"{package.name} {package.version}"
        chunks = _chunks(_object(base, package.sha256))
        store.put(chunks, sha256=package.sha256, size_bytes=package.size_bytes, what=what)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
