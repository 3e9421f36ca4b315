"""`provision:` of image.yaml, and what the image carries of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.definition.image import load_definition
from tests.fakes.definitions import write_definition
from tests.fakes.provisions import PUBLIC, PUBLIC_PEM
from updater.provision.policy import Policy, Unsigned, UpdaterFrom


def definition(folder: Path, text: str) -> Path:
    path = write_definition(folder, f"id: host\nprovision: {text}\n")
    (path / "fleet.pub").write_bytes(PUBLIC_PEM)
    (path / "notes.txt").write_text("hello\n")
    return path


def test_by_default_what_nobody_signed_counts_at_the_first_boot(tmp_path: Path) -> None:
    folder = definition(tmp_path / "d", "{}")
    baked = strict.read_json(Policy, load_definition(folder).provision.baked(folder), source="baked")
    assert baked == Policy()
    assert baked.unsigned is Unsigned.FIRST_BOOT


def test_the_image_carries_the_keys_themselves(tmp_path: Path) -> None:
    folder = definition(tmp_path / "d", "{unsigned: never, signed_by: [fleet.pub], updater: signed}")
    baked = strict.read_json(Policy, load_definition(folder).provision.baked(folder), source="baked")
    assert baked == Policy(unsigned=Unsigned.NEVER, keys=(PUBLIC,), updater=UpdaterFrom.SIGNED)


@pytest.mark.parametrize("name", ["missing.pub", "notes.txt"])
def test_a_file_that_holds_no_key_is_an_error_of_the_definition(tmp_path: Path, name: str) -> None:
    folder = definition(tmp_path / "d", f"{{signed_by: [fleet.pub, {name}]}}")
    with pytest.raises(DocumentError, match=r"provision.signed_by\[1\]"):
        load_definition(folder)


@pytest.mark.parametrize("name", ["../fleet.pub", "/fleet.pub"])
def test_a_key_outside_the_definition_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DocumentError, match="signed_by"):
        load_definition(definition(tmp_path / "d", f"{{signed_by: ['{name}']}}"))
