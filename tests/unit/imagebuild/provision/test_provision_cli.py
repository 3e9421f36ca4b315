"""`twinhull provision`: checking, signing, and the order of writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bedrock.errors import DocumentError
from imagebuild.cli import twinhull
from imagebuild.errors import BuildError
from imagebuild.provision.fat import ADDED, RENAMED, FreeClusters, Geometry, Patch, SectorUse, in_order
from keys.errors import BadKeyError
from keys.public import read_ed25519
from tests.fakes.provisions import WHOLE
from updater.provision.policy import key_of
from updater.provision.reading import read_offered


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(twinhull, ["provision", *map(str, words)])


def test_a_document_is_checked_without_a_disk(tmp_path: Path) -> None:
    path = tmp_path / "web-1.yaml"
    path.write_text(WHOLE)
    done = run("--check", path, "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert "/etc/hostname" in found["writes"]
    assert "/etc/hostname" not in found["needs_signature"]
    # On a host whose image has a list, the next boot would undo it.
    assert "/etc/systemd/system/app.service" in found["needs_signature"]
    lines = run("--check", path).stdout.splitlines()
    assert "  writes /etc/hostname" in lines
    assert any(line.startswith("  writes /etc/systemd/system/app.service  (only in a signed") for line in lines)


def test_a_bad_document_is_refused_before_any_disk_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "web-1.yaml"
    path.write_text("hostname: '?'\n")
    for words in (("--check", path), (tmp_path / "no-disk", path)):
        done = run(*words)
        assert isinstance(done.exception, DocumentError)
        assert str(path) in str(done.exception)


@pytest.mark.parametrize("words", [["--check"], ["sign", "--key", "no-key.pem"]])
def test_a_document_without_end_is_not_read(words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "web-1.yaml"
    with path.open("wb") as stream:
        stream.truncate(1 << 30)
    assert isinstance(run(*words, path).exception, BuildError)
    if words == ["--check"]:
        assert isinstance(run(*words, "/dev/zero").exception, BuildError)


@pytest.mark.parametrize("words", [["--check"], ["disk.raw"], ["--check", "--remove", "x"], ["--check", "a", "b"]])
def test_wrong_usage_is_said(words: list[str]) -> None:
    assert run(*words).exit_code == 2


def test_a_document_signed_with_a_new_key_is_taken_by_its_public_half(tmp_path: Path) -> None:
    document, private = tmp_path / "web-1.yaml", tmp_path / "fleet.pem"
    document.write_text("serial: 3\nhostname: web-1\n")
    assert run("key", private).exit_code == 0
    assert private.stat().st_mode & 0o777 == 0o600
    assert run("sign", document, "--key", private).exit_code == 0
    key = key_of(read_ed25519(tmp_path / "fleet.pub"))
    offered = read_offered((tmp_path / "web-1.yaml.signed").read_bytes(), [key], source="x")
    assert offered.signed_by == key.keyid
    assert offered.document.hostname == "web-1"


def test_a_document_without_a_serial_is_not_signed(tmp_path: Path) -> None:
    document, private = tmp_path / "web-1.yaml", tmp_path / "fleet.pem"
    document.write_text("hostname: web-1\n")
    run("key", private)
    assert isinstance(run("sign", document, "--key", private).exception, DocumentError)
    assert not (tmp_path / "web-1.yaml.signed").exists()


def test_a_private_key_that_is_not_the_public_one_s_half_is_refused(tmp_path: Path) -> None:
    document, one, other = tmp_path / "x.yaml", tmp_path / "one.pem", tmp_path / "other.pem"
    document.write_text("serial: 1\n")
    run("key", one)
    run("key", other)
    done = run("sign", document, "--key", one, "--public", other.with_suffix(".pub"))
    assert isinstance(done.exception, BadKeyError)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    private = tmp_path / "fleet.pem"
    run("key", private)
    before = private.read_bytes()
    assert isinstance(run("key", private).exception, FileExistsError)
    assert private.read_bytes() == before


def test_what_was_free_is_written_first_and_the_name_last() -> None:
    geometry = Geometry(table=512, data=2048, cluster=1024)
    # Clusters 2 and 3 are in use, 4 is free.
    free = FreeClusters(b"\0" * 8 + b"\xff\xff\xff\x0f" * 2 + b"\0" * 4)
    changes = [Patch(512, b"t" * 512), Patch(2048, b"f" * 512), Patch(4096, b"n" * 512), Patch(4608, b"m" * 512)]
    assert [geometry.part_of(change.offset, free) for change in changes] == [
        SectorUse.TABLE,
        SectorUse.FOLDERS,
        SectorUse.FREE,
        SectorUse.FREE,
    ]
    groups = in_order(changes, geometry, free, ADDED)
    assert [[change.offset for change in group] for group in groups] == [[4096], [512], [2048]]
    assert groups[0][0].data == b"n" * 512 + b"m" * 512
    groups = in_order(changes, geometry, free, RENAMED)
    assert [[change.offset for change in group] for group in groups] == [[4096], [2048], [512]]
