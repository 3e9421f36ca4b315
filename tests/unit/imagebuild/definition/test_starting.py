"""A definition to start from: its id, its examples, its schema."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition.image import Budget, definition_digest, definition_files, load_definition
from imagebuild.definition.schemas import image_schema
from imagebuild.definition.starting import image_id, write_starting_definition
from imagebuild.errors import BuildError
from imagebuild.paths import DATA
from updater.agent.health_settings import CheckSettings


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my-host", "my-host"), ("My Host", "my-host"), ("web_01.example", "web-01-example"), ("-x-", "x")],
)
def test_the_id_is_made_of_the_folders_name(tmp_path: Path, name: str, expected: str) -> None:
    path = write_starting_definition(tmp_path / name, chosen_id=None)
    assert load_definition(path.parent).id == expected


def test_the_folder_one_stands_in_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    assert image_id(Path()) == "shop"


@pytest.mark.parametrize("name", ["___", "日本", "x" * 64])
def test_a_name_that_gives_no_id_is_an_error_that_says_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match="gives no image id") as caught:
        write_starting_definition(tmp_path / name, chosen_id=None)
    assert "--id" in caught.value.hints[0]
    assert not (tmp_path / name).exists()
    write_starting_definition(tmp_path / name, chosen_id="mine")
    assert load_definition(tmp_path / name).id == "mine"


def test_an_id_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="--id"):
        write_starting_definition(tmp_path / "host", chosen_id="My Host")


def test_it_has_no_budget_that_a_package_could_break(tmp_path: Path) -> None:
    write_starting_definition(tmp_path / "host", chosen_id=None)
    assert load_definition(tmp_path / "host").budget == Budget()


def test_its_examples_are_valid_when_uncommented(tmp_path: Path) -> None:
    text = (DATA / "image.yaml").read_text()
    example = re.compile(r"^( *)# (?=[a-z_]+: |[a-z_]+:$|- \{|- name|  )", re.MULTILINE)
    lively = example.sub(r"\1", text)
    (tmp_path / "image.yaml").write_text(lively)
    (tmp_path / "probe.sh").write_text("#!/bin/sh\n")
    definition = load_definition(tmp_path)
    assert definition.updater.url is not None
    assert definition.units[0].name == "web.container"
    assert definition.files[1].source == "probe.sh"
    assert definition.budget.packages is not None
    assert len(definition.ssh.keys) == 1
    assert definition.updater.health.checks == {"web": CheckSettings(unit="web.service")}


def test_its_schema_is_there_for_editors_and_no_part_of_a_build(tmp_path: Path) -> None:
    path = write_starting_definition(tmp_path / "host", chosen_id=None)
    assert path.read_text().startswith("# yaml-language-server: $schema=image.schema.json\n")
    schema = tmp_path / "host/image.schema.json"
    assert json.loads(schema.read_text()) == image_schema()
    before = definition_digest(tmp_path / "host")
    schema.write_text("{}")
    assert definition_digest(tmp_path / "host") == before
    assert list(definition_files(tmp_path / "host")) == [Path("image.yaml")]
