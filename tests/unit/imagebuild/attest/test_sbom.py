from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from imagebuild.attest.materials import Materials
from imagebuild.attest.sbom import PART, UNKNOWN_LICENCE, debian_purl, make_sbom
from partitions.version import Version
from tests.fakes.attested import GLIBC, KERNEL, MATERIALS, definition
from updater.repository.bom import parse_bom


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
