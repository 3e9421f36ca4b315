from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import RefusedInputError
from imagebuild.inputs.archive import LAYOUT, archive_path, ensure_archive
from imagebuild.inputs.store import Store
from tests.fakes.debian_packages import deb, stored
from tests.fakes.definitions import selection_of


def test_the_archive_describes_just_the_selection(tmp_path: Path) -> None:
    store = Store(tmp_path / "files")
    podman = stored(store, "podman", deb("podman", "1:5.4+ds1"), "1:5.4+ds1")
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
        ensure_archive(selection_of(stored(store, "podman", content)), store, cache=tmp_path)
    assert list((tmp_path / "archives").iterdir()) == []


def test_an_archive_of_an_older_layout_is_not_used(tmp_path: Path) -> None:
    store = Store(tmp_path / "files")
    selection = selection_of(stored(store, "podman", deb("podman", "1")))
    path = archive_path(selection, cache=tmp_path)
    older = path.with_name(path.name.replace(f"{LAYOUT}-", f"{LAYOUT - 1}-", 1))
    older.mkdir(parents=True)
    new = ensure_archive(selection, store, cache=tmp_path)
    assert new != older
    assert (new / "dists/trixie/Release").is_file()


def test_no_name_in_the_pool_needs_escaping(tmp_path: Path) -> None:
    """apt's `file:` method decodes names, so an escaped one would not be found."""
    store = Store(tmp_path / "files")
    made = stored(store, "libcap2", deb("libcap2", "1:2.75-10"), "1:2.75-10")
    base = ensure_archive(selection_of(made), store, cache=tmp_path)
    assert [path.name for path in (base / "pool").iterdir()] == ["libcap2_2.75-10_amd64.deb"]
