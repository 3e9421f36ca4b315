"""The choices of an image: its container engine, and what sets its clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.definition import config
from imagebuild.definition.baked import presets
from imagebuild.definition.base import ENGINES, TimeService, time_service
from imagebuild.definition.image import ImageDefinition
from imagebuild.inspection.record import base_of
from tests.fakes.definitions import definition_of
from updater.agent.health_settings import Engine


def engine_checked(definition: ImageDefinition) -> str:
    return str(json.loads(config.baked_updater(definition))["health"]["engine"])


def test_an_image_has_podman_and_timesyncd_unless_it_says_otherwise() -> None:
    plain = ImageDefinition(id="host")
    assert {"podman", "crun", "systemd-timesyncd"} <= set(config.requested_packages(plain))
    assert {"podman", "systemd", "systemd-timesyncd"} <= set(base_of(plain))
    assert engine_checked(plain) == "podman"
    assert presets(plain) == ""


@pytest.mark.parametrize("engine", [Engine.DOCKER, Engine.CONTAINERD, Engine.NONE])
def test_another_engine_takes_podman_s_place_and_is_checked(engine: Engine, tmp_path: Path) -> None:
    definition = definition_of(tmp_path, f"id: host\ncontainers: {{engine: {engine.value}}}\n")
    asked = config.requested_packages(definition)
    assert set(ENGINES[engine].packages) <= set(asked)
    assert "podman" not in {*asked, *base_of(definition)}
    assert engine_checked(definition) == engine.value
    assert all(f"enable {unit}\n" in presets(definition) for unit in ENGINES[engine].units)


def test_the_definition_switches_off_what_it_chose() -> None:
    text = "id: host\ncontainers: {engine: docker}\nservices: {disable: [docker.socket]}\n"
    lines = presets(definition_from(text)).splitlines()
    assert lines.index("disable docker.socket") < lines.index("enable docker.socket")


def definition_from(text: str) -> ImageDefinition:
    return strict.read_yaml(ImageDefinition, text, source="x")


def test_a_check_can_be_left_out_but_not_be_of_an_engine_that_is_not_there(tmp_path: Path) -> None:
    text = "id: host\ncontainers: {engine: docker}\nupdater: {health: {engine: %s}}\n"
    assert engine_checked(definition_of(tmp_path, text % "none")) == "none"
    for other in ("containerd", "podman"):
        with pytest.raises(DocumentError, match="the image's engine docker") as caught:
            definition_of(tmp_path, text % other)
        assert [problem.path for problem in caught.value.problems] == ["updater.health.engine"]


@pytest.mark.parametrize(
    ("said", "packages", "found"),
    [
        (None, (), TimeService.TIMESYNCD),
        (None, ("chrony/trixie",), TimeService.CHRONY),
        (None, ("ntpsec",), TimeService.NONE),
        (TimeService.CHRONY, ("chrony",), TimeService.CHRONY),
        (TimeService.NONE, ("openntpd",), TimeService.NONE),
        (TimeService.NONE, (), TimeService.NONE),
    ],
)
def test_the_clock_is_set_by_one_service(
    said: TimeService | None, packages: tuple[str, ...], found: TimeService
) -> None:
    assert time_service(said, packages) is found


@pytest.mark.parametrize(("said", "package"), [("timesyncd", "chrony"), ("none", "chrony"), ("chrony", "ntpsec")])
def test_two_that_set_the_clock_are_refused_with_what_to_write(said: str, package: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="both set the clock; write time"):
        definition_of(tmp_path, f"id: host\ntime: {said}\npackages: [{package}]\n")


def test_chrony_takes_timesyncd_s_place_and_starts(tmp_path: Path) -> None:
    definition = definition_of(tmp_path, "id: host\npackages: [chrony]\n")
    assert "systemd-timesyncd" not in config.requested_packages(definition)
    assert presets(definition) == "enable chrony.service\n"


@pytest.mark.parametrize("engine", ["docker", "containerd", "none"])
def test_a_signature_policy_without_the_engine_that_reads_it_is_refused(engine: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="write engine: podman") as caught:
        definition_of(tmp_path, f"id: host\ncontainers: {{engine: {engine}, policy: {{default: reject}}}}\n")
    assert [problem.path for problem in caught.value.problems] == ["containers.policy"]


def test_a_user_for_ssh_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="ssh: user alice has no effect without keys"):
        definition_of(tmp_path, "id: host\nssh: {user: alice}\n")
