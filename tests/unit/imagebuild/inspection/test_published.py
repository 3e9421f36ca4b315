"""A published release is looked into from a folder or a URL, and every byte of it is checked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bedrock.cli import run_command
from imagebuild.inspection.cli import inspect
from tests.fakes.attested import attested_build
from tests.fakes.builds import Publisher, snapshot_of
from tests.fakes.tampering import flip_bits
from tests.fakes.web_server import answering, web_server


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = Publisher.make(tmp_path, now=datetime.now(UTC))
    made.publish_folders(attested_build(tmp_path / "build", root=made.root_sha256), now=datetime.now(UTC))
    return made


def code(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        run_command(inspect, prog_name="twinhull inspect", argv=words)
    return caught.value.code


def test_a_release_at_a_url_is_verified_from_the_root_that_is_named(workshop: Publisher) -> None:
    root = str(workshop.base / "metadata/1.root.json")
    files = {f"/repo/{name}": content for name, content in snapshot_of(workshop.base).items()}
    with web_server(answering(files)) as server:
        place = f"{server.url}/repo"
        assert code("host/1.0.0", "--repo", place) == 2
        words = ["host/1.0.0", "--repo", place, "--root", root, "--json"]
        done = CliRunner().invoke(inspect, words, catch_exceptions=False)
        before = len(server.asked)
        again = CliRunner().invoke(inspect, words, catch_exceptions=False)
        assert not [path for path, _ in server.asked[before:] if "/objects/" in path]
    found = json.loads(done.stdout)
    assert found == json.loads(again.stdout)
    assert (found["image"], found["version"]) == ("host", "1.0.0")
    assert found["root_of_trust_sha256"] == workshop.root_sha256
    assert "libc6" in {package["name"] for package in found["packages"]}
    assert found["wire_bytes"] == sum(cost["wire_bytes"] for cost in found["artifacts"].values()) > 0


def test_a_release_in_a_folder_is_shown_to_people(workshop: Publisher) -> None:
    done = CliRunner().invoke(inspect, ["host/1.0.0", "--repo", str(workshop.base)], catch_exceptions=False)
    assert "host 1.0.0 (x86-64)" in done.stdout
    assert "root.erofs" in done.stdout
    assert "components in the bill of materials" in done.stdout


def test_a_release_whose_object_was_changed_is_refused(workshop: Publisher) -> None:
    flip_bits(max(workshop.base.glob("objects/??/*"), key=lambda path: path.stat().st_size))
    assert code("host/1.0.0", "--repo", str(workshop.base)) == 3


def test_wrong_usage_is_told(workshop: Publisher, capsys: pytest.CaptureFixture[str]) -> None:
    assert code("host/1.0.0", "--repo", str(workshop.base), "--why", "/usr") == 2
    assert code("host", "--repo", str(workshop.base)) == 2
    assert code("nowhere") == 2
    assert "nowhere" in capsys.readouterr().err
    assert isinstance(inspect, click.Command)
