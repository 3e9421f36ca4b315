"""Files by hash: only a file with the expected content gets a name, and all failures are reported at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bedrock.progress import Silent
from imagebuild.definition.sources import DEBIAN, LOCAL, SECURITY
from imagebuild.errors import BuildError, MirrorError, RefusedInputError
from imagebuild.inputs.lockfile import LockedPackage
from imagebuild.inputs.store import Store, fetch_packages
from tests.fakes.definitions import package
from tests.fakes.http_server import Site, serving

PODMAN, CRUN = package("podman", b"the podman"), package("crun", b"the crun")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "files")


def put_on(mirror: Path, each: LockedPackage, content: bytes) -> None:
    (mirror / each.path).parent.mkdir(parents=True, exist_ok=True)
    (mirror / each.path).write_bytes(content)


def names_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_is_fetched_lies_under_its_hash_and_is_not_fetched_again(tmp_path: Path, store: Store) -> None:
    put_on(tmp_path / "mirror", PODMAN, b"the podman")
    mirrors = {DEBIAN: f"file:{tmp_path / 'mirror'}"}
    fetch_packages(store, [PODMAN], mirrors, progress=Silent(), offline=False)
    assert store.path(PODMAN.sha256).read_bytes() == b"the podman"
    fetch_packages(store, [PODMAN], {}, progress=Silent(), offline=True)


def test_http_brings_the_same(store: Store) -> None:
    with serving(Site({f"/{PODMAN.path}": b"the podman"})) as site:
        fetch_packages(store, [PODMAN], {DEBIAN: site.url}, progress=Silent(), offline=False)
    assert store.path(PODMAN.sha256).read_bytes() == b"the podman"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"the podmaN", "SHA-256"), (b"the pod", "has 7 bytes"), (b"the podman and more", "longer than")],
)
def test_another_file_than_the_locked_one_is_refused_and_not_kept(
    tmp_path: Path, store: Store, content: bytes, said: str
) -> None:
    put_on(tmp_path / "mirror", PODMAN, content)
    with pytest.raises(RefusedInputError, match=said):
        fetch_packages(store, [PODMAN], {DEBIAN: f"file:{tmp_path / 'mirror'}"}, progress=Silent(), offline=False)
    assert names_below(tmp_path / "files") == []


def test_all_that_a_mirror_lacks_is_told_together_with_what_to_do(tmp_path: Path, store: Store) -> None:
    (tmp_path / "mirror").mkdir()
    with pytest.raises(MirrorError, match="no longer has podman 1") as caught:
        fetch_packages(store, [PODMAN, CRUN], {DEBIAN: f"file:{tmp_path / 'mirror'}"}, progress=Silent(), offline=False)
    assert "no longer has crun 1" in str(caught.value)
    assert caught.value.hints == (
        "`twinhull lock --update` locks what it has now; a bundle keeps what was locked for good",
    )


def test_a_web_mirror_without_the_file_says_its_answer(store: Store) -> None:
    with serving(Site()) as site, pytest.raises(MirrorError, match="it answered 404"):
        fetch_packages(store, [PODMAN], {DEBIAN: site.url}, progress=Silent(), offline=False)


def test_a_forgery_outweighs_a_missing_file(tmp_path: Path, store: Store) -> None:
    put_on(tmp_path / "mirror", CRUN, b"forged")
    with pytest.raises(RefusedInputError, match="no longer has podman"):
        fetch_packages(store, [PODMAN, CRUN], {DEBIAN: f"file:{tmp_path / 'mirror'}"}, progress=Silent(), offline=False)


def test_a_security_package_is_not_looked_for_in_the_main_archive(tmp_path: Path, store: Store) -> None:
    fixed = replace(PODMAN, archive=SECURITY)
    put_on(tmp_path / "mirror", fixed, b"the podman")
    with pytest.raises(MirrorError, match="security archive") as caught:
        fetch_packages(store, [fixed], {DEBIAN: f"file:{tmp_path / 'mirror'}"}, progress=Silent(), offline=False)
    assert "security_mirror" in caught.value.hints[0]


def test_a_package_of_a_source_that_image_yaml_no_longer_names_is_an_error(store: Store) -> None:
    with pytest.raises(MirrorError, match=r"comes from the source tools, and image\.yaml does not name it"):
        fetch_packages(store, [replace(PODMAN, archive="tools")], {}, progress=Silent(), offline=False)


def test_the_definitions_own_packages_need_no_network(tmp_path: Path, store: Store) -> None:
    own = replace(PODMAN, archive=LOCAL)
    with pytest.raises(MirrorError, match="the definition no longer has podman"):
        fetch_packages(store, [own], {LOCAL: f"file:{tmp_path}"}, progress=Silent(), offline=True)
    put_on(tmp_path, own, b"the podman")
    fetch_packages(store, [own], {LOCAL: f"file:{tmp_path}"}, progress=Silent(), offline=True)
    assert store.path(PODMAN.sha256).read_bytes() == b"the podman"


def test_a_package_of_the_definition_that_was_altered_is_refused(tmp_path: Path, store: Store) -> None:
    own = replace(PODMAN, archive=LOCAL)
    put_on(tmp_path, own, b"not podman")
    with pytest.raises(RefusedInputError, match="SHA-256"):
        fetch_packages(store, [own], {LOCAL: f"file:{tmp_path}"}, progress=Silent(), offline=True)


def test_without_a_network_what_is_missing_is_named(store: Store) -> None:
    with pytest.raises(BuildError, match="1 packages are not in the bundle: podman"):
        fetch_packages(store, [PODMAN], {}, progress=Silent(), offline=True)
