from __future__ import annotations

import json

import pytest

from imagebuild.content.services import UnitFile, disabled_services, read_unit_files, service_problems
from imagebuild.definition.host import Services

FILES = frozenset(("ssh.service", "ssh.socket", "redis.service", "helper.service", "getty@.service", "sshd.service"))
UNITS = read_unit_files(
    json.dumps(
        [
            {"unit_file": "ssh.service", "state": "disabled", "preset": "disabled"},
            {"unit_file": "ssh.socket", "state": "disabled", "preset": "disabled"},
            {"unit_file": "redis.service", "state": "enabled", "preset": "enabled"},
            {"unit_file": "helper.service", "state": "static", "preset": None},
            {"unit_file": "getty@.service", "state": "enabled", "preset": "enabled"},
            {"unit_file": "sshd.service", "state": "alias", "preset": None},
        ]
    )
)


def test_units_that_are_there_are_no_problem() -> None:
    said = Services(enable=("redis.service", "getty@tty2.service"), disable=("ssh.service",), mask=("ssh.socket",))
    assert service_problems(said, UNITS, FILES) == ()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            Services(enable=("shs.service",)),
            "services.enable[0]: no package of the image has a unit shs.service; near it",
        ),
        (Services(disable=("rediss.service",)), "near it are redis.service"),
        (Services(mask=("nothing.timer",)), "services.mask[0]: no package of the image has a unit nothing.timer"),
        (Services(enable=("helper.service",)), "has no [Install] section"),
        (Services(enable=("sshd.service",)), "is another name of a unit"),
    ],
)
def test_what_cannot_be_is_named_with_its_key(said: Services, message: str) -> None:
    (problem,) = service_problems(said, UNITS, FILES)
    assert message in problem


OWNERS = {"ssh.service": "openssh-server", "ssh.socket": "openssh-server", "redis.service": "redis-server"}


def test_units_that_stay_disabled_are_named_by_package() -> None:
    found = disabled_services(UNITS, OWNERS, {"openssh-server", "redis-server"}, Services())
    assert found == {"openssh-server": ("ssh.service", "ssh.socket")}


@pytest.mark.parametrize("said", [Services(disable=("ssh.service",)), Services(mask=("ssh.socket",))])
def test_a_package_that_the_definition_speaks_of_is_not_named(said: Services) -> None:
    assert disabled_services(UNITS, OWNERS, {"openssh-server"}, said) == {}


def test_a_unit_that_starts_is_enough() -> None:
    units = {**UNITS, "ssh.socket": UnitFile("ssh.socket", "enabled", "enabled")}
    assert disabled_services(units, OWNERS, {"openssh-server"}, Services()) == {}


def test_packages_of_every_image_are_not_named() -> None:
    assert disabled_services(UNITS, OWNERS, {"redis-server"}, Services()) == {}
