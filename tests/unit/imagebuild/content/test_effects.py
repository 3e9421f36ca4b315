"""What a definition says in vain, judged by what its image holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.content.effects import unknown_health_units, unread_files
from tests.fakes.definitions import definition_of


@pytest.mark.parametrize(
    ("path", "reader", "key"),
    [
        ("/etc/containers/registries.conf", "skopeo", "containers.engine"),
        ("/etc/docker/daemon.json", "docker-ce", "containers.engine"),
        ("/etc/containerd/config.toml", "docker.io", "containers.engine"),
        ("/etc/chrony/conf.d/own.conf", "chrony", "time"),
        ("/etc/systemd/timesyncd.conf", "systemd-timesyncd", "time"),
        ("/etc/systemd/timesyncd.conf.d/own.conf", "systemd-timesyncd", "time"),
    ],
)
def test_a_file_that_no_program_of_the_image_reads_is_refused(tmp_path: Path, path: str, reader: str, key: str) -> None:
    definition = definition_of(tmp_path, f'id: host\nfiles: [{{path: {path}, content: ""}}]\n')
    (problem,) = unread_files(definition, {"systemd"})
    assert problem.startswith(f"files[0]: {path}")
    assert problem.endswith(key)
    assert not list(unread_files(definition, {"systemd", reader}))


def test_a_file_of_anything_else_is_taken(tmp_path: Path) -> None:
    definition = definition_of(tmp_path, 'id: host\nfiles: [{path: /etc/dockerfile, content: ""}]\n')
    assert not list(unread_files(definition, ()))


def health(folder: Path, unit: str, more: str = "") -> list[str]:
    definition = definition_of(folder, f"id: host\nupdater: {{health: {{checks: {{a: {{unit: {unit}}}}}}}}}\n{more}")
    return list(unknown_health_units(definition, {"web.service", "app@.service"}))


@pytest.mark.parametrize("unit", ["web.service", "app@1.service", "dev-vda.device", "srv-data.mount"])
def test_a_unit_that_can_be_active_is_taken(tmp_path: Path, unit: str) -> None:
    assert health(tmp_path, unit) == []


def test_a_unit_that_can_never_be_active_is_refused(tmp_path: Path) -> None:
    (unknown,) = health(tmp_path, "podman.socket")
    assert unknown.startswith("updater.health.checks.a: the image has no unit podman.socket")
    (masked,) = health(tmp_path, "web.service", "services: {mask: [web.service]}\n")
    assert "masked" in masked
