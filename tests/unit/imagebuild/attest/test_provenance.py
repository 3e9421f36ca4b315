from __future__ import annotations

import json

from imagebuild.attest.provenance import BuildEnvironment, make_provenance
from tests.fakes.attested import MATERIALS
from updater.documents.statement import ExternalParameters, parse_statement

SUBJECTS = {"uki.efi": "11" * 32, "root.erofs": "22" * 32}


def provenance() -> bytes:
    asked = ExternalParameters("host", "1.0.0", "debug", "dd" * 32, "ee" * 32)
    return make_provenance(SUBJECTS, asked, MATERIALS, BuildEnvironment("tools", "archive"))


def test_a_statement_reads_back_and_names_its_subjects() -> None:
    statement = parse_statement(provenance(), source="provenance.json")
    assert statement.digests == SUBJECTS
    assert statement.predicate.buildDefinition.externalParameters.profile == "debug"
    assert provenance() == provenance()


def test_everything_the_build_used_is_named_and_an_unknown_hash_is_left_out() -> None:
    used = json.loads(provenance())["predicate"]["buildDefinition"]["resolvedDependencies"]
    by_name = {each["uri"].partition("@")[0].rpartition("/")[2]: each for each in used}
    assert set(by_name) == {"libc6", "linux-image-6.12-cloud-amd64", "perl-base", "tuf", "pycparser"}
    assert by_name["tuf"]["digest"] == {"sha256": "bb" * 32}
    assert "digest" not in by_name["linux-image-6.12-cloud-amd64"]


def test_no_time_is_in_it() -> None:
    assert b"startedOn" not in provenance()
    assert b"metadata" not in provenance()
