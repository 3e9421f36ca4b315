"""Reads the control file of a `.deb`, and makes an archive of a definition's own `.deb` files."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from lzma import LZMAError
from pathlib import Path
from tarfile import TarError

from debian.arfile import ArError
from debian.deb822 import Deb822
from debian.debfile import DebError, DebFile

from bedrock.digest import bytes_sha256, file_sha256
from imagebuild.errors import BuildError, RefusedInputError


def control_of(path: Path, *, what: str) -> Deb822:
    """The control file of a Debian package.

    Raises:
        RefusedInputError: It is not a Debian package; `what` begins the message.
    """
    try:
        with path.open("rb") as stream:
            control: Deb822 = DebFile(fileobj=stream).debcontrol()
    except (ArError, DebError, TarError, EOFError, OSError, ValueError, zlib.error, LZMAError) as error:
        # The library passes on what its readers of the archive and of its compression raise.
        raise RefusedInputError(f"{what} is not a Debian package: {error}") from error
    return control


def local_names(folder: Path, files: Iterable[str], *, debian: str = "amd64") -> dict[str, str]:
    """The package that each of a definition's own files holds.

    Raises:
        RefusedInputError: A file is not a Debian package.
        BuildError: One is of another architecture, or two hold the same package.
    """
    found: dict[str, str] = {}
    for file in files:
        control = control_of(folder / file, what=str(folder / file))
        name, architecture = control["Package"], control["Architecture"]
        if architecture not in {debian, "all"}:
            raise BuildError(f"{folder / file} is for {architecture}, and the image is for {debian}")
        if name in found.values():
            other = next(path for path, package in found.items() if package == name)
            raise BuildError(f"packages: ./{other} and ./{file} both hold the package {name}").with_hint("name one")
        found[file] = name
    return found


def write_local_archive(folder: Path, files: Iterable[str], base: Path) -> None:
    """Write an index of a definition's own packages into the folder `base`, for apt to choose from."""
    base.mkdir(parents=True, exist_ok=True)
    stanzas = []
    for file in files:
        path = folder / file
        control = control_of(path, what=str(path))
        control["Filename"] = file
        control["Size"] = str(path.stat().st_size)
        control["SHA256"] = file_sha256(path)
        stanzas.append(str(control))
    index = "\n".join(stanzas).encode()
    (base / "Packages").write_bytes(index)
    digest = bytes_sha256(index)
    (base / "Release").write_text(f"Origin: local\nSHA256:\n {digest} {len(index)} Packages\n")
