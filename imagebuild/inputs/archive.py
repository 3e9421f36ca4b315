"""A Debian archive that holds exactly a selection, so that mkosi and mmdebstrap cannot install anything else.

Nothing in it is signed: it is in our cache, and each file was checked against the lock when it was stored.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from bedrock.digest import bytes_sha256
from bedrock.partial import new_folder
from imagebuild.errors import RefusedInputError
from imagebuild.inputs.deb import control_of
from imagebuild.inputs.lockfile import LockedPackage, Selection
from imagebuild.inputs.store import Store

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

LAYOUT = 2
"""Increase it when the layout of an archive changes: a cached one with another layout is not used."""


def archive_path(selection: Selection, *, cache: Path) -> Path:
    """Base folder of the archive that holds `selection`, whether or not it was made."""
    return cache / "archives" / f"{LAYOUT}-{selection.digest[:16]}"


def index_path(base: Path, release: str, *, debian: str = "amd64") -> Path:
    """Where an archive describes its packages."""
    return base / "dists" / release / "main" / f"binary-{debian}" / "Packages"


def ensure_archive(selection: Selection, store: Store, *, cache: Path, debian: str = "amd64") -> Path:
    """Return the archive's base folder, making it below the cache first when there is none.

    Every package must be in the store (`fetch_packages`).

    Raises:
        RefusedInputError: A file is not a Debian package, or another one than the lock says.
    """
    base = archive_path(selection, cache=cache)
    if not base.is_dir():
        with new_folder(base) as partial:
            _fill(partial, selection, store, debian)
            partial.chmod(0o755)
    return base


def _fill(base: Path, selection: Selection, store: Store, debian: str) -> None:
    pool = base / "pool"
    pool.mkdir()
    stanzas = []
    for package in selection.packages:
        source = store.path(package.sha256)
        # As in Debian's own pool, the epoch stays out of the name.
        version = package.version.partition(":")[2] or package.version
        name = f"{package.name}_{version}_{package.architecture}.deb"
        (pool / name).hardlink_to(source)
        stanzas.append(_stanza(package, source, f"pool/{name}"))
    index = index_path(base, selection.release, debian=debian)
    index.parent.mkdir(parents=True)
    text = "\n".join(stanzas).encode()
    index.write_bytes(text)
    release = (
        f"Suite: {selection.release}\nCodename: {selection.release}\nArchitectures: {debian} all\nComponents: main\n"
        f"Date: {format_datetime(_EPOCH, usegmt=True)}\n"
        f"SHA256:\n {bytes_sha256(text)} {len(text)} main/binary-{debian}/Packages\n"
    )
    (index.parent.parent.parent / "Release").write_text(release)


def _stanza(package: LockedPackage, path: Path, file_name: str) -> str:
    control = control_of(path, what=f"{package.name} {package.version}")
    found = (control.get("Package"), control.get("Version"), control.get("Architecture"))
    if found != (package.name, package.version, package.architecture):
        raise RefusedInputError(f"the file of {package.name} {package.version} holds {' '.join(map(str, found))}")
    control["Filename"] = file_name
    control["Size"] = str(package.size_bytes)
    control["SHA256"] = package.sha256
    return str(control)
