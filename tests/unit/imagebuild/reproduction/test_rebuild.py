"""Building again, with a build that is played: what is refused before it, and what is reported after it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedrock.progress import Silent
from imagebuild.definition.image import definition_digest
from imagebuild.errors import BuildError, NotReproducedError
from imagebuild.inputs.lockfile import write_lock
from imagebuild.inputs.supply import Supply
from imagebuild.pipeline.build import Built
from imagebuild.pipeline.chain import BuildChain
from imagebuild.reproduction.rebuild import Reproduction, ReproductionRequest, reproduce
from imagebuild.steps.plan import BuildPlan
from imagebuild.steps.signing import GivenSignatures
from partitions.version import Version
from tests.fakes import attested
from tests.fakes.attested import attested_build, signatures_with
from tests.fakes.builds import Publisher
from tests.fakes.definitions import SUMMARY, lock_of, package, plan_in, supply_in, write_definition
from tests.fakes.provisions import CERTIFICATE
from tests.fakes.tampering import flip_bits
from updater.documents.signatures import dump_signatures
from updater.errors import RefusedError
from updater.repository.channels import ReleaseChoice

LOCK = write_lock(lock_of(package("podman")))
SIGNATURES = signatures_with(CERTIFICATE)


@dataclass
class Case:
    """A published release, a definition, and what the played build will leave behind."""

    workshop: Publisher
    published: Path
    definition: Path
    out: Path
    planned: list[BuildPlan]

    def chain(self) -> BuildChain:
        """Plans that were never checked, and leaves the published build behind."""

        def supply(*_: object, **__: object) -> Supply:
            return supply_in(self.workshop.folder)

        def plan(_folder: Path, **wanted: object) -> BuildPlan:
            folder = self.workshop.folder / "planned"
            folder.mkdir(exist_ok=True)
            changed = {name: wanted[name] for name in ("signatures", "root_of_trust", "out")}
            self.planned.append(replace(plan_in(folder), **changed))  # type: ignore[arg-type]
            return self.planned[-1]

        def build(plan: BuildPlan, **_: object) -> Built:
            shutil.copytree(self.published, plan.out)
            return Built(plan.out, fresh=True, summary=SUMMARY)

        own = attested.MATERIALS.own.source_sha256
        return BuildChain(program=lambda: own, locked=supply, plan=plan, build=build)

    def reproduce(self, *, trusted_root: bytes | None = None) -> Reproduction:
        choice = ReleaseChoice("host", Version("1.0.0"))
        wanted = ReproductionRequest(self.workshop.base, choice, self.definition, trusted_root=trusted_root)
        cache = self.workshop.folder / "cache"
        return reproduce(wanted, out=self.out, cache=cache, progress=Silent(), chain=self.chain())


@pytest.fixture
def case(tmp_path: Path) -> Case:
    definition = write_definition(tmp_path / "definition")
    workshop = Publisher.make(tmp_path)
    build = attested_build(
        tmp_path / "published",
        lock=LOCK,
        definition_sha256=definition_digest(definition),
        root=workshop.root_sha256,
        signatures=dump_signatures(SIGNATURES),
    )
    workshop.publish_folders(build, now=datetime.now(UTC))
    return Case(workshop, build, definition, tmp_path / "again", [])


def test_the_same_bytes_are_identical(case: Case) -> None:
    report = case.reproduce()
    assert report.identical
    assert {file.name for file in report.files} >= {"release.json", "uki.efi", "root.erofs", "provenance.json"}
    assert isinstance(case.planned[0].signatures, GivenSignatures)
    assert case.planned[0].signatures.signatures == SIGNATURES


def test_the_baked_root_is_found_by_its_hash(case: Case) -> None:
    seen = []
    case.reproduce()
    seen.append(case.planned[0].root_of_trust.name)
    assert seen == ["root.json"]


def test_one_changed_byte_is_told_with_its_place(case: Case) -> None:
    flip_bits(case.published / "root.verity", 4100)
    report = case.reproduce()
    assert not report.identical
    (file_report,) = [file for file in report.files if not file.identical]
    assert file_report.name == "root.verity"
    assert file_report.differences == ("1 blocks of 4096 bytes differ, the first at byte 4096",)


def test_a_file_that_is_not_made_any_more_is_told(case: Case) -> None:
    (case.published / "sbom.cdx.json").unlink()
    report = case.reproduce()
    (missing,) = [file for file in report.files if not file.identical]
    assert (missing.name, missing.rebuilt) == ("sbom.cdx.json", None)


def test_another_definition_is_refused_before_anything_is_built(case: Case) -> None:
    write_definition(case.definition, "id: host\npackages: [curl]\n")
    with pytest.raises(NotReproducedError, match="the definition is another one"):
        case.reproduce()
    assert case.planned == []


def test_a_folder_that_is_there_is_left_alone(case: Case) -> None:
    case.out.mkdir()
    with pytest.raises(BuildError, match="exists"):
        case.reproduce()


def test_a_release_without_a_lock_says_how_to_make_one(case: Case, tmp_path: Path) -> None:
    other = attested_build(tmp_path / "unlocked", version="1.0.1", seed=2, root=case.workshop.root_sha256)
    case.workshop.publish_folders(other, now=datetime.now(UTC))
    wanted = ReproductionRequest(case.workshop.base, ReleaseChoice("host", Version("1.0.1")), case.definition)
    with pytest.raises(NotReproducedError, match=r"without image\.lock, signatures\.json") as caught:
        reproduce(wanted, out=case.out, cache=tmp_path, progress=Silent())
    assert "--locked" in caught.value.hints[0]


def test_a_changed_object_is_refused(case: Case) -> None:
    largest = max(case.workshop.base.glob("objects/*/*"), key=lambda path: path.stat().st_size)
    flip_bits(largest, 100)
    with pytest.raises(RefusedError, match="which is not the name"):
        case.reproduce()


def test_a_trusted_root_whose_signature_does_not_hold_is_refused(case: Case) -> None:
    root = json.loads((case.workshop.base / "metadata/1.root.json").read_bytes())
    root["signed"]["expires"] = "2099-01-01T00:00:00Z"
    with pytest.raises(RefusedError):
        case.reproduce(trusted_root=json.dumps(root).encode())
    assert case.planned == []
