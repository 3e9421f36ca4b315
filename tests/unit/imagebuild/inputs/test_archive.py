from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from imagebuild.errors import RefusedInputError
from imagebuild.inputs import archive
from imagebuild.inputs.archive import ensure_archive
from imagebuild.inputs.lockfile import LockedPackage
from imagebuild.inputs.store import Store
from tests.fakes.definitions import package, selection_of


def deb(name: str, version: str) -> bytes:
    """A Debian package that holds nothing but its control file."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDepends: libc6\nDescription: x\n".encode()
    parts = {"debian-binary": b"2.0\n", "control.tar.gz": _tar({"./control": control}), "data.tar.gz": _tar({})}
    made = b"!<arch>\n"
    for part, content in parts.items():
        made += f"{part:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        made += content + b"\n" * (len(content) % 2)
    return made


def _tar(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def kept(store: Store, name: str, content: bytes, version: str = "1") -> LockedPackage:
    made = package(name, content, version=version)
    store.put([content], sha256=made.sha256, size_bytes=made.size_bytes, what=name)
    return made


def test_the_archive_describes_just_the_selection(tmp_path: Path) -> None:
    store = Store(tmp_path / "files")
    podman = kept(store, "podman", deb("podman", "1:5.4+ds1"), "1:5.4+ds1")
    base = ensure_archive(selection_of(podman), store, cache=tmp_path)
    index = (base / "dists/trixie/main/binary-amd64/Packages").read_text()
    assert "Package: podman\n" in index
    assert "Depends: libc6\n" in index
    assert f"SHA256: {podman.sha256}" in index
    assert "Filename: pool/podman_5.4+ds1_amd64.deb\n" in index
    assert (base / "pool/podman_5.4+ds1_amd64.deb").samefile(store.path(podman.sha256))
    assert "main/binary-amd64/Packages" in (base / "dists/trixie/Release").read_text()
    assert ensure_archive(selection_of(podman), store, cache=tmp_path) == base


@pytest.mark.parametrize("content", [b"noise", deb("evil", "1"), deb("podman", "2")])
def test_a_file_that_is_not_the_package_it_is_locked_as_is_refused(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path / "files")
    with pytest.raises(RefusedInputError, match="podman 1"):
        ensure_archive(selection_of(kept(store, "podman", content)), store, cache=tmp_path)
    assert list((tmp_path / "archives").iterdir()) == []


def test_an_archive_of_an_older_layout_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "files")
    selection = selection_of(kept(store, "podman", deb("podman", "1")))
    old = ensure_archive(selection, store, cache=tmp_path)
    monkeypatch.setattr(archive, "LAYOUT", archive.LAYOUT + 1)
    new = ensure_archive(selection, store, cache=tmp_path)
    assert new != old
    assert (new / "dists/trixie/Release").is_file()


def test_no_name_in_the_pool_needs_escaping(tmp_path: Path) -> None:
    """apt's `file:` method decodes names, so an escaped one would not be found."""
    store = Store(tmp_path / "files")
    made = kept(store, "libcap2", deb("libcap2", "1:2.75-10"), "1:2.75-10")
    base = ensure_archive(selection_of(made), store, cache=tmp_path)
    assert [path.name for path in (base / "pool").iterdir()] == ["libcap2_2.75-10_amd64.deb"]
