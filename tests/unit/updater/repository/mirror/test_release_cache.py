from __future__ import annotations

from pathlib import Path

import pytest

from bedrock.progress import Silent
from partitions.version import Version
from tests.fakes.builds import NOW, Publisher, snapshot_of
from tests.fakes.web_server import answering, web_server
from updater.errors import RefusedError
from updater.repository.channels import ReleaseChoice
from updater.repository.extract import extract
from updater.repository.mirror.release_cache import LocalRepository, local_repository
from updater.repository.mirror.staging import Anchor

CHOICE = ReleaseChoice("host", Version("1.0.0"))


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    made = Publisher.make(tmp_path)
    made.publish("1.0.0")
    made.publish("1.0.1", seed=2)
    return made


def found(workshop: Publisher, place: str, anchor: Anchor | None) -> LocalRepository:
    cache = workshop.folder / "cache"
    return local_repository(place, CHOICE, anchor, cache=cache, now=NOW, progress=Silent())


def test_a_folder_is_taken_as_it_is(workshop: Publisher) -> None:
    assert found(workshop, str(workshop.base), None) == LocalRepository(workshop.base, None)


def test_keys_lead_to_the_root_that_a_folder_is_read_by(workshop: Publisher) -> None:
    root = (workshop.base / "metadata/1.root.json").read_bytes()
    anchor = Anchor(keyring=workshop.access.keyring)
    assert found(workshop, str(workshop.base), anchor) == LocalRepository(workshop.base, root)


def test_of_a_url_the_one_release_is_kept_and_can_be_extracted(workshop: Publisher) -> None:
    anchor = Anchor(root=(workshop.base / "metadata/1.root.json").read_bytes())
    with web_server(answering({f"/{name}": data for name, data in snapshot_of(workshop.base).items()})) as server:
        there = found(workshop, server.url, anchor)
        asked = [path for path, _ in server.asked]
    assert not [path for path in asked if "1.0.1" in path]
    taken = extract(there.base, CHOICE, workshop.folder / "taken", progress=Silent(), trusted_root=there.trusted_root)
    assert str(taken.release.version) == "1.0.0"


def test_a_repository_of_somebody_else_is_refused(workshop: Publisher) -> None:
    with web_server(answering({f"/{name}": data for name, data in snapshot_of(workshop.base).items()})) as server:
        other = (workshop.base / "metadata/1.root.json").read_bytes() + b" "
        with pytest.raises(RefusedError, match="another one than the trusted root"):
            found(workshop, server.url, Anchor(root=other))
