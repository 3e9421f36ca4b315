"""Bill of materials, tracker and VEX together, and what each of them can get wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL

from bedrock.errors import DocumentError
from imagebuild.attest.cli import scan
from imagebuild.attest.inventory import take_inventory
from imagebuild.attest.sbom import make_sbom
from imagebuild.attest.scan import Scan, Threshold, is_vulnerable, match
from imagebuild.attest.tracker import TrackerEntry, TrackerStatus, load_tracker, parse_tracker
from imagebuild.attest.vex import VexDocument, VexStatus, parse_vex
from imagebuild.errors import ImageBuildError
from partitions.version import Version
from tests.fakes.attested import MATERIALS, PODMAN, attested_build, definition
from tests.fakes.http_server import Site, serving
from updater.documents.bom import parse_bom


def row(status: str, fixed: str | None = None, urgency: str | None = None) -> dict[str, Any]:
    """A release as in the tracker, with a key that is not used here."""
    known: dict[str, Any] = {"status": status, "fixed_version": fixed, "urgency": urgency, "repositories": {}}
    return {"releases": {"trixie": {key: value for key, value in known.items() if value is not None}}}


TRACKER: dict[str, Any] = {
    "glibc": {
        "CVE-1": {"description": "fixed later", **row("resolved", "2.41-13", "high**")},
        "CVE-2": row("resolved", "2.41-2", "low"),
        "CVE-3": row("undetermined"),
        "CVE-4": {"releases": {"bookworm": {"status": "open"}}},
    },
    "linux": {
        "CVE-5": row("open", None, "unimportant"),
        "CVE-6": row("resolved", "0", "high"),
        "CVE-7": row("resolved", "6.12.5-1"),
    },
    "not-shipped": {"CVE-8": row("open")},
}
STATEMENT: dict[str, Any] = {
    "vulnerability": {"name": "CVE-1"},
    "products": [{"@id": "pkg:deb/debian/libc6"}],
    "status": "not_affected",
    "justification": "vulnerable_code_not_present",
}
VEX: dict[str, Any] = {
    "@context": "https://openvex.dev/ns/v0.2.0",
    "@id": "https://example.com/vex/1",
    "author": "us",
    "timestamp": "2026-01-01T00:00:00Z",
    "version": 1,
    "statements": [STATEMENT],
}


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return attested_build(tmp_path / "build")


def found(build: Path, *statements: dict[str, Any], threshold: Threshold = Threshold.FIXABLE) -> Scan:
    inventory = take_inventory(parse_bom((build / "sbom.cdx.json").read_bytes(), source="sbom"), source="sbom")
    wanted = {(source.name, source.release) for source in inventory.sources}
    entries = parse_tracker(json.dumps(TRACKER).encode(), wanted, source="tracker")
    return match(inventory, entries, vex=document(*statements) if statements else None, threshold=threshold)


def document(*statements: dict[str, Any]) -> VexDocument:
    return parse_vex(json.dumps(VEX | {"statements": statements}).encode(), source="vex")


def settled(build: Path, **changes: Any) -> bool:
    finding = next(each for each in found(build, STATEMENT | changes).findings if each.cve == "CVE-1")
    return finding.settled


def test_what_is_older_than_the_fix_or_open_is_found(build: Path) -> None:
    assert {each.cve for each in found(build).findings} == {"CVE-1", "CVE-3", "CVE-5"}


def test_a_signed_kernel_is_looked_up_as_the_source_it_was_made_of(build: Path) -> None:
    kernel = next(each for each in found(build).findings if each.cve == "CVE-5")
    assert (kernel.source, kernel.version, kernel.packages) == ("linux", "6.12.5-1", ("linux-image-6.12-cloud-amd64",))


@pytest.mark.parametrize(
    ("threshold", "failing"),
    [
        (Threshold.NONE, 0),
        (Threshold.FIXABLE, 1),
        (Threshold.ANY, 2),
        (Threshold.LOW, 1),
        (Threshold.HIGH, 1),
    ],
)
def test_the_threshold_decides_what_fails(build: Path, threshold: Threshold, failing: int) -> None:
    result = found(build, threshold=threshold)
    assert (result.failing, result.clean) == (failing, failing == 0)
    assert result.findings[0].cve == "CVE-1"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"status": "fixed"}, True),
        ({"status": "affected"}, False),
        ({"status": "under_investigation"}, False),
        ({"vulnerability": {"name": "CVE-9"}}, False),
        ({"vulnerability": {"name": "GHSA-1", "aliases": ["CVE-1"]}}, True),
        ({"products": [{"@id": "pkg:deb/debian/libc6@2.41-12?arch=amd64"}]}, True),
        ({"products": [{"@id": "pkg:deb/debian/libc6@2.41-11"}]}, False),
        ({"products": [{"@id": "pkg:deb/debian/libc6?arch=arm64"}]}, False),
        ({"products": [{"@id": "pkg:deb/debian/glibc?arch=source"}]}, True),
        ({"products": [{"identifiers": {"purl": "pkg:deb/debian/libc6"}}]}, True),
        ({"products": [{"@id": "pkg:generic/host"}]}, True),
        ({"products": [{"@id": "pkg:generic/host@2.0.0"}]}, False),
        ({"products": [{"@id": "pkg:generic/host", "subcomponents": [{"@id": "pkg:deb/debian/libc6"}]}]}, True),
        ({"products": [{"@id": "pkg:generic/host", "subcomponents": [{"@id": "pkg:deb/debian/perl"}]}]}, False),
    ],
)
def test_vex_settles_what_it_speaks_of(build: Path, changes: dict[str, Any], *, expected: bool) -> None:
    assert settled(build, **changes) is expected


def test_the_newest_statement_counts_and_of_equals_the_last() -> None:
    libc = PackageURL("deb", "debian", "libc6", "1")
    old = STATEMENT | {"status": "affected", "timestamp": "2025-01-01T00:00:00Z"}
    for statements in ((old, STATEMENT), (STATEMENT, old), (STATEMENT | {"status": "affected"}, STATEMENT)):
        verdict = document(*statements).verdict(("CVE-1",), libc, None)
        assert verdict is not None
        assert verdict.status is VexStatus.NOT_AFFECTED


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it.pop("author"), "author: is missing"),
        (lambda it: it.update({"@context": "https://example.com"}), "context"),
        (lambda it: it.update(extra=1), "extra: unknown key"),
        (lambda it: it["statements"][0].update(status="harmless"), r"statements\[0\]\.status"),
        (lambda it: it["statements"][0].pop("justification"), r"statements\[0\]: not_affected needs"),
        (lambda it: it["statements"][0].update(products=[]), r"statements\[0\]: products must"),
        (lambda it: it["statements"][0].update(products=[{"@id": "libc6"}]), r"products\[0\]: @id"),
        (lambda it: it["statements"][0].update(products=[{"@id": "pkg:deb"}]), r"products\[0\]"),
        (lambda it: it.update(timestamp="yesterday"), "timestamp"),
    ],
)
def test_errors_of_a_vex_file_are_told_with_their_place(change: Callable[[Any], Any], words: str) -> None:
    value = json.loads(json.dumps(VEX))
    change(value)
    with pytest.raises(DocumentError, match=rf"my\.vex: .*{words}"):
        parse_vex(json.dumps(value).encode(), source="my.vex")


@pytest.mark.parametrize("data", [b"", b"[]", b"{"])
def test_what_is_no_vex_file_is_told(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"my\.vex"):
        parse_vex(data, source="my.vex")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "must be a mapping"),
        ({"glibc": []}, "glibc: must be a mapping"),
        ({"glibc": {"CVE-1": {"releases": []}}}, r"glibc\.CVE-1\.releases: must be a mapping"),
        ({"glibc": {"CVE-1": row("gone")}}, r"glibc\.CVE-1\.releases\.trixie\.status: must be one of"),
        ({"glibc": {"CVE-1": row("resolved")}}, r"glibc\.CVE-1\.releases\.trixie\.fixed_version: is missing"),
        ({"glibc": {"CVE-1": {"description": 1, **row("open")}}}, r"glibc\.CVE-1\.description: must be text"),
    ],
)
def test_errors_of_a_tracker_file_are_told_with_their_place(value: Any, words: str) -> None:
    with pytest.raises(DocumentError, match=rf"data\.json: {words}"):
        parse_tracker(json.dumps(value).encode(), {("glibc", "trixie")}, source="data.json")


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["glibc", "CVE-1", "releases", "trixie"]), inner)
        ),
    )
)
def test_any_tracker_file_is_read_or_refused(value: Any) -> None:
    with suppress(DocumentError):
        parse_tracker(json.dumps(value).encode(), {("glibc", "trixie")}, source="data.json")


def test_errors_in_packages_that_are_not_shipped_are_none() -> None:
    assert parse_tracker(b'{"other": []}', {("glibc", "trixie")}, source="data.json") == ()


def test_the_tracker_comes_from_a_server_too_and_not_endlessly(tmp_path: Path) -> None:
    with serving(Site(files={"/data.json": b"x" * 100}, hide_length=True)) as site:
        assert load_tracker(f"{site.url}/data.json") == b"x" * 100
        with pytest.raises(ImageBuildError, match="404"):
            load_tracker(f"{site.url}/gone.json")
        with pytest.raises(ImageBuildError, match="more than 99 bytes"):
            load_tracker(f"{site.url}/data.json", most_bytes=99)
    with pytest.raises(ImageBuildError, match="cannot be read"):
        load_tracker(str(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("shipped", "fixed", "vulnerable"),
    [
        ("1.0-1", "1.0-1+deb13u1", True),
        ("1.0~rc1-1", "1.0-1", True),
        ("1:0.9-1", "1.0-1", False),
        ("1.0-1", "0", False),
    ],
)
def test_versions_are_ordered_as_debian_does(shipped: str, fixed: str, *, vulnerable: bool) -> None:
    assert (
        is_vulnerable(shipped, TrackerEntry("CVE-1", "x", "trixie", "", TrackerStatus.RESOLVED, fixed, "low"))
        is vulnerable
    )


@pytest.mark.parametrize(
    ("purls", "words"),
    [
        ([], "components: there is no Debian package"),
        (["pkg:pypi/tuf@1"], "components: there is no Debian package"),
        (["pkg:deb/debian/libc6?distro=trixie"], r"components\.a\.purl"),
        (["pkg:deb/debian/libc6@1"], r"components\.a\.purl"),
    ],
)
def test_a_bill_of_materials_that_cannot_be_scanned_is_told(purls: list[str], words: str) -> None:
    rows = [{"type": "library", "name": "a", "purl": purl} for purl in purls]
    data = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": rows}).encode()
    with pytest.raises(DocumentError, match=rf"s\.json: {words}"):
        take_inventory(parse_bom(data, source="s.json"), source="s.json")


def test_a_bill_of_materials_of_another_program_is_read() -> None:
    purl = "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=trixie&upstream=glibc%402.41-13"
    row = {"type": "library", "name": "libc6", "purl": purl}
    data = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [row]}).encode()
    (source,) = take_inventory(parse_bom(data, source="s"), source="s").sources
    assert (source.name, source.version, source.release) == ("glibc", "2.41-13", "trixie")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(scan, [str(word) for word in words])


def test_the_command_tells_people_and_machines_and_fails_ci(build: Path, tmp_path: Path) -> None:
    tracker, vex = tmp_path / "tracker.json", tmp_path / "vex.json"
    tracker.write_text(json.dumps(TRACKER))
    vex.write_text(json.dumps(VEX))
    shown = run(build, "--tracker", tracker)
    assert shown.exit_code == 3
    assert "2.41-13" in shown.output
    machine = run(build / "sbom.cdx.json", "--tracker", tracker, "--vex", vex, "--json")
    assert machine.exit_code == 0
    value = json.loads(machine.output)
    assert value["failing"] == 0
    (finding,) = (each for each in value["findings"] if each["cve"] == "CVE-1")
    assert finding["vex"] == {"status": "not_affected", "reason": "vulnerable_code_not_present"}


def test_a_folder_without_a_bill_of_materials_is_told(tmp_path: Path) -> None:
    (tmp_path / "tracker.json").write_text("{}")
    result = run(tmp_path, "--tracker", tmp_path / "tracker.json")
    assert "holds no sbom.cdx.json" in str(result.exception)


def scan_of_podman(*statements: dict[str, Any]) -> Scan:
    materials = replace(MATERIALS, packages=(PODMAN,))
    sbom = make_sbom(definition(), Version.from_text("1.0.0"), materials, inputs_digest="inputs")
    inventory = take_inventory(parse_bom(sbom, source="sbom"), source="sbom")
    tracker = {
        "golang-1.24": {"CVE-10": row("resolved", "1.24.13-1", "high")},
        "runc": {"CVE-11": row("open"), "CVE-12": row("resolved", "1.1.10+ds1-1")},
    }
    wanted = {(source.name, source.release) for source in inventory.sources}
    entries = parse_tracker(json.dumps(tracker).encode(), wanted, source="tracker")
    vex = document(*statements) if statements else None
    return match(inventory, entries, vex=vex, threshold=Threshold.FIXABLE)


def test_a_hole_of_what_is_linked_in_statically_is_found_in_the_package_that_holds_it() -> None:
    scan = scan_of_podman()
    assert [(each.cve, each.source, each.version, each.packages) for each in scan.findings] == [
        ("CVE-10", "golang-1.24", "1.24.4-1", ("podman",)),
        ("CVE-11", "runc", "1.1.15+ds1-2", ("podman",)),
    ]
    assert scan.failing == 1


@pytest.mark.parametrize(
    "product", ["pkg:deb/debian/podman", "pkg:deb/debian/golang-1.24?arch=source", "pkg:generic/host"]
)
def test_vex_of_the_package_or_of_the_source_settles_what_is_linked_in(product: str) -> None:
    statement = STATEMENT | {"vulnerability": {"name": "CVE-10"}, "products": [{"@id": product}]}
    scan = scan_of_podman(statement)
    assert {each.cve: each.settled for each in scan.findings} == {"CVE-10": True, "CVE-11": False}
