from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from imagebuild.attest.inventory import take_inventory
from imagebuild.attest.linked import Ecosystem, Linked
from imagebuild.attest.materials import Materials, ReleasePart
from imagebuild.attest.sbom import ARCHIVE, PART, UNKNOWN_LICENCE, debian_purl, make_sbom
from partitions.version import Version
from tests.fakes.attested import GLIBC, KERNEL, MATERIALS, PODMAN, definition
from updater.documents.bom import parse_bom


def sbom(materials: Materials = MATERIALS, *, digest: str = "inputs") -> bytes:
    return make_sbom(definition(), Version.from_text("1.0.0"), materials, inputs_digest=digest)


def components(data: bytes) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(data)["components"]}


def values(component: dict[str, Any], name: str) -> set[str]:
    return {each["value"] for each in component["properties"] if each["name"] == name}


def test_what_is_shipped_is_listed_and_nothing_else() -> None:
    assert set(components(sbom())) == {"libc6", "linux-image-6.12-cloud-amd64", "tuf", "twinhull-updater"}


def test_a_component_says_what_is_known_of_it() -> None:
    libc = components(sbom())["libc6"]
    assert libc["purl"] == "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=trixie&upstream=glibc"
    assert libc["hashes"] == [{"alg": "SHA-256", "content": "aa" * 32}]
    assert [each["license"]["name"] for each in libc["licenses"]] == ["GPL-2+", "LGPL-2.1+"]
    assert values(libc, PART) == {"root file system", "initrd"}


def test_what_is_not_known_is_left_out_and_said() -> None:
    kernel = replace(KERNEL, licences=replace(KERNEL.licences, names=(), unknown="free text"))
    found = components(sbom(replace(MATERIALS, packages=(kernel,))))[KERNEL.id.name]
    assert "licenses" not in found
    assert "hashes" not in found
    assert values(found, UNKNOWN_LICENCE) == {"free text"}


def test_the_source_stands_in_the_purl_when_it_differs() -> None:
    assert debian_purl(KERNEL).qualifiers["upstream"] == "linux-signed-amd64@6.12.5+1"
    assert "upstream" not in debian_purl(replace(GLIBC, source="libc6")).qualifiers


def test_what_another_source_brought_is_named_by_it_and_not_taken_for_debians() -> None:
    theirs = replace(GLIBC, archive="tools")
    assert debian_purl(theirs).to_string().startswith("pkg:deb/tools/libc6@")
    document = sbom(replace(MATERIALS, packages=(KERNEL, theirs)))
    assert values(components(document)["libc6"], ARCHIVE) == {"tools"}
    inventory = take_inventory(parse_bom(document, source="sbom"), source="sbom")
    assert inventory.foreign == ("libc6 (tools)",)
    assert {source.name for source in inventory.sources} == {"linux"}


def test_the_same_inputs_give_the_same_bytes_in_any_order() -> None:
    turned = Materials(MATERIALS.packages[::-1], MATERIALS.wheels[::-1], MATERIALS.own)
    assert sbom() == sbom(turned)
    assert json.loads(sbom())["serialNumber"] != json.loads(sbom(digest="others"))["serialNumber"]


def test_it_is_cyclonedx_1_6_and_every_component_hangs_on_the_image() -> None:
    document = json.loads(sbom())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    (of_image,) = (each for each in document["dependencies"] if each["ref"] == "pkg:generic/host@1.0.0")
    assert set(of_image["dependsOn"]) == {each["bom-ref"] for each in document["components"]}
    assert len(parse_bom(sbom(), source="sbom").components) == 4


RUNC = "pkg:deb/debian/runc@1.1.15%2Bds1-2?arch=source&distro=trixie"
GO = "pkg:deb/debian/golang-1.24@1.24.4-1?arch=source&distro=trixie"
STDLIB = "pkg:golang/stdlib@1.24.4"


def depends_on(data: bytes) -> dict[str, list[str]]:
    return {each["ref"]: each.get("dependsOn", []) for each in json.loads(data)["dependencies"]}


def test_what_is_linked_in_statically_is_listed_once_and_what_holds_it_depends_on_it() -> None:
    other = replace(
        PODMAN,
        id=PODMAN.id._replace(name="buildah"),
        parts=(ReleasePart.INITRD,),
        built_using=(("runc", "1.1.15+ds1-2"),),
    )
    data = sbom(replace(MATERIALS, packages=(PODMAN, other)))
    purls = [each["purl"] for each in json.loads(data)["components"]]
    assert {RUNC, GO, STDLIB} <= set(purls)
    assert len(purls) == len(set(purls))
    edges = depends_on(data)
    assert edges[debian_purl(PODMAN).to_string()] == sorted((GO, RUNC, STDLIB))
    assert edges[debian_purl(other).to_string()] == sorted((RUNC, STDLIB))
    # It belongs to the component it is linked into, not to the image.
    assert not {RUNC, GO, STDLIB} & set(edges["pkg:generic/host@1.0.0"])
    assert values(components(data)["runc"], PART) == {"root file system", "initrd"}
    assert values(components(data)["golang-1.24"], PART) == {"root file system"}


def test_what_is_linked_into_a_package_that_is_not_shipped_is_not_listed() -> None:
    data = sbom(replace(MATERIALS, packages=(replace(PODMAN, parts=()),)))
    assert not {"runc", "golang-1.24", "stdlib"} & components(data).keys()


def test_what_is_linked_into_a_program_of_no_package_hangs_on_the_image() -> None:
    module = Linked(Ecosystem.GO, "github.com/opencontainers/runc", "v1.1.12")
    data = sbom(replace(MATERIALS, linked=frozenset((module,))))
    purl = "pkg:golang/github.com/opencontainers/runc@v1.1.12"
    assert purl in depends_on(data)["pkg:generic/host@1.0.0"]
    assert components(data)["runc"]["group"] == "github.com/opencontainers"
