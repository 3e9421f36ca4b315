from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.definition.image import BuildProfile
from imagebuild.errors import BuildError, BuiltBeforeError, SpaceError
from imagebuild.inputs.tools import ToolsTree
from imagebuild.steps.plan import BuildPlan, plan_build
from imagebuild.steps.signing import KeySource
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from partitions.version import Version
from tests.fakes.definitions import (
    ROOT_OF_TRUST,
    package,
    plan_in,
    selection_of,
    supply_in,
    write_definition,
    write_keys,
)


class Case:
    """A definition, keys and a mirror, complete enough to be planned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keyring: Keyring = write_keys(folder)
        self.supply = supply_in(folder)
        self.definition = folder / "host"
        self.program = "p" * 64
        self.free_bytes = 1 << 50
        self.say("")

    def say(self, more: str) -> None:
        write_definition(self.definition, f"id: host\n{more}")

    def plan(
        self, version: str = "1.0.0", *, profile: BuildProfile | None = None, out: Path | None = None
    ) -> BuildPlan:
        return plan_build(
            self.definition,
            version=Version(version),
            signatures=KeySource(self.keyring, NoPassphrase()),
            root_of_trust=self.keyring.folder / "root.json",
            supply=self.supply,
            out=out,
            profile=profile,
            program=lambda: self.program,
            free_bytes=lambda _folder: self.free_bytes,
        )


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_the_same_inputs_are_the_same_build(case: Case) -> None:
    assert case.plan().digest == case.plan(out=case.folder / "elsewhere").digest


def test_each_input_makes_another_build(case: Case) -> None:
    digests = [case.plan().digest, case.plan("1.0.1").digest, case.plan(profile=BuildProfile.DEBUG).digest]
    case.say("packages: [curl]\n")
    digests.append(case.plan().digest)
    (case.definition / "image.lock").write_text("what a lock holds is known by its packages")
    assert case.plan().digest == digests[-1]
    packages, tools = case.supply.packages, case.supply.tools
    case.supply = replace(case.supply, packages=selection_of(package("podman", version="2")))
    digests.append(case.plan().digest)
    case.supply = replace(case.supply, packages=packages, tools=ToolsTree(tools.root.with_name("other")))
    digests.append(case.plan().digest)
    (case.folder / "keys/root.json").write_bytes(ROOT_OF_TRUST + b"\n")
    digests.append(case.plan().digest)
    certificate = case.folder / "keys/db.crt"
    certificate.write_text(certificate.read_text() + "\n")
    digests.append(case.plan().digest)
    case.program = "q" * 64
    digests.append(case.plan().digest)
    assert len(set(digests)) == len(digests)


def test_planning_writes_nothing(case: Case) -> None:
    before = sorted(case.folder.rglob("*"))
    case.plan()
    assert sorted(case.folder.rglob("*")) == before


def test_without_a_place_the_id_and_the_version_name_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.folder)
    plan = case.plan("7")
    assert plan.out == case.folder / "out/host/7"


def test_the_definitions_errors_are_told_before_anything_else(case: Case) -> None:
    case.say("nonsense: true\n")
    (case.folder / "keys/root.json").unlink()
    with pytest.raises(DocumentError, match="nonsense"):
        case.plan()


def test_a_missing_root_of_trust_says_what_makes_it(case: Case) -> None:
    (case.folder / "keys/root.json").unlink()
    with pytest.raises(BuildError, match="no root of trust") as caught:
        case.plan()
    assert "twinhull repo init" in caught.value.hints[0]


@pytest.mark.parametrize("content", [b"[]", b'{"signed": {"_type": "targets"}}', b'{"signed": 1}'])
def test_what_is_no_tuf_root_is_not_baked_in(case: Case, content: bytes) -> None:
    (case.folder / "keys/root.json").write_bytes(content)
    with pytest.raises(BuildError, match="not the root of a TUF repository"):
        case.plan()


def test_a_root_of_trust_that_is_no_json_is_refused(case: Case) -> None:
    (case.folder / "keys/root.json").write_bytes(b"-----BEGIN")
    with pytest.raises(DocumentError, match="not JSON"):
        case.plan()


def test_a_nearly_full_disk_is_reported_before_the_build(case: Case) -> None:
    case.free_bytes = 5 << 20
    with pytest.raises(SpaceError, match="5 MiB free"):
        case.plan()


def test_a_build_does_not_go_into_its_own_definition(case: Case) -> None:
    with pytest.raises(BuildError, match="inside the image definition"):
        case.plan(out=case.definition / "out")


@pytest.mark.parametrize("name", ["with space", "a:b", "a,b", "50%", "#1"])
def test_a_place_that_mkosi_cannot_be_told_of_is_refused(case: Case, name: str) -> None:
    with pytest.raises(BuildError, match="cannot carry"):
        case.plan(out=case.folder / name)


def test_a_file_in_the_way_of_the_place_is_told(case: Case) -> None:
    (case.folder / "file").touch()
    with pytest.raises(BuildError, match="not a folder"):
        case.plan(out=case.folder / "file/out")


def test_an_empty_or_missing_place_is_not_finished(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    assert not plan.finished
    plan.out.mkdir(parents=True)
    assert not plan.finished


def test_a_place_with_this_build_is_finished(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    plan.out.mkdir(parents=True)
    (plan.out / "inputs.json").write_bytes(strict.dump_json(plan.inputs))
    assert plan.finished


def test_the_same_version_of_other_content_is_refused(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    plan.out.mkdir(parents=True)
    (plan.out / "inputs.json").write_bytes(strict.dump_json(replace(plan, digest="e" * 64).inputs))
    with pytest.raises(BuiltBeforeError, match=r"already holds host 1\.0\.0") as caught:
        _ = plan.finished
    assert "--version" in caught.value.hints[0]


def test_a_place_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    plan.out.mkdir(parents=True)
    (plan.out / "thesis.txt").touch()
    with pytest.raises(BuildError, match="not a finished build"):
        _ = plan.finished
    shutil.rmtree(plan.out)
    plan.out.touch()
    with pytest.raises(BuildError, match="not a finished build"):
        _ = plan.finished
