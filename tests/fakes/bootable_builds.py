"""Small builds whose UKI is a program, as revocation needs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bedrock import strict
from bedrock.digest import bytes_sha256
from tests.fakes.builds import write_build
from tests.fakes.pe_files import pe_file
from updater.documents.release import Artifact, parse_release


def uki_of(version: str) -> bytes:
    """The UKI of a version."""
    return pe_file(b"kernel", f"UKI of {version}".encode())


def write_bootable(folder: Path, version: str, *, image: str = "host") -> Path:
    """A build of a version."""
    write_build(folder, version=version, image=image)
    content = uki_of(version)
    (folder / "uki.efi").write_bytes(content)
    path = folder / "release.json"
    release = parse_release(path.read_bytes(), source=str(path))
    uki = Artifact(bytes_sha256(content), len(content))
    path.write_bytes(strict.dump_json(replace(release, artifacts=replace(release.artifacts, uki=uki))))
    return folder
