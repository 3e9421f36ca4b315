from __future__ import annotations

from dataclasses import replace

from imagebuild.attest.provenance import BuildEnvironment, make_provenance
from imagebuild.inputs.lockfile import write_lock
from imagebuild.reproduction.inputs import Here, input_problems
from tests.fakes.attested import MATERIALS
from tests.fakes.definitions import lock_of, package
from updater.documents.statement import ExternalParameters, Statement, parse_statement

LOCK = write_lock(lock_of(package("podman")))
HERE = Here("host", "dd" * 32, MATERIALS.own.version, MATERIALS.own.source_sha256, LOCK)


def statement() -> Statement:
    asked = ExternalParameters("host", "1.0.0", "", "dd" * 32, "ee" * 32)
    made = make_provenance({"uki.efi": "aa" * 32}, asked, MATERIALS, BuildEnvironment("tools", "packages"))
    return parse_statement(made, source="provenance.json")


def test_the_same_inputs_are_no_problem() -> None:
    assert input_problems(statement(), LOCK, HERE) == ()


def test_a_lock_beside_the_definition_is_not_needed() -> None:
    assert input_problems(statement(), LOCK, replace(HERE, lock=None)) == ()


def test_everything_that_differs_is_told_at_once() -> None:
    here = replace(HERE, definition_sha256="ff" * 32, own_sha256="00" * 32, lock=LOCK + b"\n")
    told = "\n".join(input_problems(statement(), LOCK, here))
    assert "the definition is another one" in told
    assert "this is Twinhull" in told
    assert "the lock next to the definition is not the published one" in told


def test_another_image_is_named() -> None:
    told = input_problems(statement(), LOCK, replace(HERE, image="other"))
    assert told == ("the definition is of other, the release of host",)


def test_another_package_in_the_lock_is_named() -> None:
    other = write_lock(lock_of(package("podman", version="2")))
    told = input_problems(statement(), LOCK, replace(HERE, lock=other))
    assert any("image: podman: 1 " in line and "2 " in line for line in told)


def test_a_change_that_is_no_version_is_told_by_its_path() -> None:
    other = LOCK.replace(b'"size_bytes": 3', b'"size_bytes": 4')
    assert other != LOCK
    told = input_problems(statement(), LOCK, replace(HERE, lock=other))
    assert any(line.strip() == "image_packages.packages[0].size_bytes: 3 -> 4" for line in told)


def test_a_lock_that_is_none_is_told() -> None:
    told = input_problems(statement(), LOCK, replace(HERE, lock=b"{"))
    assert any("image.lock" in line and "not JSON" in line for line in told)
