from __future__ import annotations

from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition import config
from imagebuild.definition.hardening import Hardening
from imagebuild.definition.image import ImageDefinition
from tests.fakes.definitions import definition_of

ROOT_HASH = "0123456789abcdef" * 4


def arguments_of(hardening: Hardening, *more: str) -> list[str]:
    definition = ImageDefinition(id="host", hardening=hardening, kernel_arguments=more)
    return config.kernel_arguments(definition, ROOT_HASH).split()


def test_everything_is_hardened_by_default(tmp_path: Path) -> None:
    hardening = definition_of(tmp_path, "id: host\n").hardening
    assert hardening == Hardening(sysctl=True, mounts=True, setuid=(), apparmor=True, lockdown=True)
    assert hardening.packages == ("linux-sysctl-defaults", "apparmor")
    assert {"lockdown=integrity", "module.sig_enforce=1"} <= set(arguments_of(hardening))


def test_each_part_can_be_switched_off() -> None:
    assert Hardening(sysctl=False).packages == ("apparmor",)
    assert Hardening(apparmor=False).packages == ("linux-sysctl-defaults",)
    assert "lockdown=integrity" not in arguments_of(Hardening(lockdown=False))
    assert "twinhull.mounts=plain" in arguments_of(Hardening(mounts=False))


def test_a_setuid_program_takes_a_root_that_honours_it() -> None:
    assert "twinhull.mounts=setuid" in arguments_of(Hardening(setuid=("/usr/bin/sudo",)))
    assert "twinhull.mounts=plain" in arguments_of(Hardening(setuid=("/usr/bin/sudo",), mounts=False))
    assert not [word for word in arguments_of(Hardening()) if word.startswith("twinhull.")]


def test_the_definitions_own_arguments_come_last() -> None:
    assert arguments_of(Hardening(), "quux")[-1] == "quux"


def test_an_argument_that_would_loosen_the_mounts_is_not_the_definitions_to_give(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="the build sets it"):
        definition_of(tmp_path, "id: host\nkernel_arguments: [twinhull.mounts=plain]\n")


@pytest.mark.parametrize("path", ["sudo", "/sudo/", "/usr/bin/a b", "/usr/../bin/sudo", "/usr/bin/a:b"])
def test_what_is_no_path_of_a_program_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DocumentError, match="absolute path of a program"):
        definition_of(tmp_path, f"id: host\nhardening: {{setuid: ['{path}']}}\n")
