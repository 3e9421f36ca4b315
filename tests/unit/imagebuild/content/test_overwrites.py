from __future__ import annotations

from pathlib import Path

from imagebuild.content.overwrites import overwrite_problems
from tests.fakes.definitions import definition_of

PACKAGES = {"/usr/bin/podman": "podman", "/usr/lib/systemd/system/ssh.service": "openssh-server"}
OWN = {"/usr/lib/systemd/system/twinhull-bless.service"}


def problems(folder: Path, text: str) -> tuple[str, ...]:
    return overwrite_problems(definition_of(folder, f"id: host\n{text}"), PACKAGES, OWN)


def test_a_packages_file_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    assert problems(tmp_path, "files: [{path: /bin/podman, content: x}]") == (
        "files[0]: /usr/bin/podman is a file of the package podman; say `replace: true` to replace it",
    )


def test_it_is_when_the_definition_says_so(tmp_path: Path) -> None:
    assert problems(tmp_path, "files: [{path: /usr/bin/podman, content: x, replace: true}]") == ()


def test_a_file_of_its_own_needs_nothing(tmp_path: Path) -> None:
    assert problems(tmp_path, "files: [{path: /etc/motd, content: x}]") == ()


def test_a_replacement_of_nothing_is_an_error(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "files: [{path: /usr/bin/pdoman, content: x, replace: true}]")
    assert "there is nothing to replace" in problem


def test_units_of_packages_and_of_every_image_are_not_overwritten(tmp_path: Path) -> None:
    text = 'units: [{name: ssh.service, content: ""}, {name: twinhull-bless.service, content: ""}]'
    first, second = problems(tmp_path, text)
    assert first.startswith("units[0]: /usr/lib/systemd/system/ssh.service is a file of the package openssh-server")
    assert "ssh.service.d/10-image.conf" in first
    assert "is a file of every Twinhull image" in second
